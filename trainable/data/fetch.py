"""Brings a data set from an archive or a storage, or weights, into the cache folder, once per machine.

    <name>-files-<version>/<name>/        the files
    <name>-files-<version>/fetched.json   written last
    <name>-<address>.address.json         which version the address had when it was looked at last

A transfer that breaks off goes on where it stopped, also in another process.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from trainable.data._progress import reporter
from trainable.data._room import FETCHED, Hold, bytes_below, check_free_space, hold, locked, reserve
from trainable.data._unpack import Told, unpack
from trainable.data.origin import Origin, StoredFile, cache_name
from trainable.errors import UserError
from trainable.files import read_object, write_text

PIECE_BYTES, BATCH_BYTES, BATCH_PIECES = 2**23, 2**26, 64
"""What is asked for at a time; a transfer that breaks off loses at most a batch."""


class Fetched(NamedTuple):
    """A data set's files on this machine, which stay there while `hold` lives."""

    root: Path
    version: str
    hold: Hold


class Known(NamedTuple):
    """What is remembered of a data set that was fetched or unpacked."""

    version: str
    image_size: int | None
    """The images' own, once they were here."""


def recall(caches: Path, data: Path | str) -> Known | None:
    """What this machine knows of an address or archive."""
    content = read_object(_memory(caches, data)) or {}
    return Known(content["version"], content.get("image_size")) if "version" in content else None


def remember(caches: Path, data: Path | str, known: Known) -> None:
    """Keep it for the next opening."""
    if recall(caches, data) != known:
        with suppress(OSError):  # of a cache folder that is only read
            write_text(_memory(caches, data), json.dumps({"address": str(data), **known._asdict()}))


def open_fetched(caches: Path, name: str, version: str) -> Fetched | None:
    """The files that were fetched earlier; None where they weren't, or have been evicted."""
    folder = _folder(caches, name, version)
    if not (folder / FETCHED).is_file():
        return None
    held = hold(folder)
    return Fetched(folder / name, version, held) if (folder / FETCHED).is_file() else None


def fetch(origin: Origin, caches: Path, most_bytes: int, progress: bool) -> Fetched:
    """The files of `origin`, fetched and unpacked where that isn't done; a second process waits for the first.

    Raises UserError where the storage says no, the archive is none, or the files can't be kept.
    """
    if (there := open_fetched(caches, origin.name, origin.version)) is not None:
        return there
    folder = _folder(caches, origin.name, origin.version)
    try:
        caches.mkdir(parents=True, exist_ok=True)
        with locked(folder, "fetches into"):
            if (there := open_fetched(caches, origin.name, origin.version)) is not None:
                return there
            needed_bytes = origin.size_bytes * (2 if origin.is_archive and not origin.is_local else 1)
            held = reserve(folder, needed_bytes, most_bytes)
            try:
                _make(folder, origin, needed_bytes, progress)
            except BaseException:
                held.release()  # the error's traceback would keep it
                raise
            return Fetched(folder / origin.name, origin.version, held)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"{caches}: fetched images cannot be kept here ({reason}); choose another folder with --cache-dir"
        ) from error


def _memory(caches: Path, data: Path | str) -> Path:
    return caches / f"{cache_name(str(data))}-{hashlib.sha256(str(data).encode()).hexdigest()[:16]}.address.json"


def _folder(caches: Path, name: str, version: str) -> Path:
    return caches / f"{name}-files-{version[:16]}"


def _make(folder: Path, origin: Origin, needed_bytes: int, progress: bool) -> None:
    """Fill `folder`, which appears complete or not at all; what has arrived stays where the storage is lost."""
    scratch = folder.with_name(folder.name + ".fetching")
    scratch.mkdir(exist_ok=True)
    check_free_space(folder.parent, needed_bytes - bytes_below(scratch), "fetched")
    root = scratch / origin.name
    if origin.is_archive:  # what an unpacking left that was broken off
        shutil.rmtree(root, ignore_errors=True)
    if isinstance(origin.place, Path):
        _unpack(origin.place, root, origin, scratch, progress)
    elif origin.is_archive:
        archive = scratch / origin.files[0].path
        _transfer(origin, {origin.files[0]: archive}, scratch, progress)
        _check_unchanged(origin, scratch)
        _unpack(archive, root, origin, scratch, progress)
        archive.unlink()
    else:
        _transfer(origin, {file: root / file.path for file in origin.files}, scratch, progress)
        _check_unchanged(origin, scratch)
    record = {"address": origin.text, "version": origin.version, "sizes_bytes": {"files": bytes_below(scratch)}}
    (scratch / FETCHED).write_text(json.dumps(record, indent=1))
    os.sync()  # one for all: thousands of small files would take minutes each by itself
    scratch.rename(folder)


def _unpack(archive: Path, root: Path, origin: Origin, scratch: Path, progress: bool) -> None:
    try:
        unpack(archive, root, Told(f"{origin.option} {origin.text}", "make the archive again", "--cache-dir"), progress)
    except UserError:
        shutil.rmtree(scratch, ignore_errors=True)  # it came whole, so it would be as bad again
        raise


def _transfer(origin: Origin, targets: dict[StoredFile, Path], scratch: Path, progress: bool) -> None:
    """Complete the targets, after what is there of each already."""
    for folder in {target.parent for target in targets.values()}:
        folder.mkdir(parents=True, exist_ok=True)
    with reporter(f"fetching {origin.name}", origin.size_bytes, progress, "bytes") as done:
        for batch in _batches(targets):
            try:
                contents = origin.read(batch)
            except UserError:
                raise
            except Exception as error:  # whatever a client says of a file that is shorter now, or another
                _check_unchanged(origin, scratch)
                raise UserError(
                    f"{origin.option} {origin.text}: can't be read ({error}); run the command again"
                ) from error
            for (file, _, _), content in zip(batch, contents, strict=True):
                with targets[file].open("ab") as out:
                    out.write(content)
                done(len(content))


def _batches(targets: dict[StoredFile, Path]) -> Iterator[list[tuple[StoredFile, int, int]]]:
    """(file, start, end) of what isn't there yet, a batch at a time."""
    batch: list[tuple[StoredFile, int, int]] = []
    size = 0
    for file, target in targets.items():
        target.touch()
        have = target.stat().st_size
        for start in range(have, file.size_bytes, PIECE_BYTES):
            end = min(start + PIECE_BYTES, file.size_bytes)
            batch.append((file, start, end))
            size += end - start
            if size >= BATCH_BYTES or len(batch) == BATCH_PIECES:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _check_unchanged(origin: Origin, scratch: Path) -> None:
    again = origin.again()
    if isinstance(again, Path) or again.version != origin.version:
        shutil.rmtree(scratch, ignore_errors=True)
        raise UserError(f"{origin.option} {origin.text}: has changed while it was fetched; run the command again")
