"""Turns an image file of any usual kind into a square RGB array of bytes."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from trainable.data.files import open_image

WHITE = (255, 255, 255, 255)
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What puts an image of this EXIF orientation upright."""


class BadImage(Exception):  # noqa: N818
    """The file can't be decoded; the message is a short reason."""


def read_image(source: Path | bytes, size: int) -> NDArray[np.uint8]:
    """Decodes a file, or the bytes of one, to uint8 RGB (size, size, 3).

    EXIF orientation is applied; grey, palette, CMYK, 16-bit, float and transparent images (on white) are converted, and
    of several frames the first is taken. The shorter side is resized to `size`, then the centre is cut out. An image
    that has the size already is not resampled. Raises BadImage.
    """
    rgb = _to_rgb(_load(source, size))
    return np.array(ImageOps.fit(rgb, (size, size), Image.Resampling.BICUBIC))


def _load(source: Path | bytes, size: int) -> Image.Image:
    try:
        with open_image(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            # JPEGs are decoded at 1/2, 1/4 or 1/8 where twice the size is left for the resampling
            image.draft(None, (2 * size, 2 * size))
            image.load()
            return _upright(image)
    # on broken bytes PIL's plug-ins raise nearly everything: struct.error, IndexError, SyntaxError, zlib.error...
    except Exception as error:
        raise BadImage(_reason(error)) from error


def _upright(image: Image.Image) -> Image.Image:
    # not ImageOps.exif_transpose: it writes the EXIF again, and fails where another tag in it is broken
    turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image.copy() if turn is None else image.transpose(turn)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split())[:100] or type(error).__name__


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_bytes(np.asarray(image), image.mode)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, WHITE), rgba).convert("RGB")
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise BadImage(f"colour mode {image.mode} is not supported") from error


def _to_bytes(values: NDArray[np.generic], mode: str) -> NDArray[np.uint8]:
    """Scales deep grey values (H, W) to 0..255.

    The full scale is 65535 for integers and 1 or 255 for floats; where the values lie outside of it, their own range.
    """
    grey = values.astype(np.float64)
    finite = np.isfinite(grey)
    low, high = (grey[finite].min(), grey[finite].max()) if finite.any() else (0.0, 0.0)
    full = 65535.0 if mode != "F" else 1.0 if high <= 1 else 255.0
    if low >= 0 and high <= full:
        low, high = 0.0, full
    scaled = (np.where(finite, grey, low) - low) / max(high - low, np.finfo(np.float64).tiny)
    return np.rint(255 * scaled).astype(np.uint8)
