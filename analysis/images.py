"""Finds the image files below what a user names, without reading them."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from trainable.data.files import EXTENSIONS
from trainable.errors import UsageError, UserError


def find_images(named: Iterable[Path]) -> list[Path]:
    """Files as they are named, and the images of folders and all folders below, sorted in each; each path once.

    In folders, names that start with a dot and files that aren't images by their extension are left out. UsageError
    where a path isn't there, UserError where there is no image at all.
    """
    named = list(named)
    found: dict[Path, None] = {}
    for path in named:
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder; give images, or folders of images")
        found |= dict.fromkeys(images_below(path) if path.is_dir() else [path])
    if not found:
        places = ", ".join(str(path) for path in named)
        raise UserError(f"{places}: no images there; known are {', '.join(sorted(EXTENSIONS))}")
    return list(found)


def images_below(root: Path) -> Iterator[Path]:
    """Image files in `root` and the folders below it, those behind links too, each folder once."""
    seen = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS:
                yield Path(folder, name)
