"""What a data set holds is told without fetching it."""

import shutil
import zipfile
from pathlib import Path

import boto3
import pytest
from PIL import Image

from trainable.data.dataset import open_dataset
from trainable.data.layouts import read_layout
from trainable.data.origin import Origin, look_at
from trainable.data.preview import Preview, preview
from trainable.errors import UserError


def told(data: str | Path, caches: Path, image_size: int | None = None) -> Preview:
    origin = look_at(data)
    assert isinstance(origin, Origin)
    return preview(origin, image_size, caches)


def counts(found: Preview) -> tuple[object, ...]:
    assert found.layout is not None
    return found.layout.classes, found.layout.train, found.layout.val, found.layout.test, found.image_size


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The layout of Tiny-ImageNet, with images of 64 px."""
    root = tmp_path / "tiny"
    for wnid in ("n1", "n2"):
        (root / "train" / wnid / "images").mkdir(parents=True)
        for number in range(20):
            Image.new("RGB", (64, 64)).save(root / "train" / wnid / "images" / f"{number}.JPEG")
    (root / "val" / "images").mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(root / "val" / "images" / "0.JPEG")
    (root / "val" / "val_annotations.txt").write_text("0.JPEG\tn2\t0\t0\t9\t9\n")
    (root / "wnids.txt").write_text("n1\nn2\n")
    return root


@pytest.mark.parametrize("layout", ["colours", "tiny"])
def test_a_folder_and_a_zip_are_told_by_their_listing(layout, colour_folder, tiny, tmp_path, s3, bucket):
    root = tiny if layout == "tiny" else colour_folder
    real = read_layout(root)
    expected = real.classes, real.train, real.val, real.test, 64 if layout == "tiny" else 32
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", root.parent, root.name))
    folder_address, zip_address = s3.upload(root, bucket, "set"), s3.upload(archive, bucket, "set.zip")
    before = len(s3.requests)
    assert counts(told(folder_address, tmp_path / "caches")) == expected
    sent = [request for request in s3.requests[before:] if request.startswith(f"GET /{bucket}/set/")]
    assert len(sent) <= 32 + 2, "a sample of images for their size, and the lists"
    assert counts(told(zip_address, tmp_path / "caches")) == expected
    assert counts(told(archive, tmp_path / "caches")) == expected
    assert counts(told(archive, tmp_path / "caches", image_size=16)) == (*expected[:-1], 16)
    assert not (tmp_path / "caches").exists()


def test_a_tar_is_told_when_it_is_here(colour_folder, tmp_path, s3, bucket):
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), "tar", colour_folder))
    address, caches = s3.upload(archive, bucket, "colours.tar"), tmp_path / "caches"
    assert told(address, caches) == (None, None)
    assert told(address, caches, image_size=16) == (None, 16)
    assert s3.gets(f"/{bucket}/colours.tar") == 0
    open_dataset(address, cache_dir=caches, progress=False)
    real = read_layout(colour_folder)
    assert counts(told(address, caches)) == (real.classes, real.train, real.val, real.test, 32)
    shutil.rmtree(next(caches.glob("colours-files-????????????????")))
    assert told(address, caches) == (None, 32), "its size is remembered"


def test_what_is_wrong_with_a_layout_is_said_before_anything_is_fetched(tiny, tmp_path, s3, bucket):
    (tiny / "wnids.txt").write_text("n1\nn2\nn3\n")
    address = s3.upload(tiny, bucket, "tiny")
    with pytest.raises(UserError, match=rf"^{address}/wnids\.txt: n3 has no folder in train; "):
        told(address, tmp_path / "caches")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (["train/red/a.png", "../evil.png"], r"member '\.\./evil\.png' is an absolute path, a link or leads outside"),
        (["train/red/a.png", "train/red/a.png/b.png"], r"cannot be unpacked"),
        (["train/red/" + "a" * 300 + ".png"], r"cannot be unpacked"),
        (["notes.txt"], r"no images in folders of classes"),
    ],
)
def test_a_zip_that_is_no_data_set_is_one_line(members, message, tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in members:
            archive.writestr(name, b"x")
    with pytest.raises(UserError, match=rf"set\.zip/?: {message}") as caught:
        told(tmp_path / "set.zip", tmp_path / "caches")
    assert "\n" not in str(caught.value)


def test_a_zip_on_a_storage_that_is_none_is_one_line(tmp_path, s3, bucket):
    boto3.client("s3").put_object(Bucket=bucket, Key="set.zip", Body=b"no zip" * 1000)
    with pytest.raises(
        UserError, match=rf"^--data s3://{bucket}/set\.zip: cannot be unpacked \(File is not a zip file\)"
    ):
        told(f"s3://{bucket}/set.zip", tmp_path / "caches")
