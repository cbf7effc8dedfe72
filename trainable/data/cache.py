"""Decodes a data set once per machine into a memory-mapped array of bytes that all trials share.

A cache is a folder `<cache_dir>/<root>-<size>px-<key>`; the key covers the file list (path, size, mtime), the labels,
the class names, the image size and the cache version, so that a changed file gives another cache. For files that were
fetched it covers their version on the storage instead, so that the files needn't be here to find it:

    images.npy       uint8 (N, size, size, 3), without the files that can't be decoded
    index.json       names, labels and published part of the N rows: train, then val, then test
    manifest.json    written last: what the cache is made of, the sizes of the other two, and the bad files
"""

import hashlib
import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainable.config import USUAL_CACHE_BYTES
from trainable.data._cache_build import IMAGES, INDEX, File, build, bytes_of
from trainable.data._room import MANIFEST, Hold, hold, locked, reserve
from trainable.data.layouts import ClassName, Layout, read_layout
from trainable.data.splits import TEST, TRAIN, VAL
from trainable.errors import UserError

CACHE_VERSION = 1
"""Raise it when the same files would be decoded to other bytes, or the files of a cache change."""
BAD_SHOWN = 3

logger = logging.getLogger(__name__)


class _BrokenCacheError(Exception):
    """The folder is no complete cache; the message says why."""


