"""Decodes images that came as bytes, exactly as `analysis.predict` decodes files, and refuses the too large."""

import io

from analysis.decoding import BySize
from trainable.data.decode import BadImage, read_image
from trainable.data.files import open_image


def decode(data: bytes, sizes: tuple[int, ...], max_pixels: int) -> BySize | str:
    """uint8 RGB (S, S, 3) for each size S, or the short reason why there is none.

    The pixels are counted in the header, before anything of that size is put into memory.
    """
    if not data:
        return "empty"
    try:
        width, height = _extent(data)
        if width * height > max_pixels:
            return f"too many pixels: {width:,} x {height:,}; the limit is {max_pixels:,} in all"
        return {size: read_image(data, size) for size in sizes}
    except BadImage as error:
        return str(error)


def _extent(data: bytes) -> tuple[int, int]:
    """Width and height in pixels; BadImage where the header can't be read, with the words of `read_image`."""
    try:
        with open_image(io.BytesIO(data)) as image:
            return image.size
    except Exception:  # PIL's plug-ins raise nearly everything on broken bytes; read_image knows a reason for each
        read_image(data, 1)
        raise
