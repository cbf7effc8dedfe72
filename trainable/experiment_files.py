"""An experiment's files between this machine and its storage: which there are, and those that differ brought over."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track

from trainable.address import patiently
from trainable.files import STATE, write_atomically

if TYPE_CHECKING:
    from trainable.address import Place

AT_ONCE = 8
"""Files that are copied at the same time."""


def is_record(name: str) -> bool:
    """Whether a file, named by its path below the experiment, is none of a checkpoint's."""
    return "checkpoint_" not in name


def is_material(name: str) -> bool:
    """Whether the analysis may need it: all but what only further training does."""
    return not name.endswith(STATE)


def sizes_below(folder: "Place") -> dict[str, int]:
    """Bytes of each file below `folder`, by its path from there; empty where there is no folder."""
    from upath import UPath

    root = UPath(folder)
    found = root.fs.find(root.path, detail=True)
    start = len(root.path.rstrip("/")) + 1
    names = {path[start:]: info["size"] for path, info in found.items()}
    return {name: size for name, size in names.items() if not re.search(r"(^|/)(\.[^/]*)?$", name)}


def bring_home(place: "Place", folder: Path, wanted: Callable[[str], bool], console: Console) -> int:
    """Copy the wanted files of `place` to `folder` that aren't there in that size; returns how many were.

    A storage that doesn't answer is asked again; a file is whole or not there.
    """
    here = sizes_below(folder)
    there = patiently(lambda: sizes_below(place))
    missing = [name for name, size in there.items() if wanted(name) and here.get(name) != size]

    def bring(name: str) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = patiently((place / name).read_bytes)
        write_atomically(path, lambda temporary: temporary.write_bytes(content))

    with ThreadPoolExecutor(AT_ONCE) as threads:
        done = threads.map(bring, missing)
        for _ in track(done, f"{place} ...", total=len(missing), console=console, transient=True):
            pass
    return len(missing)
