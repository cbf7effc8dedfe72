"""The cache folder as a whole: what is in use, what was used last, and what goes where there is too little room.

Each data set in it, fetched or decoded, is a folder `<name>-<16 hexadecimal digits>` that its manifest marks as ours.
Beside it lies `<folder>.used`: locked (flock, shared) by each process that has the data set open or is making it, its
time is that of the last use, and its text is how many bytes the data set will take: that counts while it is locked.
"""

import fcntl
import json
import os
import re
import shutil
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from trainable.data._progress import QUIET_S
from trainable.errors import UserError
from trainable.sizes import size_text

MANIFEST, FETCHED = "manifest.json", "fetched.json"
"""Written last into a folder of decoded, and of fetched, images."""
SCRATCH = (".building", ".fetching")
"""What the folder is called while it is made."""
OURS = re.compile(r".+-[0-9a-f]{16}")
USED, GOING = ".used", ".going"


class Hold:
    """Keeps a data set in the cache folder, until it is released, is forgotten or the process ends."""

    release: Callable[[], object]

    def __init__(self, descriptor: int | None) -> None:
        self.release = weakref.finalize(self, os.close, descriptor) if descriptor is not None else lambda: None


class Entry(NamedTuple):
    """A data set in the cache folder."""

    folder: Path
    size_bytes: int
    used_ns: int
    """When it was opened last."""


def hold(folder: Path, reserved_bytes: int | None = None) -> Hold:
    """Keep `folder` from being evicted, and note that it is used now.

    `reserved_bytes` is what it will take, where it isn't there yet. Nothing is held in a cache folder that can't be
    written: nobody evicts there either. Raises OSError where the reservation can't be written.
    """
    marker = _marker(folder)
    while True:
        try:
            descriptor = _open_marker(marker)
        except OSError:
            if reserved_bytes is not None:
                raise
            return Hold(None)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        except OSError:  # a file system without locks, where nothing is evicted either
            os.close(descriptor)
            return Hold(None)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(marker)):  # else it was evicted meanwhile
                break
        os.close(descriptor)
    if reserved_bytes is not None:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(reserved_bytes).encode(), 0)
    with suppress(OSError):  # another user's
        os.utime(descriptor)
    return Hold(descriptor)