@dataclass(frozen=True, eq=False)
class CachedImages:
    """N decoded images with what belongs to them. Pickles as its path, so that workers map the same pages."""

    path: Path
    """The folder of the cache."""
    images: np.memmap
    """uint8 (N, size, size, 3), read-only."""
    labels: NDArray[np.int64]
    """(N,), -1 where unlabelled."""
    published: NDArray[np.int8]
    """(N,): TRAIN, VAL or TEST."""
    names: tuple[str, ...]
    """File of each row, relative to the root of the data set."""
    classes: tuple[ClassName, ...]
    fingerprint: str
    """Identifies the data whatever its folder and file times: paths, file sizes, labels, image size."""
    bad: tuple[tuple[str, str], ...]
    """(name, reason) of the files that could not be decoded; they have no row."""
    hold: Hold = field(repr=False)
    """Keeps the folder from being evicted."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _load, (self.path,)


def default_cache_dir() -> Path:
    """`$XDG_CACHE_HOME/tune-to-ensemble`, or the same in `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tune-to-ensemble"


def open_cache(
    root: Path,
    image_size: int,
    cache_dir: Path | None = None,
    skip_bad_images: bool = False,
    progress: bool = True,
) -> CachedImages:
    """Opens the cache of the data set in `root` at `image_size` pixels; builds it where there is none.

    Raises UserError where the data set or the cache folder can't be used, and where images can't be decoded unless
    `skip_bad_images`. A second process waits for the first. A broken cache is built again, with a warning.
    """
    return open_layout_cache(read_layout(root), image_size, cache_dir, skip_bad_images, progress)


def open_layout_cache(
    layout: Layout,
    image_size: int,
    cache_dir: Path | None,
    skip_bad_images: bool,
    progress: bool,
    cache_bytes: int = USUAL_CACHE_BYTES,
    version: str | None = None,
) -> CachedImages:
    """As `open_cache`, for a data set that has been listed already.

    Before it is decoded, data sets that were used least recently are evicted until all in `cache_dir` take at most
    `cache_bytes` (0: no limit). `version` is that of fetched files, whose times say nothing.
    """
    parts = ((layout.train, TRAIN), (layout.val, VAL), (layout.test, TEST))
    files = [_look_at(layout.root, path, label, part) for examples, part in parts for path, label in examples]
    content = (layout.classes, files) if version is None else (version,)
    about = {
        "version": CACHE_VERSION,
        "fingerprint": _digest([image_size, [(file.path, file.size_bytes, file.label) for file in files]]),
        "classes": layout.classes,
    }
    name = _folder_name(Path(os.path.abspath(layout.root)).name, image_size, *content)
    folder = (cache_dir or default_cache_dir()) / name
    try:
        cached = _load(folder)
    except _BrokenCacheError:
        if (
            version is None and cache_bytes == USUAL_CACHE_BYTES
        ):  # of this machine's own folders only where it's asked for
            cache_bytes = 0
        cached = _build_once(folder, layout.root, files, image_size, about, progress, cache_bytes)
    _check_bad_images(cached, layout.root, skip_bad_images)
    return cached


def open_version_cache(
    name: str, version: str, image_size: int, cache_dir: Path | None, skip_bad_images: bool, told: str
) -> CachedImages | None:
    """The cache of files that were fetched once, whether or not they are here now; None where it has to be built.

    Messages call the data set `told`.
    """
    folder = (cache_dir or default_cache_dir()) / _folder_name(name, image_size, version)
    try:
        cached = _load(folder)
    except _BrokenCacheError:
        return None
    _check_bad_images(cached, told, skip_bad_images)
    return cached


def _folder_name(name: str, image_size: int, *content: Any) -> str:
    return f"{name}-{image_size}px-{_digest([CACHE_VERSION, image_size, *content])[:16]}"


def _look_at(root: Path, path: str, label: int, published: int) -> File:
    try:
        stat = os.stat(os.path.join(root, path))
    except OSError:
        return File(path, 0, 0, label, published)  # a dangling link: decoding will give the reason
    return File(path, stat.st_size, stat.st_mtime_ns, label, published)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _build_once(
    folder: Path,
    root: Path,
    files: list[File],
    image_size: int,
    about: dict[str, Any],
    progress: bool,
    cache_bytes: int,
) -> CachedImages:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder, "decodes into"):
            try:
                return _load(folder)  # another process has built it meanwhile
            except _BrokenCacheError as error:
                if folder.exists():
                    logger.warning("%s is broken (%s); it is built again", folder, error)
            held = reserve(folder, bytes_of(files, image_size), cache_bytes)
            try:
                build(folder, root, files, image_size, about, progress)
                return _load(folder)
            finally:
                held.release()  # what was loaded has its own
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"{folder.parent}: decoded images cannot be kept here ({reason}); choose another folder with --cache-dir"
        ) from error


def _load(folder: Path) -> CachedImages:
    """Opens a complete cache without looking at its data set. Raises _BrokenCacheError."""
    if not folder.is_dir():
        raise _BrokenCacheError("it is missing")
    held = hold(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["version"] != CACHE_VERSION:
            raise _BrokenCacheError(f"version {manifest['version']}, not {CACHE_VERSION}")
        for name, size in manifest["sizes_bytes"].items():
            if (folder / name).stat().st_size != size:
                raise _BrokenCacheError(f"{name} has not the {size} bytes that it was written with")
        index = json.loads((folder / INDEX).read_text())
        cached = CachedImages(
            path=folder,
            images=np.lib.format.open_memmap(folder / IMAGES, mode="r"),
            labels=np.array(index["labels"], dtype=np.int64),
            published=np.array(index["published"], dtype=np.int8),
            names=tuple(index["names"]),
            classes=tuple(ClassName(*pair) for pair in manifest["classes"]),
            fingerprint=manifest["fingerprint"],
            bad=tuple((name, reason) for name, reason in manifest["bad"]),
            hold=held,
        )
        count, size = manifest["count"], manifest["image_size"]
    except FileNotFoundError as error:
        raise _BrokenCacheError(f"{Path(error.filename).name} is missing") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _BrokenCacheError(f"unreadable: {type(error).__name__}: {error}") from error
    shapes = (cached.images.shape, cached.labels.shape, cached.published.shape, len(cached.names))
    if shapes != ((count, size, size, 3), (count,), (count,), count) or cached.images.dtype != np.uint8:
        raise _BrokenCacheError(f"its files do not hold {count} images of {size} px")
    return cached


def _check_bad_images(cached: CachedImages, root: Path | str, skip: bool) -> None:
    if not cached.bad:
        return
    shown = ", ".join(f"{name} ({reason})" for name, reason in cached.bad[:BAD_SHOWN])
    more = ", ..." if len(cached.bad) > BAD_SHOWN else ""
    found = (
        f"{root}: {len(cached.bad)} of {len(cached.bad) + len(cached.names)} images cannot be decoded: {shown}{more}"
    )
    if not skip:
        raise UserError(f"{found}; repair or remove them, or go on without them with --skip-bad-images")
    logger.info("%s; going on without them", found)
