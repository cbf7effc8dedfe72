"""Outputs of a command that are whole or not there, be they files, stdout or pipes."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from trainable.errors import UsageError, UserError
from trainable.files import write_atomically

STDOUT = "-"


def is_special(output: str) -> bool:
    """Whether this is a pipe or a device, which must not be replaced by a file."""
    return os.path.exists(output) and not os.path.isfile(output) and not os.path.isdir(output)


def check_writable(output: str, option: str) -> None:
    """Raises UsageError where no such file can be written; hours of work would be in vain."""
    folder = Path(output).parent
    if output == STDOUT or is_special(output):
        return
    if os.path.isdir(output):
        raise UsageError(f"{option} {output}: can't be written (is a folder); give a file")
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        reason = "may not be written to" if folder.is_dir() else "is no folder"
        raise UsageError(f"{option} {output}: can't be written ({folder} {reason}); give another file")


def write_output(output: str, option: str, write: Callable[[BinaryIO], None]) -> None:
    """Let `write` fill the output; a file is as it was before where that fails. UsageError, and UserError.

    Stdout and pipes get what there is at once.
    """

    def fill(target: Path | int) -> None:
        with _opened(target, f"{option} {output}") as file:
            write(file)

    try:
        if output == STDOUT:
            fill(sys.stdout.fileno())
        elif is_special(output):
            fill(Path(output))
        else:
            write_atomically(Path(output), fill)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UsageError(f"{option} {output}: the name is too long; give a shorter one") from None
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{option} {output}: the disk is full; make room, or give a file elsewhere") from None
        raise


def _opened(target: Path | int, what: str) -> BinaryIO:
    try:
        return open(target, "wb", closefd=not isinstance(target, int))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{what}: can't be written ({reason}); give another file") from None