def _open_marker(marker: Path) -> int:
    try:
        return os.open(marker, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:  # another user's, who can read that it's in use
        return os.open(marker, os.O_RDONLY)


def _marker(folder: Path) -> Path:
    return folder.with_name(folder.name + USED)


def reserve(folder: Path, needed_bytes: int, most_bytes: int) -> Hold:
    """Make room for `folder`, of `needed_bytes`, and keep the room and the folder until the hold is released.

    What isn't in use is evicted, the least recently used first, until all takes at most `most_bytes` (0: no limit).
    Raises UserError where that can't be.
    """
    if not most_bytes:
        return hold(folder, needed_bytes)
    with FileLock(folder.parent / ".room.lock", mode=0o666):  # of all users of the cache folder
        make_room(folder, needed_bytes, most_bytes)
        return hold(folder, needed_bytes)


def check_free_space(place: Path, needed_bytes: int, what: str) -> None:
    """UserError where the disk has too little room for images, which are `what`: fetched or decoded."""
    free_bytes = shutil.disk_usage(place).free
    if free_bytes < needed_bytes:
        raise UserError(
            f"{place}: the {what} images need {needed_bytes / 1e6:,.1f} MB but {free_bytes / 1e6:,.1f} MB are free; "
            "make room or choose another disk with --cache-dir"
        )


def make_room(folder: Path, needed_bytes: int, most_bytes: int) -> None:
    """Evict from the parent of `folder` what has to go; nothing where even that wouldn't be enough."""
    for going in folder.parent.glob(f".*{GOING}"):
        shutil.rmtree(going, ignore_errors=True)  # its deletion was broken off
    others = [entry for entry in entries(folder.parent) if entry.folder != folder and _is_ours(entry.folder)]
    excess = sum(entry.size_bytes for entry in others) + needed_bytes - most_bytes
    free = [entry for entry in sorted(others, key=lambda entry: entry.used_ns) if not is_held(entry.folder)]
    if excess > sum(entry.size_bytes for entry in free):
        in_use = sum(entry.size_bytes for entry in others) - sum(entry.size_bytes for entry in free)
        beside = f" beside the {size_text(in_use)} that are in use" if in_use else ""
        raise UserError(
            f"{folder.parent}: {folder.name.rpartition('-')[0]} needs {size_text(needed_bytes)}{beside}, but "
            f"--cache-size is {size_text(most_bytes)}; raise it, or give 0 for no limit"
        )
    for entry in free:
        if excess <= 0:
            break
        if evict(entry.folder) and entry.size_bytes:
            excess -= entry.size_bytes
            print(
                f"{entry.folder}: {size_text(entry.size_bytes)} of images that were used least recently are deleted "
                f"from the cache, to make room (--cache-size {size_text(most_bytes)})",
                file=sys.stderr,
                flush=True,
            )


def entries(caches: Path) -> list[Entry]:
    """All data sets in the cache folder: whole ones, those that are made now, and what is left of broken-off ones."""
    stems = {path.name.removesuffix(USED) for path in caches.glob(f"*{USED}")} | {
        path.name for path in caches.iterdir()
    }
    found = (_entry(caches / stem) for stem in sorted(stems) if OURS.fullmatch(stem))
    return [entry for entry in found if entry is not None]


def _is_ours(folder: Path) -> bool:
    """Whether this user made the data set: others' are neither counted nor evicted."""
    with suppress(FileNotFoundError):
        return folder.stat().st_uid == os.getuid()
    return True


def is_held(folder: Path) -> bool:
    """Whether a process has the data set open, or makes it."""
    lock = _exclusive(folder)
    if lock is not None:
        os.close(lock)
    return lock is None


def evict(folder: Path) -> bool:
    """Delete a data set; False where a process has it open."""
    lock = _exclusive(folder)
    if lock is None:
        return False
    try:
        going = folder.with_name(f".{folder.name}{GOING}")
        try:
            folder.rename(going)  # half of one never has its name
        except FileNotFoundError:
            pass
        except OSError:
            return False
        for place in (going, *(folder.with_name(folder.name + ending) for ending in SCRATCH)):
            shutil.rmtree(place, ignore_errors=True)
        _marker(folder).unlink(missing_ok=True)
    finally:
        os.close(lock)
    return True


@contextmanager
def locked(folder: Path, doing: str) -> Iterator[None]:
    """One process at a time makes `folder`; the others wait, and say so."""
    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=QUIET_S)
    except Timeout:
        print(f"waiting for another process that {doing} {folder} ...", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _entry(folder: Path) -> Entry | None:
    marker, record = _marker(folder), _record(folder)
    try:
        if record is None:
            return Entry(folder, _bytes_of_unfinished(folder, marker), marker.stat().st_mtime_ns)
        used = marker if marker.exists() else record  # an earlier version of this program had no markers
        size_bytes = sum(json.loads(record.read_text())["sizes_bytes"].values())
        return Entry(folder, size_bytes, used.stat().st_mtime_ns)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # gone meanwhile, or not ours


def _bytes_of_unfinished(folder: Path, marker: Path) -> int:
    """What is reserved, as long as somebody makes the data set; then what a broken-off making has left."""
    reserved_bytes = int(marker.read_text() or 0)
    if is_held(folder):
        return reserved_bytes
    return sum(bytes_below(folder.with_name(folder.name + ending)) for ending in SCRATCH)


def bytes_below(folder: Path) -> int:
    """Of all files in a folder; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _record(folder: Path) -> Path | None:
    return next((folder / name for name in (MANIFEST, FETCHED) if (folder / name).is_file()), None)


def _exclusive(folder: Path) -> int | None:
    """The marker, locked for this process alone; None where another process has it."""
    marker, record = _marker(folder), _record(folder)
    is_new = not marker.exists()
    try:
        descriptor = os.open(marker, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return None  # another user's
    if is_new and record is not None:
        shutil.copystat(record, marker)  # looking isn't using
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
