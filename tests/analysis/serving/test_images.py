"""Images that come as bytes are decoded as files are, and refused by their header where they are too large."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.serving.images import decode
from trainable.data.decode import BadImage, read_image

PIXELS = 10**6


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "mode"), [("png", "RGBA"), ("jpeg", "CMYK"), ("gif", "P"), ("png", "I;16"), ("webp", "RGB")]
)
def test_bytes_are_decoded_exactly_as_the_file_is(kind: str, mode: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 99) if mode == "I;16" else image.convert(mode)
    data = encoded(image, kind)
    path = tmp_path / f"image.{kind}"
    path.write_bytes(data)
    decoded = decode(data, (24, 32), PIXELS)
    assert isinstance(decoded, dict)
    for size in (24, 32):
        np.testing.assert_array_equal(decoded[size], read_image(path, size))


@pytest.mark.parametrize("data", [b"text", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"%!PS-Adobe-3.0 EPSF-3.0\n", bytes(9)])
def test_what_is_no_image_has_the_reason_of_a_file(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_bytes(data)
    reason = decode(data, (32,), PIXELS)
    assert isinstance(reason, str)
    with pytest.raises(BadImage, match=f"^{re.escape(reason)}$"):
        read_image(path, 32)


def test_a_file_without_a_byte_is_called_empty() -> None:
    assert decode(b"", (32,), PIXELS) == "empty"


def test_pixels_are_counted_before_they_are_decoded() -> None:
    bomb = encoded(Image.new("1", (12_000, 12_000)), "png")
    assert len(bomb) < 50_000
    assert decode(bomb, (32,), PIXELS) == "too many pixels: 12,000 x 12,000; the limit is 1,000,000 in all"
    assert decode(encoded(Image.new("1", (20_000, 20_000)), "png"), (32,), PIXELS) == "too many pixels"
    assert isinstance(decode(encoded(Image.new("1", (1000, 1000)), "png"), (32,), PIXELS), dict)
    assert isinstance(decode(encoded(Image.new("L", (1, 1)), "png"), (32,), PIXELS), dict)
