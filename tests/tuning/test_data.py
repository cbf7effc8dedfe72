"""A plan knows its images before they are fetched."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import s3fs
from moto.server import ThreadedMotoServer

from trainable.data.dataset import open_dataset
from trainable.data.default import USING_DIGITS
from trainable.data.digits import write_digits
from trainable.errors import UserError
from tuning.data import apart_text, find_source

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def storage(colour_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a bucket of a real S3 server here, with the coloured images as a folder, a zip and a tar."""
    bucket, server = f"plans-{os.getpid()}", ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.get_host_and_port()[1]}")
        for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("DEFAULT_REGION", "us-east-1")):
            patch.setenv(f"AWS_{name}", value)
        s3fs.S3FileSystem.clear_instance_cache()  # they remember another server
        client = boto3.client("s3")
        client.create_bucket(Bucket=bucket)
        for file in colour_folder.rglob("*.png"):
            client.upload_file(str(file), bucket, f"colours/{file.relative_to(colour_folder).as_posix()}")
        for kind, name in (("zip", "colours.zip"), ("gztar", "colours.tar.gz")):
            archive = shutil.make_archive(str(tmp_path_factory.mktemp("archives") / "colours"), kind, colour_folder)
            client.upload_file(archive, bucket, name)
        yield f"s3://{bucket}"
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def test_the_digits_need_not_be_written_yet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = find_source(None, None)
    assert (source.root, source.is_digits, source.note) == (tmp_path / "data/digits", True, USING_DIGITS)
    assert (source.image_size, source.train_images, source.select_images, source.classes) == (32, 1098, 199, 10)
    assert find_source(None, None, select_share=0.05)[2:6] == (1232, True, USING_DIGITS, 65)
    assert not (tmp_path / "data").exists()
    write_digits(tmp_path / "data/digits")
    assert find_source(None, None) == source


def test_a_folder_is_read(colour_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(colour_folder.parent)
    source = find_source(colour_folder.name, None)
    note = f"120 training images of 3 classes in {colour_folder}"
    assert source == (colour_folder, 32, 96, False, note, 24, 3, 30)
    assert find_source(colour_folder, None, select_share=0.05) == (colour_folder, 32, 114, False, note, 6, 3, 30)


@pytest.mark.parametrize("share", [0.05, 0.3, "auto"])
@pytest.mark.parametrize("part", ["", "train"])
def test_it_counts_what_the_splits_will_hold(share, part, colour_folder, tmp_path):
    source = find_source(colour_folder / part, None, select_share=share)
    splits = open_dataset(colour_folder / part, None, 0, tmp_path, progress=False, select_share=share).splits
    counted = source.train_images, source.select_images, source.holdout_images
    assert counted == (len(splits.train), len(splits.select), len(splits.holdout))


@pytest.mark.parametrize(
    ("select_images", "points"),
    [(14, "23 points"), (92, "9 points"), (200, "6 points"), (5000, "1 point"), (10**6, "1 point"), (0, "87 points")],
)
def test_few_images_tell_only_trials_apart_that_differ_by_much(select_images, points):
    assert apart_text(select_images) == f"two trials need {points} between them"


def test_an_archive_and_addresses_are_told_without_fetching_them(storage, colour_folder, tmp_path):
    caches = tmp_path / "caches"
    archive = Path(shutil.make_archive(str(tmp_path / "colours"), "zip", colour_folder))
    for data, more in ((archive, ", unpacked"), (f"{storage}/colours", " in 154 files, fetched")):
        source = find_source(data, None, caches)
        assert source[:4] == (data, 32, 96, False)
        assert source[5:] == (24, 3, 30)
        assert source.note.startswith(f"120 training images of 3 classes in {data}, ")
        assert source.note.endswith(f"{more} once on each machine")
    assert find_source(f"{storage}/colours.zip", 64, caches)[:4] == (f"{storage}/colours.zip", 64, 96, False)
    assert not caches.exists()


def test_what_a_tar_holds_is_not_guessed(storage, tmp_path):
    source = find_source(f"{storage}/colours.tar.gz", None, tmp_path)
    assert (source.image_size, source.train_images, source[5:]) == (None, None, (None, None, None))
    assert source.note.startswith(f"{storage}/colours.tar.gz, ")
    assert source.note.endswith("kB; what it holds is known when it is fetched, once on each machine")


def test_a_validation_part_is_cut_from_what_has_none(colour_folder):
    assert find_source(colour_folder / "train", None).train_images == 120 * 0.7


def test_an_address_of_nothing_is_one_line(storage):
    with pytest.raises(UserError, match=rf"^--data {storage}/nothing: is not there"):
        find_source(f"{storage}/nothing", None)


@pytest.mark.parametrize(
    ("name", "data", "budget"),
    [
        ("colours.zip", "120 training images of 3 classes in", r" images\), very roughly "),
        ("colours.tar.gz", "colours.tar.gz, ", r"full trainings\); the time is known after the first epochs"),
    ],
)
def test_a_dry_run_plans_with_an_address(name, data, budget, storage, tmp_path):
    command = [sys.executable, "-m", "tuning.run", "--space", "swin", "--data", f"{storage}/{name}", "--dry-run"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(tmp_path / "caches")}
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=200)
    assert (run.returncode, run.stderr) == (0, "")
    assert data in run.stdout
    assert re.search(budget, run.stdout)
    assert list(tmp_path.iterdir()) == []
