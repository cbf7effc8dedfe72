"""Writes a cache folder; `cache.py` is the public face and says what the files are."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainable.data._progress import reporter
from trainable.data._room import MANIFEST, check_free_space
from trainable.data.decode import BadImage, read_image
from trainable.files import tree_to_disk

IMAGES, INDEX = "images.npy", "index.json"
BATCH = 256
"""Images that are decoded ahead of the writer; bounds the memory."""
CHUNK = 16
"""Images that a thread decodes at a time."""
SMALL_FILE_BYTES = 8192
"""Below this mean, Python's share of decoding is so large that threads only wait for each other."""


class File(NamedTuple):
    """An image file of the data set, as the key of the cache sees it."""

    path: str
    """Relative to the root."""
    size_bytes: int
    mtime_ns: int
    label: int
    published: int


def build(
    folder: Path, root: Path, files: Sequence[File], image_size: int, about: dict[str, Any], progress: bool
) -> None:
    """Decodes `files` into `folder`, which appears complete or not at all; the caller holds the lock.

    `about` is what the manifest says besides. Raises UserError where the disk has too little room, OSError where the
    folder can't be written.
    """
    check_free_space(folder.parent, bytes_of(files, image_size), "decoded")
    scratch = folder.with_name(folder.name + ".building")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        kept, bad = _write_images(scratch / IMAGES, root, files, image_size, progress)
        index = {"names": [f.path for f in kept], "labels": [f.label for f in kept]}
        (scratch / INDEX).write_text(json.dumps(index | {"published": [f.published for f in kept]}))
        sizes = {name: (scratch / name).stat().st_size for name in (IMAGES, INDEX)}
        counts = {"image_size": image_size, "count": len(kept), "bad": bad, "sizes_bytes": sizes}
        (scratch / MANIFEST).write_text(json.dumps(about | counts, indent=1))
        tree_to_disk(scratch)
        if folder.exists():
            shutil.rmtree(folder)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def bytes_of(files: Sequence[File], image_size: int) -> int:
    """What the decoded files will take, with their names."""
    return len(files) * (image_size**2 * 3 + 200)


def _write_images(
    target: Path, root: Path, files: Sequence[File], size: int, progress: bool
) -> tuple[list[File], list[tuple[str, str]]]:
    """Writes the decodable images one after the other; gives their files, and (name, reason) of the others."""
    kept: list[File] = []
    bad: list[tuple[str, str]] = []
    text = f"decoding {root.name} to {size} px"
    # plain writes, not a writable memory map: on a full disk that is an OSError and no SIGBUS
    with (
        ThreadPoolExecutor(_threads(files)) as pool,
        target.open("wb") as out,
        reporter(text, len(files), progress) as done,
    ):
        _write_header(out, len(files), size)
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            for file, image in zip(batch, _decode(pool, root, batch, size), strict=True):
                if isinstance(image, str):
                    bad.append((file.path, image))
                else:
                    kept.append(file)
                    out.write(image.data)
            done(len(batch))
        out.seek(0)
        _write_header(out, len(kept), size)  # numpy pads the header so that another first dimension fits
    return kept, bad


def _write_header(out: Any, rows: int, size: int) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (rows, size, size, 3)}
    np.lib.format.write_array_header_1_0(out, header)


def _threads(files: Sequence[File]) -> int:
    mean_bytes = sum(file.size_bytes for file in files) / len(files)
    return 1 if mean_bytes < SMALL_FILE_BYTES else os.cpu_count() or 1


def _decode(
    pool: ThreadPoolExecutor, root: Path, files: Sequence[File], size: int
) -> Iterator[NDArray[np.uint8] | str]:
    """The images of `files`, in their order; for a bad one the reason."""
    chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    for images in pool.map(lambda chunk: [_try_read(root / file.path, size) for file in chunk], chunks):
        yield from images


def _try_read(path: Path, size: int) -> NDArray[np.uint8] | str:
    try:
        return read_image(path, size)
    except BadImage as error:
        return str(error)
