"""What lies at the place that `--data` names: a folder to read where it is, or files to fetch or unpack first."""

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from trainable import address
from trainable.address import is_address, is_outage, open_place, patiently, storage_errors
from trainable.data._unpack import ARCHIVES, Told, archive_ending, check_stays_inside
from trainable.data.files import EXTENSIONS
from trainable.errors import UsageError, UserError

if TYPE_CHECKING:
    from trainable.address import Place

Result = TypeVar("Result")

OPTION = "--data"
TEXTS = ("wnids.txt", "words.txt", "val_annotations.txt")
"""Files of the Tiny-ImageNet layout beside its images."""
TAGS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified", "created")
"""What storages call that which changes with a file's content, the surest first."""
PATIENCE_S = address.PATIENCE_S
KNOWN = ", ".join(sorted(ARCHIVES))


class ShortReadError(Exception):
    """A storage sent less than it had listed."""


class StoredFile(NamedTuple):
    """A file of a data set as its storage lists it."""

    path: str
    """Relative to the folder, or the archive's name."""
    size_bytes: int
    tag: str
    """Changes with the content."""


@dataclass(frozen=True)
class Origin:
    """An archive, or a folder on a storage: its files have to be here before they can be read."""

    text: str
    """As it was named."""
    place: "Place"
    is_archive: bool
    files: tuple[StoredFile, ...]
    """Sorted by path."""
    option: str = OPTION
    """What named it."""
    look: "Callable[[str], Path | Origin] | None" = None
    """How to look at it again, where it is no data set."""

    @cached_property
    def version(self) -> str:
        """Changes with any file; the same on all machines."""
        return hashlib.sha256(json.dumps([self.is_archive, self.files]).encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def is_local(self) -> bool:
        """Whether nothing has to be transferred."""
        return isinstance(self.place, Path)

    @property
    def name(self) -> str:
        """What the data set is called in the cache folder."""
        return cache_name(self.text)

    def storage_path(self, file: StoredFile) -> str:
        """What the storage's client calls the file."""
        return str(self.place.path if self.is_archive else f"{self.place.path.rstrip('/')}/{file.path}")  # type: ignore[union-attr]

    def read(self, pieces: list[tuple[StoredFile, int, int]]) -> list[bytes]:
        """Bytes start to end of files on a storage, several at once; waits while the storage doesn't answer.

        Raises what the storage's client does, or ShortReadError, where the files aren't those of the listing.
        """
        paths, starts, ends = zip(*((self.storage_path(file), start, end) for file, start, end in pieces), strict=True)

        def fetched() -> list[bytes]:
            found: list[bytes] = self.place.fs.cat_ranges(list(paths), list(starts), list(ends), on_error="raise")  # type: ignore[union-attr]
            if any(len(content) != end - start for content, (_, start, end) in zip(found, pieces, strict=True)):
                raise ShortReadError("it sent less than it lists")
            return found

        return asked(self.text, fetched, self.option)

    def again(self) -> "Path | Origin":
        """As it is now."""
        return (self.look or look_at)(self.text)


def cache_name(text: str) -> str:
    """The last part of a path or address, without the ending of an archive, fit for a file's name."""
    name = text.rstrip("/").rpartition("/")[2]
    ending = archive_ending(name) or ""
    return re.sub(r"[^\w.-]", "_", name[: len(name) - len(ending)])[:60].lstrip(".") or "data"


def look_at(data: Path | str) -> Path | Origin:
    """The folder that can be read where it is (or isn't there), or what has to be fetched or unpacked.

    Raises:
        UsageError: The address can't be meant, or names a file that is no archive.
        UserError: The storage says no, or doesn't answer for minutes.
    """
    place = open_place(data, OPTION)
    if isinstance(place, Path):
        if not place.is_file():
            return place
        _check_is_archive(str(data), place.name)
        status = os.stat(place)
        return Origin(str(data), place, True, (StoredFile(place.name, status.st_size, str(status.st_mtime_ns)),))
    return asked(str(data), lambda: _listed(str(data), place))


def is_missing(data: Path | str) -> bool:
    """Whether a path of this machine leads to nothing; an address is only known when it's asked."""
    return not is_address(data) and not Path(data).exists()


def asked(text: str, question: Callable[[], Result], option: str = OPTION) -> Result:
    """What a storage answers; it's asked again while it doesn't, which is said once. UserError in place of its own.

    `option` gave the text.
    """
    said = False

    def ask() -> Result:
        nonlocal said
        try:
            return question()
        except Exception as error:
            if is_outage(error) and not said:
                said = True
                wait = f"{PATIENCE_S / 60:.0f} minutes" if PATIENCE_S >= 60 else f"{PATIENCE_S:g} s"
                print(f"{text}: doesn't answer; it is tried again for up to {wait} ...", file=sys.stderr, flush=True)
            raise

    try:
        with storage_errors(option, text):
            return patiently(ask, PATIENCE_S)
    except OSError as error:  # what s3fs makes of an answer that it has no better name for
        raise UserError(f"{option} {text}: can't be read ({error}); check the address") from error


def _listed(text: str, place: Any) -> Origin:
    info = place.fs.info(place.path)
    if info["type"] == "file":
        _check_is_archive(text, place.name)
        return Origin(text, place, True, (stored(place.name, info),))
    prefix = place.path.rstrip("/") + "/"
    found = {path.removeprefix(prefix): info for path, info in place.fs.find(place.path, detail=True).items()}
    files = tuple(sorted(stored(path, info) for path, info in found.items() if is_wanted(path)))
    if not files:
        raise UserError(f"{OPTION} {text}: holds no images; expected train/<class>/*.jpg or <class>/*.jpg there")
    for file in files:
        check_stays_inside(Told(text), file.path)
    return Origin(text, place, False, files)


def _check_is_archive(text: str, name: str) -> None:
    if archive_ending(name) is None:
        raise UsageError(f"{OPTION} {text}: is a file, neither a folder nor an archive ({KNOWN}); give one of them")


def is_wanted(path: str) -> bool:
    """Whether a file of this name belongs to a data set."""
    parts = path.split("/")
    if any(part.startswith((".", "__MACOSX")) for part in parts if part != ".."):
        return False
    return parts[-1] in TEXTS or os.path.splitext(path)[1].lower() in EXTENSIONS


def stored(path: str, info: dict[str, Any]) -> StoredFile:
    """From what fsspec says of a file."""
    return StoredFile(path, int(info["size"] or 0), next((str(info[name]) for name in TAGS if info.get(name)), ""))
