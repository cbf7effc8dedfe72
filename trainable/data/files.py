"""Lists and looks at the files of a data set for `layouts.py`; paths are posix, relative to its root."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from PIL import Image

from trainable.errors import UserError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})

INTERPRETED = ("EPS",)
"""Formats that are programs, which PIL gives to Ghostscript to run; a file's name doesn't tell its format."""


def class_ids(root: Path, folder: str) -> list[str]:
    """Sorted names of the folders in `folder`. Raises UserError where there is none."""
    names = sorted(entry.name for entry in _entries(root / folder) if entry.is_dir())
    if not names:
        raise UserError(f"{root / folder}: no images in folders of classes; expected <class>/*.jpg in it")
    return names


def images(root: Path, folder: str) -> list[str]:
    """Paths of the image files directly in `folder`; dangling links too, so that they are reported as bad."""
    names = (
        entry.name
        for entry in _entries(root / folder)
        if os.path.splitext(entry.name)[1].lower() in EXTENSIONS and not entry.is_dir()
    )
    return [f"{folder}/{name}" for name in names]


def images_below(root: Path, folder: str) -> Iterator[str]:
    """Paths of the image files in `folder` and in all folders below it."""
    yield from images(root, folder)
    for entry in _entries(root / folder):
        if entry.is_dir():
            yield from images_below(root, f"{folder}/{entry.name}")


def open_image(source: Path | IO[bytes]) -> Image.Image:
    """PIL's image with its header read; whatever PIL raises where it isn't one, or has more than 179 million pixels."""
    Image.init()  # two threads that meet a format for the first time must not race for the list of plug-ins
    # from half of that limit on PIL warns; a photograph may be as large
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    return Image.open(source, formats=[name for name in Image.ID if name not in INTERPRETED])


def shorter_side(path: Path) -> int | None:
    """In pixels, from the header; None where it can't be read."""
    try:
        with open_image(path) as image:
            return min(image.size)
    # PIL raises nearly everything on broken bytes; the cache decodes every file and reports the bad ones with reasons
    except Exception:
        return None


def lines(path: Path, keep_blank: bool = False) -> list[str]:
    """Stripped lines that aren't blank, or with `keep_blank` all lines as they are. Raises UserError."""
    try:
        found = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error}); unzip the archive again") from error
    return found if keep_blank else [line.strip() for line in found if line.strip()]


def others(names: list[str]) -> str:
    """How many there are, for a message that names only the first."""
    return f" ({len(names)} in all)" if len(names) > 1 else ""


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith((".", "__MACOSX"))]
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{folder}: cannot be listed ({reason}); check that it is there and readable") from error
