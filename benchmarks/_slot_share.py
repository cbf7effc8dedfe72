"""Which share of an experiment's slot time was spent inside training and evaluation, from the files it left."""

from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from trainable import metrics
from trainable.errors import UserError
from tuning.storage import read_records

STARTED = "experiment_state-"
"""Ray's own file, named by the second in which the search began."""


class SlotShare(NamedTuple):
    """`inside_s` seconds of training and evaluation, as a share of slots x seconds since the start or first step."""

    inside_s: float
    slots: int
    since_start_s: float
    since_first_step_s: float

    @property
    def since_start(self) -> float:
        """Share of the slot time from the start of the search."""
        return self.inside_s / (self.slots * self.since_start_s)

    @property
    def since_first_step(self) -> float:
        """Share of the slot time from when the first trial's first epoch began."""
        return self.inside_s / (self.slots * self.since_first_step_s)


def pauses(folder: Path) -> list[float]:
    """Seconds between two trials of one process, from a trial's last result to the next one's first batch.

    A trial that goes on after a pause counts as the next one, too.
    """
    records = sorted(read_records(folder), key=lambda record: record["pid"])  # of a process still in order of time
    return [
        begin_of(after) - before["timestamp"]
        for before, after in pairwise(records)
        if before["pid"] == after["pid"] and before["trial_name"] != after["trial_name"]
    ]


def begin_of(record: dict[str, Any]) -> float:
    """When an epoch's training began, the model being built, as Unix time."""
    return record["timestamp"] - metrics.epoch_seconds(record)


def slot_share(folder: Path, slots: int) -> SlotShare:
    """Read the experiment in `folder`; times are whole seconds, so it must have run much longer than one."""
    records = read_records(folder)
    starts = [began_at(path) for path in folder.glob(f"{STARTED}*.json")]
    if not records or not starts:
        raise UserError(f"--share {folder}: no experiment with finished epochs; give a folder such as runs/NAME")
    end = max(record["timestamp"] for record in records)
    first_step = min(begin_of(record) for record in records)
    return SlotShare(
        inside_s=sum(metrics.epoch_seconds(record) for record in records),
        slots=slots,
        since_start_s=end - min(starts),
        since_first_step_s=end - first_step,
    )


def began_at(path: Path) -> float:
    """The local time in a name such as `experiment_state-2026-11-24_14-57-26.json`, as seconds since 1970."""
    return datetime.strptime(path.stem.removeprefix(STARTED), "%Y-%m-%d_%H-%M-%S").timestamp()
