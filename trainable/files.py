"""The files of a trial's checkpoint by name, and files that are whole or not there. Needs no torch."""

import json
import os
import time
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainable.address import patiently

if TYPE_CHECKING:
    from trainable.address import Place

MODEL = "model.safetensors"
"""Weights that were evaluated at the latest epoch."""
BEST = "best.safetensors"
"""The same at the best epoch; absent where the latest is the best."""
STATE = "state.pt"
"""Optimiser, scaler, moving average and progress; loadable with torch.load(weights_only=True)."""
PREDICTIONS = "predictions.npz"
"""float16 logits (images, classes) on `select` at the best epoch, with the epoch's number."""
RECORD = "trial.json"
"""Configuration, the record of each epoch, dataset fingerprint, versions. Written last: its presence means complete."""
WEIGHTS = (MODEL, BEST, STATE)
"""What is large, and kept only for trials that run or are among the best."""

STACKS = "stacks.txt"
"""Where a trial's process writes what its threads do, on SIGUSR1: in Ray's working folder of the trial."""
CHECKSUMS = "crc32"
"""Key of the record that holds the CRC-32 of each other file that was written with it, by name."""
BLOCK_BYTES = 2**22
PATIENCE_S, LOOK_S = 10.0, 0.05
"""How long a checkpoint that is being written may not grow, and how often that is looked at."""


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it, so that `path` is whole or as it was.

    Also after a power cut: the content is on the disk before the name is.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        to_disk(temporary)
        os.replace(temporary, path)
        to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def to_disk(path: Path) -> None:
    """Wait until the file's content, or the folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tree_to_disk(folder: Path) -> None:
    """Wait until all that is in the folder is on the disk."""
    for path in (*folder.rglob("*"), folder):
        to_disk(path)


def wait_until_written(folder: Path) -> None:
    """Until another thread, process or machine has written the checkpoint, or has added nothing to it for long.

    `read_record` tells afterwards whether it is whole.
    """
    size, changed = -1, time.monotonic()
    while folder.is_dir() and not (folder / RECORD).exists() and time.monotonic() - changed < PATIENCE_S:
        with suppress(FileNotFoundError):  # of a file that gets its name just now
            now = sum(path.stat().st_size for path in folder.glob("*"))
            if now != size:
                size, changed = now, time.monotonic()
        time.sleep(LOOK_S)


def checksum(path: "Place") -> str:
    """CRC-32 of a file, in hexadecimal digits: against power cuts and worn disks, not against people."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            value = zlib.crc32(block, value)
    return f"{value:08x}"


def write_text(path: Path, text: str) -> None:
    """Replace a text file's content, all of it or nothing."""
    write_atomically(path, lambda temporary: temporary.write_text(text))


def read_object(path: "Place") -> dict[str, Any] | None:
    """The JSON object in a file; None where it isn't there or isn't whole.

    A storage elsewhere that doesn't answer, or doesn't let it be read, says nothing of the file: that is raised.
    """
    try:
        value = json.loads(path.read_bytes() if isinstance(path, Path) else patiently(path.read_bytes))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    except OSError:
        if isinstance(path, Path):
            return None
        raise
    return value if isinstance(value, dict) else None


def read_record(folder: "Place") -> dict[str, Any] | None:
    """The trial.json of a checkpoint; None where it isn't there or isn't whole, so that neither is the checkpoint."""
    return read_object(folder / RECORD)


def broken_files(folder: "Place", record: dict[str, Any], names: Iterable[str] | None = None) -> list[str]:
    """Which files of a checkpoint aren't what was written, of `names` or of all; a deleted one isn't broken."""
    checksums = record.get(CHECKSUMS, {})
    wanted = checksums if names is None else [name for name in names if name in checksums]
    return [name for name in wanted if (folder / name).is_file() and checksum(folder / name) != checksums[name]]
