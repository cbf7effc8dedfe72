import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from trainable.data import _cache_build, _progress, _room
from trainable.data.cache import CachedImages, default_cache_dir, open_cache
from trainable.data.dataset import open_dataset
from trainable.data.decode import read_image
from trainable.data.layouts import ClassName
from trainable.data.splits import TEST, TRAIN, VAL
from trainable.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[3]
SAMPLE = REPOSITORY.parent / "shared" / "data" / "tiny-imagenet-20.zip"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of five train images, one val image each, two test images; 16x16 noise."""
    root = tmp_path / "pets"
    names = [
        f"{part}/{name}/{i}.png" for name in ("cat", "dog") for part, n in (("train", 5), ("val", 1)) for i in range(n)
    ]
    for number, name in enumerate([*names, "test/0.png", "test/1.png"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / name)
    return root


@pytest.fixture
def caches(tmp_path: Path) -> Path:
    return tmp_path / "caches"


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Called in a test, makes every later decoding fail."""

    def refuse(*_: object) -> None:
        raise AssertionError("decoded again")

    return lambda: monkeypatch.setattr(_cache_build, "read_image", refuse)


def contents(cached: CachedImages) -> tuple[object, ...]:
    arrays = cached.images.tolist(), cached.labels.tolist(), cached.published.tolist()
    return *arrays, cached.names, cached.classes, cached.fingerprint, cached.bad


def test_the_cache_holds_what_the_files_hold(root: Path, caches: Path) -> None:
    cached = open_cache(root, 16, caches)
    assert cached.images.shape == (14, 16, 16, 3)
    assert isinstance(cached.images, np.memmap)
    assert not cached.images.flags.writeable
    assert (cached.images.dtype, cached.labels.dtype, cached.published.dtype) == (np.uint8, np.int64, np.int8)
    assert cached.labels.tolist() == [0] * 5 + [1] * 5 + [0, 1] + [-1, -1]
    assert cached.published.tolist() == [TRAIN] * 10 + [VAL] * 2 + [TEST] * 2
    assert cached.names[9:13] == ("train/dog/4.png", "val/cat/0.png", "val/dog/0.png", "test/0.png")
    assert cached.classes == (ClassName("cat", "cat"), ClassName("dog", "dog"))
    assert cached.bad == ()
    for image, name in zip(cached.images, cached.names, strict=True):
        assert np.array_equal(image, read_image(root / name, 16))


def test_the_folder_is_named_after_the_data_the_size_and_the_key(root: Path, caches: Path) -> None:
    path = open_cache(root, 16, caches).path
    assert path.parent == caches
    assert path.name.startswith("pets-16px-")
    assert len(path.name) == len("pets-16px-") + 16
    assert sorted(p.name for p in path.iterdir()) == ["images.npy", "index.json", "manifest.json"]
    assert not list(caches.glob("*.building"))


def test_a_second_opening_decodes_nothing(root: Path, caches: Path, no_decoding: Callable[[], None]) -> None:
    first = open_cache(root, 16, caches)
    no_decoding()
    assert contents(open_cache(root, 16, caches)) == contents(first)


def test_pickling_sends_the_path_and_not_the_images(root: Path, caches: Path) -> None:
    cached = open_cache(root, 16, caches)
    assert len(pickle.dumps(cached)) < 500
    assert contents(pickle.loads(pickle.dumps(cached))) == contents(cached)


def test_many_batches_keep_their_order(root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = contents(open_cache(root, 16, caches))
    monkeypatch.setattr(_cache_build, "BATCH", 5)
    monkeypatch.setattr(_cache_build, "CHUNK", 2)
    monkeypatch.setattr(_cache_build, "SMALL_FILE_BYTES", 0)  # as with large files: several threads
    assert contents(open_cache(root, 16, caches / "other")) == expected


def test_a_changed_file_a_new_file_and_another_size_get_another_cache(root: Path, caches: Path) -> None:
    paths = [open_cache(root, 16, caches).path, open_cache(root, 8, caches).path]
    os.utime(root / "train/cat/0.png", ns=(1, 1))
    paths.append(open_cache(root, 16, caches).path)
    shutil.copy(root / "train/cat/0.png", root / "train/cat/9.png")
    paths.append(open_cache(root, 16, caches).path)
    assert len(set(paths)) == 4


def test_the_fingerprint_names_the_data_and_not_its_place_or_time(root: Path, caches: Path, tmp_path: Path) -> None:
    first = open_cache(root, 16, caches)
    moved = tmp_path / "elsewhere" / "animals"
    shutil.copytree(root, moved, copy_function=shutil.copyfile)
    assert open_cache(moved, 16, caches).fingerprint == first.fingerprint
    assert open_cache(root, 8, caches).fingerprint != first.fingerprint
    (moved / "train/cat/0.png").unlink()
    assert open_cache(moved, 16, caches).fingerprint != first.fingerprint


def no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def manifest_is_no_json(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


def manifest_of_another_kind(folder: Path) -> None:
    (folder / "manifest.json").write_text("[]")


def other_version(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"version": -1}))


