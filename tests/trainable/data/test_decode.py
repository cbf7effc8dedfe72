import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from trainable.data.decode import BadImage, read_image
from trainable.data.files import shorter_side

RGB = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
RAMP = np.linspace(0, 1, 32)[None].repeat(32, axis=0)
RAMP_BYTES = np.rint(RAMP * 255).astype(np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def grey_of(pixels: np.ndarray) -> np.ndarray:
    """The one channel (H, W) of an image whose three are equal."""
    assert np.all(pixels == pixels[:, :, :1])
    return pixels[:, :, 0].astype(int)


def test_an_image_of_the_right_size_is_not_changed() -> None:
    assert np.array_equal(read_image(encoded(Image.fromarray(RGB)), 32), RGB)


def test_a_path_and_its_bytes_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(RGB).save(path)
    assert np.array_equal(read_image(path, 16), read_image(path.read_bytes(), 16))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_every_usual_format_and_mode_becomes_rgb(kind: str, mode: str) -> None:
    image = Image.fromarray(np.full((40, 30, 3), 255, dtype=np.uint8)).convert(mode)
    data = encoded(image.convert("RGB") if mode == "P" and kind in ("JPEG", "PPM") else image, kind)
    pixels = read_image(data, 24)
    assert (pixels.shape, pixels.dtype) == ((24, 24, 3), np.uint8)
    assert pixels.min() >= 253


def test_the_shorter_side_is_resized_and_the_centre_is_cut_out() -> None:
    wide = np.zeros((20, 60, 3), dtype=np.uint8)
    wide[:, 20:40] = (10, 200, 30)
    assert np.array_equal(read_image(encoded(Image.fromarray(wide)), 20), wide[:, 20:40])
    assert np.array_equal(read_image(encoded(Image.fromarray(wide.transpose(1, 0, 2))), 20), wide[:, 20:40])


def test_a_large_jpeg_decoded_at_a_fraction_looks_like_the_whole() -> None:
    smooth = Image.fromarray(RGB).resize((512, 512), Image.Resampling.BICUBIC)
    data = encoded(smooth, "JPEG", quality=95)
    whole = Image.open(io.BytesIO(data)).resize((64, 64), Image.Resampling.BICUBIC)
    difference = np.abs(read_image(data, 64).astype(int) - np.asarray(whole).astype(int))
    assert difference.mean() < 3


def test_the_result_is_writable_and_contiguous() -> None:
    pixels = read_image(encoded(Image.fromarray(RGB)), 32)
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    deep = Image.fromarray(np.rint(RAMP * 65535).astype(np.uint16))
    assert np.abs(grey_of(read_image(encoded(deep, kind), 32)) - RAMP_BYTES).max() <= 1


def test_16_bit_pgm_is_scaled_not_clipped() -> None:
    data = b"P5 32 32 65535\n" + np.rint(RAMP * 65535).astype(">u2").tobytes()
    assert np.abs(grey_of(read_image(data, 32)) - RAMP_BYTES).max() <= 1


def test_32_bit_integers_beyond_16_bits_are_scaled_by_their_own_range() -> None:
    deep = Image.fromarray(np.rint(RAMP * 2_000_000 - 1_000_000).astype(np.int32))
    assert np.abs(grey_of(read_image(encoded(deep, "TIFF"), 32)) - RAMP_BYTES).max() <= 1


@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (255, 0), (4000, -1000)])
def test_floats_are_scaled_by_the_range_they_lie_in(scale: float, offset: float) -> None:
    values = (RAMP * scale + offset).astype(np.float32)
    assert np.abs(grey_of(read_image(encoded(Image.fromarray(values), "TIFF"), 32)) - RAMP_BYTES).max() <= 1


def test_floats_that_are_not_numbers_are_black() -> None:
    values = RAMP.astype(np.float32)
    values[0] = np.nan
    pixels = grey_of(read_image(encoded(Image.fromarray(values), "TIFF"), 32))
    assert np.all(pixels[0] == 0)
    assert pixels[1, -1] == 255


def test_an_even_float_image_has_an_even_grey() -> None:
    values = np.full((32, 32), -5, dtype=np.float32)
    assert np.all(grey_of(read_image(encoded(Image.fromarray(values), "TIFF"), 32)) == 0)


def test_cmyk_keeps_its_colours() -> None:
    red = Image.new("CMYK", (32, 32), (0, 255, 255, 0))
    for kind in ("JPEG", "TIFF"):
        assert np.abs(read_image(encoded(red, kind), 32).astype(int) - (255, 0, 0)).max() < 6


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_transparency_is_laid_on_white(mode: str) -> None:
    clear = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    clear.paste((0, 0, 0, 255), (0, 0, 16, 32))
    if mode in ("P", "PA"):
        image = Image.new("P", (32, 32), 1)
        image.putpalette([0, 0, 0, 9, 9, 9])
        image.paste(0, (0, 0, 16, 32))
        data = encoded(image, "PNG", transparency=1)
    else:
        data = encoded(clear.convert(mode))
    pixels = read_image(data, 32)
    assert np.all(pixels[:, :16] == 0)
    assert np.all(pixels[:, 16:] == 255)


