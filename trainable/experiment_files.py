"""An experiment's files between this machine and its storage: which there are, and those that differ brought over."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.progress import Progress

from trainable.address import patiently
from trainable.files import RECORD, STATE, write_atomically

if TYPE_CHECKING:
    from trainable.address import Place

AT_ONCE = 8
"""Files that are copied at the same time."""


def is_record(name: str) -> bool:
    """Whether a file, named by its path below the experiment, is none of a checkpoint's."""
    return "checkpoint_" not in name


def is_checkpoint(name: str) -> bool:
    """Whether a file is a checkpoint's, and the analysis may need it."""
    return not is_record(name) and is_material(name)


def is_material(name: str) -> bool:
    """Whether the analysis may need it: all but what only further training does."""
    return not name.endswith(STATE)


class Look(NamedTuple):
    """A file's bytes, and when it was written (seconds since 1970; 0 where a storage doesn't tell)."""

    size: int
    written: float


def sizes_below(folder: "Place") -> dict[str, int]:
    """Bytes of each file below `folder`, by its path from there; empty where there is no folder."""
    return {name: look.size for name, look in files_below(folder).items()}


def files_below(folder: "Place") -> dict[str, Look]:
    """The files below `folder`, by their paths from there.

    Left out: names that begin with a dot, and those of a bucket that would lead out of a folder.
    """
    from upath import UPath

    root = UPath(folder)
    start = len(root.path.rstrip("/")) + 1
    found = {path[start:]: _look(info) for path, info in root.fs.find(root.path, detail=True).items()}
    return {name: look for name, look in found.items() if not re.search(r"(^|/)(\.[^/]*)?$|(^|/)\.\./|^/|//", name)}


def _look(info: dict[str, Any]) -> Look:
    written = info.get("LastModified") or info.get("mtime") or 0.0
    return Look(info["size"], written.timestamp() if isinstance(written, datetime) else float(written))


def bring_home(place: "Place", folder: Path, wanted: Callable[[str], bool], console: Console) -> int:
    """Copy the wanted files of `place` to `folder` that aren't there, or not as large and late; returns how many.

    A storage that doesn't answer is asked again; a file is whole or not there.
    """
    here, there = files_below(folder), patiently(lambda: files_below(place))
    none = Look(-1, 0.0)
    missing = [
        name
        for name, look in there.items()
        if wanted(name) and (here.get(name, none).size != look.size or here[name].written < look.written)
    ]

    def bring(name: str) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            content = patiently((place / name).read_bytes)
        except FileNotFoundError:  # deleted since: a search runs
            return
        write_atomically(path, lambda temporary: temporary.write_bytes(content))

    records = [name for name in missing if name.endswith(RECORD)]  # last: they say that a checkpoint is complete
    with ThreadPoolExecutor(AT_ONCE) as threads, Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"{place} ...", total=len(missing))
        for part in ([name for name in missing if name not in records], records):
            for _ in threads.map(bring, part):
                progress.advance(task)
    return len(missing)
