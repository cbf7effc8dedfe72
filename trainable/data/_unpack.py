"""Unpacks an archive into a folder that appears complete or not at all."""

import errno
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from trainable.data._progress import reporter
from trainable.errors import UserError

ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")
"""How the names of archives end."""
MOST_TIMES = 100
"""An archive of images holds at most so many times its own size; photographs are hardly compressed at all."""
HARMLESS_BYTES = 100e6
"""Content of this size is unpacked all the same: a few flat drawings compress well."""


class Told(NamedTuple):
    """What messages say of an archive."""

    name: str
    mend: str = "delete it and run the command again"
    option: str = "--to"
    """Chooses another disk."""


def archive_ending(name: str) -> str | None:
    """Which of ARCHIVES the name ends in, in any case of letters."""
    return next((ending for ending in ARCHIVES if name.lower().endswith(ending)), None)


def unpack(archive: Path, target: Path, told: Told | None = None, progress: bool = True) -> None:
    """Unpacks `archive` as `target`; the only folder of an archive becomes `target` itself.

    Raises UserError where it is no intact archive, has a member that would land outside, or the disk has too little
    room.
    """
    told = told or Told(str(archive))
    scratch = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        extract = _extract_zip if archive_ending(archive.name) in (".zip", None) else _extract_tar
        extract(archive, scratch, told, progress)
        only_folder(scratch).rename(target)
    except Exception as error:  # on broken bytes zipfile, tarfile and the decompressors raise nearly everything
        if isinstance(error, UserError) or _is_of_disk(error):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{told.name}: cannot be unpacked ({reason}); {told.mend}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def only_folder(unpacked: Path) -> Path:
    """The one folder that an archive's content lies in, or the whole; `train` alone is a part of a data set."""
    top = [path for path in unpacked.iterdir() if path.name not in ("__MACOSX", ".DS_Store")]
    return top[0] if len(top) == 1 and top[0].is_dir() and top[0].name != "train" else unpacked


def check_stays_inside(told: Told, name: str, is_link: bool = False) -> None:
    """UserError for a member that isn't a file or folder below the one it is unpacked into."""
    rooted = PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor
    if rooted or ".." in PureWindowsPath(name).parts or is_link:
        raise UserError(
            f"{told.name}: member {name!r} is an absolute path, a link or leads outside of the folder; do not use it"
        )


def _is_of_disk(error: Exception) -> bool:
    """Whether writing failed; a damaged archive lets the reading seek to nowhere (EINVAL), or has no number at all."""
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


def _extract_zip(archive: Path, folder: Path, told: Told, progress: bool) -> None:
    with zipfile.ZipFile(archive) as source:
        members = source.infolist()
        names: set[str] = set()
        for member in members:
            check_stays_inside(told, member.filename, stat.S_ISLNK(member.external_attr >> 16))
            if not member.is_dir():
                _check_is_new(told, member.filename, names)
        needed_bytes = sum(member.file_size for member in members)
        _check_plausible(told, archive, needed_bytes)
        _check_room(told, folder, needed_bytes)
        with reporter(f"unpacking {archive.name}", len(members), progress) as done:
            for member in members:
                source.extract(member, folder)
                done(1)


def _extract_tar(archive: Path, folder: Path, told: Told, progress: bool) -> None:
    """In one pass, since only reading all of a compressed tar tells what is in it."""
    names: set[str] = set()
    total_bytes = 0
    with (
        tarfile.open(archive, "r:gz" if _is_gzip(archive) else "r:") as source,
        reporter(f"unpacking {archive.name}", archive.stat().st_size, progress, "bytes") as done,
    ):
        for member in source:
            check_stays_inside(told, member.name, not (member.isfile() or member.isdir()) or member.issparse())
            if member.isdir():
                continue
            _check_is_new(told, str(PurePosixPath(member.name)), names)
            total_bytes += member.size
            _check_plausible(told, archive, total_bytes)
            _check_room(told, folder, member.size)
            target = folder / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            content = source.extractfile(member)
            assert content is not None  # it is for what isn't a file
            with content, target.open("xb") as out:
                shutil.copyfileobj(content, out)
            done(member.size)
        _check_end(source)


def _is_gzip(archive: Path) -> bool:
    with archive.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _check_end(source: tarfile.TarFile) -> None:
    """A tar that was cut between two members reads as a whole one; but its end is a block of zeros."""
    assert source.fileobj is not None
    source.fileobj.seek(source.offset)
    if source.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("its end is missing")


def _check_is_new(told: Told, name: str, seen: set[str]) -> None:
    if name in seen:
        raise UserError(
            f"{told.name}: member {name!r} is there twice, the later would replace the first; do not use it"
        )
    seen.add(name)


def _check_plausible(told: Told, archive: Path, needed_bytes: int) -> None:
    archive_bytes = archive.stat().st_size
    if needed_bytes > max(HARMLESS_BYTES, MOST_TIMES * archive_bytes):
        raise UserError(
            f"{told.name}: {archive_bytes / 1e6:,.1f} MB would become {needed_bytes / 1e6:,.0f} MB, more than "
            f"{MOST_TIMES} times as much: no archive of images, do not use it"
        )


def _check_room(told: Told, folder: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise UserError(
            f"{folder.parent}: the content needs {needed_bytes / 1e6:,.0f} MB but {free_bytes / 1e6:,.0f} MB are "
            f"free; make room or choose another disk with {told.option}"
        )
