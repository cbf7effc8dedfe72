"""What a job has left in its storage: how far it is, and its files brought home."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from trainable import metrics
from trainable.address import open_place, storage_errors
from trainable.errors import UserError
from trainable.experiment_files import bring_home, is_record, sizes_below
from tuning.storage import EXPERIMENT, RESULTS, read_records


class Experiment(NamedTuple):
    """An experiment in a storage."""

    name: str
    storage: str
    files: frozenset[str]
    """By their path in the experiment's folder."""

    @property
    def begun(self) -> bool:
        """Whether the search has written there."""
        return EXPERIMENT in self.files

    @property
    def has_ensemble(self) -> bool:
        """Whether the search has come to its end once."""
        return "ensemble/ensemble.json" in self.files


class Standing(NamedTuple):
    """How far a search is."""

    trials: int
    epochs: int
    """Of all trials together."""
    best: dict[str, Any] | None
    """The record of the epoch with the highest top-1, with its `trial_name`."""


def open_experiment(storage: str, name: str) -> Experiment:
    """List what the storage has of the experiment.

    Raises:
        UserError: The storage doesn't answer, isn't there or denies access.
    """
    with storage_errors("--storage", storage):
        return Experiment(name, storage, frozenset(sizes_below(open_place(storage, "--storage") / name)))


def read_identity(experiment: Experiment) -> dict[str, Any]:
    """What experiment.json holds: the experiment's id and plan, and facts; UserError where it isn't written yet."""
    if not experiment.begun:
        raise UserError(
            f"{experiment.name}: has written nothing to {experiment.storage} yet; "
            f"see what it does by: python -m tuning.jobs logs {experiment.name}"
        )
    with storage_errors("--storage", experiment.storage):
        path = open_place(experiment.storage, "--storage") / experiment.name / EXPERIMENT
        return dict(json.loads(path.read_text()))


def read_standing(experiment: Experiment) -> Standing:
    """Trials, epochs and the best one, from the trials' records."""
    with tempfile.TemporaryDirectory() as name:
        bring(experiment, Path(name), Console(quiet=True), lambda path: path.endswith(f"/{RESULTS}"))
        records = [record for record in read_records(Path(name)) if metrics.EPOCH in record]
    epochs = {(record["trial_name"], record[metrics.EPOCH]) for record in records}
    best = max(records, key=lambda record: record.get(metrics.SCORE, 0.0), default=None)
    return Standing(len({trial for trial, _ in epochs}), len(epochs), best)


def fetch_experiment(experiment: Experiment, to: Path, everything: bool, console: Console) -> tuple[Path, int]:
    """Copy the experiment to the folder `to`: all but the checkpoints, or these too, where they aren't there yet.

    Returns:
        The experiment's folder here, and how many files came.

    Raises:
        UserError: There is nothing yet, or `to` has another experiment of that name.
    """
    folder = to / experiment.name
    check_same(experiment, folder)
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{experiment.name}-", dir=to) as fresh:  # all anew: sizes don't tell
        count = bring(experiment, Path(fresh), console, is_record)
        for source in (path for path in Path(fresh).rglob("*") if path.is_file()):
            target = folder / source.relative_to(fresh)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, target)
    if everything:
        count += bring(experiment, folder, console, lambda path: not is_record(path))
    return folder, count


def check_same(experiment: Experiment, folder: Path) -> None:
    """UserError where `folder` holds another experiment than the storage."""
    there, here = read_identity(experiment), folder / EXPERIMENT
    try:
        known = json.loads(here.read_text()).get("id") if here.is_file() else there.get("id")
    except ValueError:
        known = None
    if known != there.get("id"):
        raise UserError(f"--to {folder.parent}: {folder} is another experiment; give another folder")


def bring(experiment: Experiment, folder: Path, console: Console, wanted: Callable[[str], bool]) -> int:
    """Copy the wanted files to `folder`; a name that leads out of it isn't followed. Returns how many came."""
    with storage_errors("--storage", experiment.storage):
        place = open_place(experiment.storage, "--storage") / experiment.name
        return bring_home(place, folder, wanted, console)