def truncated_images(folder: Path) -> None:
    os.truncate(folder / "images.npy", 1000)


def no_images(folder: Path) -> None:
    (folder / "images.npy").unlink()


def no_numpy_header(folder: Path) -> None:
    with (folder / "images.npy").open("r+b") as file:
        file.write(b"garbage")


def index_is_no_json(folder: Path) -> None:
    (folder / "index.json").write_text("x" * (folder / "index.json").stat().st_size)


def other_row_count(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"count": 3}))


@pytest.mark.parametrize(
    ("breaker", "reason"),
    [
        (no_manifest, "manifest.json is missing"),
        (manifest_is_no_json, "unreadable: JSONDecodeError"),
        (manifest_of_another_kind, "unreadable: TypeError"),
        (other_version, "version -1, not"),
        (truncated_images, "images.npy has not the"),
        (no_images, "images.npy is missing"),
        (no_numpy_header, "unreadable: ValueError"),
        (index_is_no_json, "unreadable: JSONDecodeError"),
        (other_row_count, "do not hold 3 images"),
    ],
)
def test_a_broken_cache_is_built_again_with_one_warning(
    root: Path, caches: Path, caplog: pytest.LogCaptureFixture, breaker: Callable[[Path], None], reason: str
) -> None:
    first = open_cache(root, 16, caches)
    expected = contents(first)
    breaker(first.path)
    assert contents(open_cache(root, 16, caches)) == expected
    assert len(caplog.messages) == 1
    assert reason in caplog.messages[0]
    assert str(first.path) in caplog.messages[0]


def test_what_an_interrupted_build_has_left_is_removed(
    root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(_cache_build, "read_image", interrupt)
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            open_cache(root, 16, caches)
    assert [p for p in caches.iterdir() if p.is_dir()] == []
    path = open_cache(root, 16, caches).path
    shutil.rmtree(path)
    (caches / f"{path.name}.building").mkdir()  # as after a kill
    open_cache(root, 16, caches)
    assert [p for p in caches.iterdir() if p.is_dir()] == [path]
    assert caplog.messages == []


COUNTING = """
import sys, time
from pathlib import Path
from trainable.data import _cache_build
from trainable.data.cache import open_cache
count, read = 0, _cache_build.read_image
def slowly(path, size):
    global count
    count += 1
    time.sleep(0.02)
    return read(path, size)
_cache_build.read_image = slowly
cached = open_cache(Path(sys.argv[1]), 16, Path(sys.argv[2]))
print(count, len(cached.names), int(cached.images.sum()))
"""


def test_two_processes_at_once_decode_once(root: Path, caches: Path) -> None:
    command = [sys.executable, "-c", COUNTING, str(root), str(caches)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0].split() for process in both]
    assert sorted(int(output[0]) for output in outputs) == [0, 14]
    assert outputs[0][1:] == outputs[1][1:]


