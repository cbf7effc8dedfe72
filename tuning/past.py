"""The trials of an interrupted search, from their folders alone: what a resumed search and a retried trial go on from.

A trial's params.json, its result.json and its checkpoints are the truth. Decisions and study are brought in line with
them, and Ray's own state isn't read: it may be seconds older, and names checkpoints that are no longer there.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from optuna.trial import TrialState

from search_spaces import SpaceError, contains
from trainable import metrics
from trainable.address import delete_tree
from trainable.errors import UserError
from trainable.files import RECORD, STATE, broken_files, read_object, read_record, write_text
from trainable.ranking import rank_score
from tuning.engine import WORST
from tuning.plan import SearchPlan
from tuning.storage import RESULTS, cut_half_line, read_lines

if TYPE_CHECKING:
    from trainable.address import Place

LENGTH = ("epochs", "steps")
"""What of a configuration the plan says beside its `trial`."""
PARAMS, FAILURE = "params.json", "failure.txt"
"""A trial's configuration, and why it failed for good: the reason in the first line, then the tail of its log."""


class PastTrial(NamedTuple):
    """A trial as its folder shows it."""

    key: str
    """Ray's id of it."""
    folder: Path
    config: dict[str, Any]
    records: dict[float, dict[str, Any]]
    """Of each step, in order; of one that was trained again, the last."""
    saved: float | None
    """The step of its newest checkpoint, from which it can go on: 0 where none was written; None where it is gone."""
    failed: bool
    kept: "Place"
    """Where its checkpoints are: `folder`, or its folder in the search's storage."""

    @property
    def number(self) -> int:
        """Its place in the order of proposals, from 1."""
        return int(self.folder.name.split("-")[0])

    @property
    def curve(self) -> dict[float, float]:
        """Score after each step, as decisions compare it; the worst if a record has none, or one that is no number."""
        scores = {step: rank_score(record) for step, record in self.records.items()}
        return {step: score if math.isfinite(score) else WORST for step, score in scores.items()}

    @property
    def diverged(self) -> bool:
        """Whether its loss was no number at its last step."""
        return bool(self.records) and bool(list(self.records.values())[-1].get(metrics.DIVERGED))

    @property
    def ended(self) -> bool:
        """Whether it was told to stop, reached its full length, diverged or failed."""
        return self.failed or (bool(self.records) and bool(list(self.records.values())[-1].get("done")))

    def own_values(self, plan: SearchPlan) -> dict[str, Any]:
        """What its configuration has of the space, without what all trials share."""
        shared = {*plan.trial, *LENGTH} - {dimension.name for dimension in plan.space.dimensions}
        return {name: value for name, value in self.config.items() if name not in shared}

    def state_in_study(self, steps: int) -> TrialState:
        """How it stands in Optuna's terms, given that it ended; `steps` are the full length."""
        if self.failed:
            return TrialState.FAIL
        return TrialState.COMPLETE if max(self.records, default=0) >= steps else TrialState.PRUNED


def trial_key(experiment: str, number: int) -> str:
    """Ray's id of a trial, which its folder's name tells too: `3f9a21c0-0007`."""
    return f"{experiment}-{number:04}"


def trial_folders(folder: Path) -> list[Path]:
    """The folders of an experiment's trials."""
    return [path for path in folder.glob("[0-9]*-*") if path.is_dir()]


def read_past(folder: Path, experiment: str, place: "Place | None" = None) -> list[PastTrial]:
    """The trials of the experiment in `folder`, in the order of their proposal; `place` is where checkpoints are, if
    elsewhere."""
    found = [read_trial(path, experiment, place) for path in trial_folders(folder)]
    return sorted((trial for trial in found if trial), key=lambda trial: trial.number)


