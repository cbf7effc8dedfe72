"""The search's Optuna study, read from a copy, with scores that compare: all after the same number of epochs.

The study knows steps, which are epochs in searches of earlier versions.
"""

import math
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, create_trial

from analysis.pages.records import FEWEST, JOURNAL
from trainable.errors import UserError

COMPARED_SHARE = 1 / 3
"""The step at which trials are compared is the latest that this share of them reached."""


class Comparable(NamedTuple):
    """A study in memory whose trials are all complete, each with its score after the same step."""

    study: optuna.Study
    epoch: float
    """Where that step ends."""
    known: int
    """Trials with a score there; the study has a sample of them where they are many."""


def read_journal(folder: Path) -> list[FrozenTrial]:
    """The trials of an experiment's journal; nothing in `folder` is touched. UserError where it is gone or broken."""
    path = folder / JOURNAL
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary, JOURNAL)
        try:
            shutil.copyfile(path, copy)
            cut_to_whole_lines(copy)
            storage = JournalStorage(JournalFileBackend(str(copy)))
            studies = storage.get_all_studies()
            return [trial for study in studies for trial in storage.get_all_trials(study._study_id, deepcopy=False)]
        except FileNotFoundError:
            raise UserError(f"{path}: isn't there; the search writes it when it is resumed") from None
        except Exception as error:  # Optuna repeats each line as it stands, and raises nearly everything on a wrong one
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{path}: can't be read ({type(error).__name__}: {reason})") from None


def cut_to_whole_lines(path: Path) -> None:
    """Leave out a last line that a running search is about to finish, over which Optuna would stumble."""
    with path.open("r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def compared_step(curves: list[dict[int, float]]) -> int:
    """The latest step that `COMPARED_SHARE` of the curves reached, and at least `FEWEST`; 0 where none is."""
    wanted = max(FEWEST, math.ceil(len(curves) * COMPARED_SHARE))
    steps = sorted((max(curve) for curve in curves if curve), reverse=True)
    return steps[wanted - 1] if len(steps) >= wanted else 0


def comparable(trials: list[FrozenTrial], most: int, step_epochs: float = 1.0) -> Comparable | None:
    """A study of at most `most` trials (a sample, fixed) with their score at one step; None where too few have one."""
    curves = [finite(trial.intermediate_values) for trial in trials]
    step = compared_step(curves)
    scores = [(trial, curve[step]) for trial, curve in zip(trials, curves, strict=True) if step in curve]
    if len(scores) < FEWEST:
        return None
    every = math.ceil(len(scores) / most)
    kept = [
        create_trial(value=value, params=trial.params, distributions=trial.distributions)
        for trial, value in scores[::every]
    ]
    return Comparable(study_of(kept), step * step_epochs, len(scores))


def thinned(study: optuna.Study, most: int) -> optuna.Study:
    """A study of every n-th trial, at most `most`, and of the best one."""
    trials = study.trials
    step = math.ceil(len(trials) / most)
    kept = trials[::step]
    return study if step == 1 else study_of([*kept, *([] if study.best_trial in kept else [study.best_trial])])


def study_of(trials: Iterable[FrozenTrial]) -> optuna.Study:
    """A study in memory of these trials."""
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    return study


def varying(study: optuna.Study) -> list[str]:
    """The hyper-parameters that have several values, by name."""
    values: dict[str, set[Any]] = {}
    for trial in study.get_trials(deepcopy=False):
        for name, value in trial.params.items():
            values.setdefault(name, set()).add(value)
    return sorted(name for name, seen in values.items() if len(seen) > 1)


def finite(curve: dict[int, float]) -> dict[int, float]:
    """The scores that are numbers."""
    return {step: value for step, value in curve.items() if math.isfinite(value)}