def test_a_process_that_waits_for_another_says_so(root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_cache(root, 16, caches).path
    shutil.rmtree(folder)
    monkeypatch.setattr(_room, "QUIET_S", 0.01)
    said = io.StringIO()  # capsys loses what another thread writes while it reads
    monkeypatch.setattr(sys, "stderr", said)
    with FileLock(f"{folder}.lock"):
        thread = threading.Thread(target=open_cache, args=(root, 16, caches))
        thread.start()
        deadline = time.monotonic() + 30
        while "waiting for another process" not in said.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not folder.exists()
    thread.join(timeout=30)
    assert "waiting for another process" in said.getvalue()
    assert folder.exists()


def spoil(root: Path) -> None:
    (root / "train/cat/0.png").write_text("no image")
    (root / "train/dog/3.png").write_bytes((root / "train/dog/3.png").read_bytes()[:300])
    (root / "test/0.png").write_bytes(b"")
    (root / "val/cat/0.png").unlink()
    (root / "val/cat/0.png").symlink_to("nowhere.png")


def test_bad_images_are_counted_and_named_in_one_line(
    root: Path, caches: Path, no_decoding: Callable[[], None]
) -> None:
    spoil(root)
    message = (
        r"pets: 4 of 14 images cannot be decoded: train/cat/0\.png \(not an image\), train/dog/3\.png \(.+\), "
        r"val/cat/0\.png \(no such file.*\), \.\.\.; .*--skip-bad-images$"
    )
    with pytest.raises(UserError, match=message):
        open_cache(root, 16, caches)
    no_decoding()
    with pytest.raises(UserError, match=message):
        open_cache(root, 16, caches)


def test_bad_images_can_be_skipped_and_have_no_row(root: Path, caches: Path, no_decoding: Callable[[], None]) -> None:
    spoil(root)
    cached = open_cache(root, 16, caches, skip_bad_images=True)
    assert [name for name, _ in cached.bad] == ["train/cat/0.png", "train/dog/3.png", "val/cat/0.png", "test/0.png"]
    assert len(cached.images) == len(cached.labels) == len(cached.published) == len(cached.names) == 10
    assert not {name for name, _ in cached.bad} & set(cached.names)
    for image, name in zip(cached.images, cached.names, strict=True):
        assert np.array_equal(image, read_image(root / name, 16))
    no_decoding()
    assert contents(open_cache(root, 16, caches, skip_bad_images=True)) == contents(cached)


def test_a_class_that_loses_all_its_images_is_refused_when_splitting(root: Path, caches: Path) -> None:
    for path in (root / "train/cat").iterdir():
        path.write_text("no image")
    with pytest.raises(UserError, match="class 'cat' has 0 readable training images but needs 3"):
        open_dataset(root, 16, cache_dir=caches, skip_bad_images=True)


def test_a_folder_of_nothing_but_bad_images_is_refused(root: Path, caches: Path) -> None:
    for path in root.rglob("*.png"):
        path.write_text("no image")
    with pytest.raises(UserError, match="14 of 14 images cannot be decoded"):
        open_cache(root, 16, caches)
    with pytest.raises(UserError, match="class 'cat' has 0 readable"):
        open_dataset(root, 16, cache_dir=caches, skip_bad_images=True)


def test_too_little_room_is_said_before_anything_is_decoded(
    root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch, no_decoding: Callable[[], None]
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(_cache_build.shutil, "disk_usage", lambda _: usage(1000))
    no_decoding()
    with pytest.raises(UserError, match=r"caches: the decoded images need 0\.0 MB but 0\.0 MB are free.*--cache-dir"):
        open_cache(root, 16, caches)


def test_a_cache_folder_that_cannot_be_written_is_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/caches: .*cannot be kept here \(Not a directory\).*--cache-dir"):
        open_cache(root, 16, tmp_path / "file" / "caches")


def test_the_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "tune-to-ensemble"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache_dir() == tmp_path / "home" / ".cache" / "tune-to-ensemble"


def test_long_work_says_one_line_at_its_start_and_one_at_its_end(
    root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    open_cache(root, 16, caches)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(_progress, "QUIET_S", -1)
    open_cache(root, 8, caches)
    start, end = capsys.readouterr().err.splitlines()
    assert start == "decoding pets to 8 px: 14 files ..."
    assert end.startswith("decoding pets to 8 px: done in")


def test_a_bar_is_shown_on_a_terminal(
    root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    open_cache(root, 16, caches)
    assert "14/14" in capsys.readouterr().err
    open_cache(root, 8, caches, progress=False)
    assert capsys.readouterr().err == ""


def test_a_dataset_takes_the_natural_size_and_knows_its_classes(root: Path, caches: Path) -> None:
    dataset = open_dataset(root, cache_dir=caches)
    assert (dataset.image_size, dataset.num_classes) == (32, 2)
    assert dataset.classes == (ClassName("cat", "cat"), ClassName("dog", "dog"))
    assert [len(split) for split in dataset.splits] == [6, 4, 2, 2]
    assert open_dataset(root, 8, cache_dir=caches).image_size == 8


def unzip_three_classes(archive: zipfile.ZipFile, to: Path) -> Path:
    """A part of the real sample: unpacking all of its 11,500 files is slow."""
    root = "tiny-imagenet-20"
    wnids = archive.read(f"{root}/wnids.txt").decode().split()[:3]
    lines = archive.read(f"{root}/val/val_annotations.txt").decode().splitlines(keepends=True)
    lines = [line for line in lines if line.split("\t")[1] in wnids]
    val = {f"{root}/val/images/{line.split()[0]}" for line in lines}
    train = tuple(f"{root}/train/{wnid}/" for wnid in wnids)
    wanted = [name for name in archive.namelist() if name in val or name.startswith(train)]
    archive.extractall(to, [*wanted, f"{root}/words.txt"])
    (to / root / "wnids.txt").write_text("\n".join(wnids))
    (to / root / "val/val_annotations.txt").write_text("".join(lines))
    return to / root


@pytest.mark.skipif(not SAMPLE.exists(), reason="the 20-class part of Tiny-ImageNet is not beside the checkout")
def test_real_tiny_imagenet_is_read_decoded_and_split(tmp_path: Path, caches: Path) -> None:
    with zipfile.ZipFile(SAMPLE) as archive:
        dataset = open_dataset(unzip_three_classes(archive, tmp_path), cache_dir=caches)
    assert dataset.classes[0] == ClassName("n01641577", "bullfrog, Rana catesbeiana")
    assert dataset.cache.images.shape == (1650, 64, 64, 3)
    assert [len(split) for split in dataset.splits] == [1425, 75, 150, 0]
    assert dataset.cache.bad == ()
