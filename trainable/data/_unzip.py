"""Unpacks a zip into a folder that appears complete or not at all."""

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from trainable.data._progress import reporter
from trainable.errors import UserError


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
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{archive}: cannot be unpacked ({error}); delete it and run the command again") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _extract(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as source:
        members = source.infolist()
        for member in members:
            _check_stays_inside(archive, member)
        needed_bytes = sum(member.file_size for member in members)
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
