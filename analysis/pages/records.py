"""An experiment as the page needs it: read once, also while its search runs."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from analysis.experiment import TrialFiles, read_trials, trials_frame
from analysis.manifest import MANIFEST, read_manifest
from analysis.pages.facts import checked_facts
from trainable import metrics
from trainable.config import PROBE
from trainable.errors import UserError
from trainable.experiment_lock import is_running

if TYPE_CHECKING:
    from analysis.manifest import Manifest

DECISIONS, JOURNAL, ENSEMBLE = "decisions.jsonl", "study.journal", "ensemble"
FEWEST = 8
"""Trials with a score, below which a model of the scores says nothing."""
DECIDED_STATES = {"pause": "paused", "stop": "stopped"}
"""What the last decision says of a trial that has no last record: one that waited when it was ended gets none."""
UNKNOWN = "unknown"
"""The architecture of a trial whose configuration was lost."""

NUMBERS = (
    metrics.EPOCH, metrics.SELECT_TOP1, metrics.SELECT_LOSS, metrics.SECONDS_TRAIN, metrics.SECONDS_EVAL,
    metrics.SECONDS_CHECKPOINT, "timestamp", "pid",
)  # fmt: skip
"""What `Search.steps` takes from each record; `timestamp` is the end of the step, in seconds since 1970."""
PARTS = (metrics.SECONDS_TRAIN, metrics.SECONDS_EVAL, metrics.SECONDS_CHECKPOINT)
"""What a step's time consists of."""


class Search(NamedTuple):
    """What an experiment's folder says."""

    folder: Path
    facts: dict[str, Any]
    """experiment.json."""
    trials: pd.DataFrame
    """Of `load_experiment`, best first; `state` says paused, stopped, running or interrupted instead of unfinished."""
    steps: pd.DataFrame
    """One row a step by trial and epoch: trial, arch, hostname, diverged, seconds (of all `PARTS`), passes (epochs that
    it took), and `NUMBERS` (NaN where a record lacks one). In experiments of earlier versions a step is an epoch."""
    manifest: "Manifest | None"
    problem: str
    """Why the ensemble that is there can't be read."""
    running: bool

    @property
    def plan(self) -> dict[str, Any]:
        """What was asked for; empty where experiment.json doesn't say."""
        return self.facts.get("plan", {})

    @property
    def scored(self) -> pd.DataFrame:
        """The steps that have a score."""
        return self.steps[~self.steps["diverged"] & self.steps[metrics.SELECT_TOP1].notna()]

    @property
    def full_epochs(self) -> float:
        """Epochs of a full training: the plan's, or the longest trial's where it isn't known."""
        return float(self.plan.get("epochs") or self.trials["epochs"].max())

    @property
    def full_steps(self) -> int:
        """Steps of a full training: one an epoch where the plan doesn't say."""
        return int(self.plan.get("steps") or max(1, math.ceil(self.full_epochs)))

    @property
    def step_epochs(self) -> float:
        """Epochs that a step takes."""
        return self.full_epochs / self.full_steps

    @property
    def passes(self) -> float:
        """Epochs of all trials together."""
        return float(self.steps["passes"].sum())

    @property
    def seconds(self) -> float:
        """That slots were used."""
        return float(self.steps["seconds"].sum())


def read_search(folder: Path) -> Search:
    """UsageError where `folder` is no experiment, UserError where it has no trial yet, or is of another version."""
    facts, files = checked_facts(folder), read_trials(folder)
    running = is_running(folder)
    try:
        trials, steps = trials_frame(files), steps_frame(files)
    except KeyError as error:
        raise UserError(f"{folder}: a record has no {error}; read it with the version that made it") from None
    trials["arch"] = trials["arch"].fillna(UNKNOWN).astype(str)
    trials["state"] = named_states(trials, last_decisions(folder), running)
    manifest, problem = found_manifest(folder / ENSEMBLE)
    return Search(folder, facts, trials, steps, manifest, problem, running)


def named_states(trials: pd.DataFrame, decisions: dict[str, str], running: bool) -> pd.Series:
    """The states, with `unfinished` told apart by the last decision on the number that a trial's name begins with."""
    decided = trials["trial"].str.partition("-")[0].map(decisions)
    told = decided.map(DECIDED_STATES).fillna("running" if running else "interrupted")
    return trials["state"].where(trials["state"] != "unfinished", told)


def last_decisions(folder: Path) -> dict[str, str]:
    """The kind of the last decision on each trial, by the trial's number."""
    try:
        lines = (folder / DECISIONS).read_text(errors="replace").splitlines()
    except OSError:  # a scheduler of Ray's: the states are then less exact
        return {}
    last: dict[str, str] = {}
    for line in lines:
        try:
            decision = json.loads(line)
            last[decision["trial"].rpartition("-")[2]] = str(decision["kind"])
        except (ValueError, KeyError, TypeError, AttributeError):  # half a line
            continue
    return last


def steps_frame(files: Sequence[TrialFiles]) -> pd.DataFrame:
    """One row for each step of each trial."""
    columns = ("trial", "arch", "hostname", "diverged", *NUMBERS)
    rows = [
        (
            trial.path.name,
            str(trial.config.get("arch", UNKNOWN)),
            str(record.get("hostname", "")),
            bool(record[metrics.DIVERGED]),
            *(record.get(name) for name in NUMBERS),
        )
        for trial in files
        for record in trial.records
    ]
    frame = pd.DataFrame(rows, columns=list(columns))
    frame["diverged"] = frame["diverged"].astype(bool)
    frame[list(NUMBERS)] = frame[list(NUMBERS)].apply(pd.to_numeric, errors="coerce")
    frame["seconds"] = frame[list(PARTS)].sum(axis=1)
    passes = frame[metrics.EPOCH] - frame.groupby("trial")[metrics.EPOCH].shift(fill_value=0)
    probes = [trial.path.name for trial in files if trial.config.get("freeze") == PROBE]
    frame["passes"] = passes.mask(frame["trial"].isin(probes), 0.0)
    return frame


def found_manifest(folder: Path) -> "tuple[Manifest | None, str]":
    """The ensemble's manifest, or why there is none; no reason where none was exported yet."""
    if not (folder / MANIFEST).is_file():
        return None, ""
    try:
        return read_manifest(folder), ""
    except UserError as error:
        return None, str(error)
