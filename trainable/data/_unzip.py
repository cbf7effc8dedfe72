"""Unpacks a zip into a folder that appears complete or not at all."""

import errno
import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath

from trainable.data._progress import reporter
from trainable.errors import UserError

MOST_TIMES = 100
"""An archive of images holds at most so many times its own size; photographs are hardly compressed at all."""
HARMLESS_BYTES = 100e6
"""Content of this size is unpacked all the same: a few flat drawings compress well."""


def unzip(archive: Path, target: Path) -> None:
    """Unpacks `archive` as `target`; the only folder of an archive becomes `target` itself.

    Raises UserError where it is no intact zip, has a member that would land outside, or the disk has too little room.
    """
    scratch = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        _extract(archive, scratch)
        top = [path for path in scratch.iterdir() if path.name not in ("__MACOSX", ".DS_Store")]
        (top[0] if len(top) == 1 and top[0].is_dir() else scratch).rename(target)
    except Exception as error:  # on broken bytes zipfile and the decompressors raise nearly everything
        if isinstance(error, UserError) or _is_of_disk(error):
            raise
        raise UserError(f"{archive}: cannot be unpacked ({error}); delete it and run the command again") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _is_of_disk(error: Exception) -> bool:
    """Whether writing failed; a damaged archive lets the reading seek to nowhere (EINVAL), or has no number at all."""
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


def _extract(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as source:
        members = source.infolist()
        for member in members:
            _check_stays_inside(archive, member)
        _check_names_differ(archive, members)
        needed_bytes = sum(member.file_size for member in members)
        _check_plausible(archive, needed_bytes)
        free_bytes = shutil.disk_usage(folder).free
        if free_bytes < needed_bytes:
            raise UserError(
                f"{folder.parent}: the content needs {needed_bytes / 1e6:,.0f} MB but {free_bytes / 1e6:,.0f} MB are "
                "free; make room or choose another disk with --to"
            )
        with reporter(f"unpacking {archive.name}", len(members), progress=True) as done:
            for member in members:
                source.extract(member, folder)
                done(1)


def _check_stays_inside(archive: Path, member: zipfile.ZipInfo) -> None:
    name = member.filename
    rooted = PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor
    if rooted or ".." in PureWindowsPath(name).parts or stat.S_ISLNK(member.external_attr >> 16):
        raise UserError(
            f"{archive}: member {name!r} is an absolute path, a link or leads outside of the folder; do not use it"
        )


def _check_names_differ(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    seen: set[str] = set()
    for name in (member.filename for member in members if not member.is_dir()):
        if name in seen:
            raise UserError(
                f"{archive}: member {name!r} is there twice, the later would replace the first; do not use it"
            )
        seen.add(name)


def _check_plausible(archive: Path, needed_bytes: int) -> None:
    archive_bytes = archive.stat().st_size
    if needed_bytes > max(HARMLESS_BYTES, MOST_TIMES * archive_bytes):
        raise UserError(
            f"{archive}: {archive_bytes / 1e6:,.1f} MB would become {needed_bytes / 1e6:,.0f} MB, more than "
            f"{MOST_TIMES} times as much: no archive of images, do not use it"
        )
