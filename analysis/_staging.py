"""Replaces a folder as a whole: the new one is filled beside it, and takes its place when it is complete."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from trainable.errors import UsageError, UserError
from trainable.files import tree_to_disk


@contextmanager
def replaced_folder(target: Path, option: str, manifest: str, own: tuple[str, ...]) -> Iterator[Path]:
    """Yields an empty folder to fill, which becomes `target` if the block ends without an exception.

    An earlier `target` stays until then. It must be empty or hold `manifest`: what isn't ours is never deleted, and
    files in it that aren't named in `own` move to the new one. UsageError, naming `option`, where it can't be.
    """
    target = target.absolute()
    staged, old = (target.with_name(f".{target.name}.{part}") for part in ("new", "old"))
    with _lock(target, option):
        if old.exists() and not target.exists():  # the process before us was killed between its two renames
            old.rename(target)
        _refuse_foreign(target, option, manifest)
        for leftover in (staged, old):
            shutil.rmtree(leftover, ignore_errors=True)
        staged.mkdir()
        try:
            yield staged
            tree_to_disk(staged)
            _swap(staged, target, old, own)
        finally:
            shutil.rmtree(staged, ignore_errors=True)


@contextmanager
def _lock(target: Path, option: str) -> Iterator[None]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_name(f".{target.name}.lock"))
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{option} {target}: another export is writing there; wait for it") from None
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"{option} {target}: can't be written ({reason}); give another folder") from None
    try:
        yield
    finally:
        lock.release()


def _refuse_foreign(target: Path, option: str, manifest: str) -> None:
    if target.exists() and not target.is_dir():
        raise UsageError(f"{option} {target}: is a file; give a folder")
    if target.exists() and any(target.iterdir()) and not (target / manifest).is_file():
        raise UsageError(f"{option} {target}: holds other files and no {manifest}; give a new or an empty folder")


def _swap(staged: Path, target: Path, old: Path, own: tuple[str, ...]) -> None:
    if target.exists():
        target.rename(old)
    staged.rename(target)
    if old.exists():
        for path in old.iterdir():
            if path.name not in own:
                path.rename(target / path.name)
        shutil.rmtree(old)
