"""Images in zip files, read without unpacking them to the disk: a member's name is only a name, also one with `..`."""

import os
from collections.abc import Iterator
from typing import NamedTuple
from zipfile import ZipFile, ZipInfo

from trainable.data.decode import BadImage
from trainable.data.files import EXTENSIONS
from trainable.errors import UserError

MOST_BYTES = 100e6
"""A member that says to be larger is refused: photographs are smaller, and a zip bomb is not. zipfile reads no more
bytes of a member than it says to have."""


class Member(NamedTuple):
    """An image in a zip. The last one of an archive that is let go closes it."""

    archive: ZipFile
    info: ZipInfo


def image_members(path: str) -> Iterator[Member]:
    """The images in a zip by their extension, in its order. Holds its directory, about 0.5 kB a member. UserError."""
    try:
        archive = ZipFile(path)
    # on broken bytes zipfile raises nearly everything
    except Exception as error:
        raise UserError(f"not an intact zip ({_reason(error)})") from error
    yield from (Member(archive, info) for info in archive.infolist() if _is_image(info))


def read_member(member: Member) -> bytes:
    """The bytes of an image. Raises BadImage where there are too many, or where they can't be unpacked."""
    if member.info.file_size > MOST_BYTES:
        raise BadImage(f"{member.info.file_size / 1e6:,.0f} MB in its zip, more than {MOST_BYTES / 1e6:.0f}")
    try:
        return member.archive.read(member.info)
    # damaged, encrypted, or compressed in a way that isn't known: zipfile and its decompressors raise nearly everything
    except Exception as error:
        raise BadImage(f"can't be unpacked ({_reason(error)})") from error


def _is_image(info: ZipInfo) -> bool:
    """Whether a member counts, by the rules for folders; those of macOS hold no images."""
    hidden = any(part.startswith((".", "__MACOSX")) and part != ".." for part in info.filename.split("/"))
    return not hidden and not info.is_dir() and os.path.splitext(info.filename)[1].lower() in EXTENSIONS


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split())[:100] or type(error).__name__