def test_a_grey_or_rgb_png_with_a_transparent_colour_is_laid_on_white() -> None:
    assert np.all(read_image(encoded(Image.new("L", (8, 8), 7), transparency=7), 8) == 255)
    assert np.all(read_image(encoded(Image.new("RGB", (8, 8), (1, 2, 3)), transparency=(1, 2, 3)), 8) == 255)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_the_first_of_several_frames_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("white", "black")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert read_image(data, 16).min() > 250


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 10))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(Image.fromarray(RGB), "PNG", exif=exif))))
    assert np.array_equal(
        read_image(encoded(Image.fromarray(RGB), kind, exif=exif, **options), 32), np.asarray(upright)
    )


def test_a_camera_turned_by_90_degrees_is_put_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert np.array_equal(read_image(encoded(Image.fromarray(RGB), exif=exif), 32), np.rot90(RGB, k=-1))


def test_exif_with_one_broken_tag_still_turns_the_image() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    # the maker's name now claims to be the width
    broken = exif.tobytes().replace(b"\x01\x0f", b"\x01\x00")
    assert broken != exif.tobytes()
    assert np.array_equal(read_image(encoded(Image.fromarray(RGB), exif=broken), 32), np.rot90(RGB, k=-1))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_does_not_spoil_a_good_image() -> None:
    data = encoded(Image.new("RGB", (32, 32), "white"), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09broken")
    assert read_image(data, 32).min() > 250


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.1, 0.6])
def test_a_truncated_file_is_a_bad_image(kind: str, share: float) -> None:
    data = encoded(Image.fromarray(RGB), kind)
    with pytest.raises(BadImage, match=r"\w"):
        read_image(data[: int(share * len(data))], 32)


def test_a_text_with_the_name_of_an_image_is_a_bad_image(tmp_path: Path) -> None:
    (tmp_path / "a.JPEG").write_text("no image")
    with pytest.raises(BadImage, match=r"^not an image$"):
        read_image(tmp_path / "a.JPEG", 32)


def test_an_empty_or_missing_file_and_a_folder_are_bad_images(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(BadImage, match=r"^not an image$"):
        read_image(tmp_path / "empty.png", 32)
    with pytest.raises(BadImage, match="no such file"):
        read_image(tmp_path / "nowhere.png", 32)
    with pytest.raises(BadImage, match="is a directory"):
        read_image(tmp_path, 32)


def test_a_decompression_bomb_is_a_bad_image() -> None:
    data = bytearray(encoded(Image.new("L", (8, 8))))
    data[16:24] = struct.pack(">II", 60_000, 60_000)  # the header's width and height, and its checksum
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(BadImage, match="too many pixels"):
        read_image(bytes(data), 32)


def test_damaged_bytes_raise_nothing_but_bad_image() -> None:
    generator = np.random.default_rng(1)
    reasons = []
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP", "PPM"):
        whole = np.frombuffer(encoded(Image.fromarray(RGB), kind), dtype=np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            places = generator.integers(0, min(len(damaged), 200), 4)
            damaged[places] = generator.integers(0, 256, 4)
            try:
                assert read_image(damaged.tobytes(), 16).shape == (16, 16, 3)
            except BadImage as error:
                reasons.append(str(error))
    assert len(reasons) > 50
    assert not any("\n" in reason or len(reason) > 100 for reason in reasons)


def png_header(width: int, height: int) -> bytes:
    """A PNG that says to be so large and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("content", [png_header(100_000, 100_000), b"P6 100000 100000 255 "])
def test_a_header_of_ten_thousand_million_pixels_is_a_bad_image_before_memory_is_asked_for(
    content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "bomb.png").write_bytes(content)
    with pytest.raises(BadImage, match="too many pixels"):
        read_image(tmp_path / "bomb.png", 32)
    assert shorter_side(tmp_path / "bomb.png") is None


def test_a_photograph_of_a_hundred_million_pixels_is_read_without_a_warning(tmp_path: Path) -> None:
    Image.new("L", (12_000, 9_000), 200).save(tmp_path / "large.jpg")
    assert shorter_side(tmp_path / "large.jpg") == 9_000
    assert abs(grey_of(read_image(tmp_path / "large.jpg", 32)) - 200).max() <= 1


def test_a_compressed_bomb_is_decoded_no_further_than_its_header_says(tmp_path: Path) -> None:
    content = png_header(32, 32).replace(zlib.compress(b"\0" * 100), zlib.compress(b"\0" * 50_000_000))
    with pytest.raises(BadImage):
        read_image(content, 32)


def test_postscript_under_the_name_of_an_image_is_not_run(tmp_path: Path) -> None:
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n(ran) print\n%%EOF\n"
    (tmp_path / "program.png").write_bytes(program)
    with Image.open(io.BytesIO(program)) as image:
        assert image.format == "EPS"  # PIL by itself would give it to Ghostscript
    with pytest.raises(BadImage, match="not an image"):
        read_image(tmp_path / "program.png", 32)