def read_trial(folder: Path, experiment: str, place: "Place | None" = None) -> PastTrial | None:
    """The trial in `folder`, with checkpoints there or in its folder below `place`; None where nothing tells its
    configuration, so that it hadn't started.

    What a power cut took from the end of result.json is in its newest checkpoint too.
    """
    kept = folder if place is None else place / folder.name
    checkpoints = whole_checkpoints(kept)
    lines = [record for record in read_lines(folder / RESULTS) if metrics.EPOCH in record]
    config = _configuration(folder, lines)
    if config is None:
        return None
    key = lines[-1]["trial_id"] if lines else trial_key(experiment, int(folder.name.split("-")[0]))
    newest_record = read_record(checkpoints[-1]) if checkpoints else None
    history = newest_record["epochs"] if newest_record else []
    common = {"trial_id": key, "config": config, "timestamp": int(folder.stat().st_mtime)}
    records = {metrics.step_of(record): common | record for record in [*history, *lines]}
    saved = [checkpoint_step(path) for path in checkpoints if (path / STATE).is_file()]
    newest = max(saved) if saved else None if checkpoints else 0
    failed = (folder / FAILURE).is_file()
    return PastTrial(key, folder, config, {step: records[step] for step in sorted(records)}, newest, failed, kept)


def _configuration(folder: Path, records: list[dict[str, Any]]) -> dict[str, Any] | None:
    """A trial's params.json; where that is broken, what its records say."""
    config = read_object(folder / PARAMS)
    return config or next((record["config"] for record in records if "config" in record), None)


def configuration_text(config: dict[str, Any]) -> str:
    """The content of params.json."""
    return json.dumps(config, indent=2, sort_keys=True, default=str)


def check_space(past: Iterable[PastTrial], plan: SearchPlan) -> None:
    """UserError where a trial's configuration isn't one of the plan's space: one of the two was changed since."""
    for trial in past:
        try:
            contains(plan.space, trial.own_values(plan))
        except SpaceError as error:
            what_helps = "restore it, or the space in experiment.json, or move this folder away"
            raise UserError(f"{trial.folder / PARAMS}: {error}; {what_helps}") from None


def mend(folder: Path, experiment: str, place: "Place | None" = None) -> list[str]:
    """Bring a trial's files in order after whatever ended the search: no broken checkpoint, no half line, no gap.

    Returns:
        The names of checkpoints that had been written to their end and are broken all the same.
    """
    broken = drop_broken(folder if place is None else place / folder.name)
    trial = read_trial(folder, experiment, place)
    if trial is None:
        return broken
    if read_object(folder / PARAMS) is None:
        write_text(folder / PARAMS, configuration_text(trial.config))
    known = [metrics.step_of(record) for record in read_lines(folder / RESULTS) if metrics.EPOCH in record]
    cut_half_line(folder / RESULTS)
    if known != list(trial.records):
        text = "".join(json.dumps(record) + "\n" for record in trial.records.values())
        write_text(folder / RESULTS, text)
    return broken


def whole_checkpoints(folder: "Place") -> list["Place"]:
    """A trial's checkpoints that were written to their end, oldest first; their files aren't looked into."""
    return [path for path in checkpoints_in(folder) if read_record(path) is not None]


def checkpoints_in(folder: "Place") -> list["Place"]:
    """A trial's checkpoints, also unfinished ones, oldest first."""
    found: list[Place] = [*folder.glob("checkpoint_*")]
    return sorted(found, key=lambda path: path.name)


def drop_broken(folder: "Place") -> list[str]:
    """Delete a trial's newest checkpoints while they are unfinished, or hold a file that isn't what was written.

    What lies before a good one was good when that was begun. Returns the names of those that aren't just unfinished.
    """
    broken = []
    for path in reversed(checkpoints_in(folder)):
        record = read_record(path)
        is_here = isinstance(path, Path)  # elsewhere, a file is as it was written, or not there
        if record is not None and not (is_here and broken_files(path, record)):
            break
        broken += [path.name] if (path / RECORD).exists() else []
        delete_tree(path)
    return broken


def checkpoint_step(folder: "Place") -> float:
    """The step after which a checkpoint was written."""
    record = json.loads((folder / RECORD).read_text())
    return metrics.step_of(record["epochs"][-1])
