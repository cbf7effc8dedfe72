"""From sources to pixels, and the reasons where there are none."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.decoding import collect, try_read
from analysis.images import Source, find_images


def png(width: int, height: int, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, "PNG")
    return file.getvalue()


def test_an_image_is_decoded_at_every_size(images: Path) -> None:
    pixels = try_read(Source(str(images / "test" / "0.png")), [32, 48])
    assert not isinstance(pixels, str)
    assert {size: array.shape for size, array in pixels.items()} == {32: (32, 32, 3), 48: (48, 48, 3)}


def test_a_member_of_a_zip_has_the_pixels_of_the_file(images: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(images / "test" / "0.png", "0.png")
    (source,) = find_images([str(tmp_path / "x.zip")])
    inside, outside = try_read(source, [32]), try_read(Source(str(images / "test" / "0.png")), [32])
    assert not isinstance(inside, str)
    assert not isinstance(outside, str)
    np.testing.assert_array_equal(inside[32], outside[32])


@pytest.mark.parametrize(("width", "height"), [(1, 1), (10_000, 10_000), (1, 3000)])
def test_a_tiny_or_a_large_image_is_decoded(tmp_path: Path, width: int, height: int) -> None:
    (tmp_path / "x.png").write_bytes(png(width, height, "L"))
    pixels = try_read(Source(str(tmp_path / "x.png")), [32])
    assert not isinstance(pixels, str)
    assert pixels[32].shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (png(20_000, 20_000, "1"), "too many pixels"),
        (b"some text\n", "not an image"),
        (b"", "not an image"),
        (png(32, 32)[:50], ""),
    ],
    ids=["bomb", "text", "empty", "cut"],
)
def test_what_is_no_image_has_a_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "x.png").write_bytes(content)
    result = try_read(Source(str(tmp_path / "x.png")), [32])
    assert isinstance(result, str)
    assert reason in result
    assert result


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    assert try_read(Source(str(tmp_path / "x.png")), [32]) == "not a regular file"
    assert try_read(Source(str(tmp_path / "none.png")), [32]) == "no such file or directory"
    assert try_read(Source("zero\0byte.png"), [32]) == "embedded null byte"


def test_a_batch_keeps_the_good_images_and_the_reasons_of_the_others_by_place() -> None:
    first, last = ({8: np.full((8, 8, 3), value, dtype=np.uint8)} for value in (1, 2))
    batch = collect(["a", "b", "c"], [first, "broken", last], [8])
    assert batch.images[8][:, 0, 0, 0].tolist() == [1, 2]
    assert batch.errors == {1: "broken"}
    assert collect(["a"], ["broken"], [8]).images == {}
