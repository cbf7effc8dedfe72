"""Experiments and ensembles in a storage: read here, in a copy that is brought up to date, and results sent back."""

import hashlib
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from trainable.address import is_address, open_place, patiently, storage_errors
from trainable.errors import UsageError
from trainable.experiment_files import bring_home, is_material, sizes_below

ADDRESS = ".address"
"""File in a copy that names where it is from."""


def at_home(text: str) -> Path:
    """A folder on this machine: `text` itself, or a copy of what is at that address, with what is new there.

    The copy is in the user's cache folder; what only further training needs isn't copied.
    """
    if not is_address(text):
        return Path(text)
    place = open_place(text, "")
    if isinstance(place, Path):
        return place
    from trainable.data.cache import default_cache_dir

    address = str(place)
    folder = default_cache_dir() / "experiments" / hashlib.sha256(address.encode()).hexdigest()[:12] / place.name
    with storage_errors("", address):
        if not patiently(lambda: sizes_below(place)):
            raise UsageError(f"{address}: nothing is there; check the address: s3://BUCKET/RUNS/NAME")
        bring_home(place, folder, is_material, Console(stderr=True))
    (folder / ADDRESS).write_text(address)
    return folder


def send_back(folder: Path, name: str) -> None:
    """Copy the folder `name` of an experiment's copy to where that is from; nothing for one that is no copy."""
    if not (folder / ADDRESS).is_file():
        return
    from analysis.manifest import MANIFEST  # with pydantic: not needed for --help

    address = (folder / ADDRESS).read_text()
    place = open_place(address, "") / name
    with storage_errors("", address):
        files = [path for path in (folder / name).rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda path: path.name == MANIFEST):  # last: it says that an export is complete
            there = place / path.relative_to(folder / name).as_posix()
            patiently(partial(there.write_bytes, path.read_bytes()))
        for gone in sizes_below(place).keys() - sizes_below(folder / name).keys():
            patiently(partial((place / gone).unlink))
    print(f"{'copied':8} to {place}")


ExperimentFolder = Annotated[
    Path, typer.Argument(parser=at_home, metavar="EXPERIMENT", help="Folder of the search: runs/NAME, or s3://...")
]
EnsembleFolder = Annotated[
    Path, typer.Argument(parser=at_home, metavar="ENSEMBLE", help="Folder that analysis.export wrote, also s3://...")
]
