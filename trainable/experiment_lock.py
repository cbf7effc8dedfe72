"""The lock on an experiment's folder: a search, or a training of its trials, holds it while it runs."""

from pathlib import Path

from filelock import FileLock, Timeout

from trainable.errors import UserError

LOCK = ".lock"


def hold_experiment(folder: Path) -> FileLock:
    """Keep others from running a search in the folder, until the lock is released or the process ends.

    Raises:
        UserError: A search runs there.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{folder.name}: a search runs in {folder}; wait until it has ended, or stop it") from None
    return lock


def is_running(folder: Path) -> bool:
    """Whether a search runs in the folder; one that can't be written to has none of ours."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False
