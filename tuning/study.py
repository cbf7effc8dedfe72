"""The study that others read: every trial with its scores and its right state, in Optuna's journal storage.

`optuna-dashboard runs/NAME/study.journal` shows it while the search runs.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import PartialFixedSampler, RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from search_spaces import Space, suggest
from trainable.errors import UserError
from tuning.storage import cut_half_line

JOURNAL = "study.journal"
"""Optuna's journal in the experiment's folder."""
TRIAL = "trial"
"""User attribute that names Ray's trial."""


def journal_storage(folder: Path) -> JournalStorage:
    """The storage of the experiment in `folder`; UserError where the journal that is there can't be read."""
    path = folder / JOURNAL
    try:
        if path.is_file():
            cut_half_line(path)  # Optuna would leave it out, and then write the next line behind it
            _check_lines(path)
        storage = JournalStorage(JournalFileBackend(str(path)))
        _check_trials(storage)
        return storage
    except Exception as error:  # Optuna repeats each line as it stands, and raises nearly everything on a wrong one
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: isn't the journal that was written ({type(error).__name__}: {reason}); move this file away and "
            "resume: the trials themselves are in their own folders"
        ) from None


def _check_lines(path: Path) -> None:
    """ValueError with the number of the first line that isn't JSON; Optuna finds the last one only when it writes."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None


def _check_trials(storage: JournalStorage) -> None:
    """Whatever Optuna raises for a trial that it would not have written, such as a complete one without a score."""
    for study in storage.get_all_studies():
        for trial in storage.get_all_trials(study._study_id, deepcopy=False):
            trial._validate()
            if trial.values is not None and len(trial.values) != len(study.directions):
                raise ValueError(f"trial {trial.number} has {len(trial.values)} scores")


def new_journal(folder: Path) -> JournalStorage:
    """The storage of a search that begins, or that begins again: the trials' folders say what belongs into it.

    The lock that a killed search leaves would hold up every write for half a minute.
    """
    for path in folder.glob(f"{JOURNAL}*"):
        path.unlink()
    return journal_storage(folder)


def add_running(study: optuna.Study, trial: FrozenTrial) -> optuna.Trial:
    """Add a running trial that was proposed elsewhere; returns it as one that can be told its scores."""
    study.add_trial(trial)
    return optuna.Trial(study, study.get_trials(deepcopy=False)[-1]._trial_id)


class StudyLog:
    """Writes trials to the study; nothing reads it to decide."""

    def __init__(self, name: str, space: Space, storage: optuna.storages.BaseStorage) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space = space
        self.study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        self.open: dict[str, optuna.Trial] = {}

    def start(self, key: str, config: dict[str, Any]) -> None:
        """A trial begins."""
        fixed = FixedTrial(config)
        suggest(self.space, fixed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            self.study.sampler = PartialFixedSampler(fixed.params, RandomSampler())
        trial = self.study.ask()
        suggest(self.space, trial)
        trial.set_user_attr(TRIAL, key)
        self.open[key] = trial

    def put_back(self, key: str, config: dict[str, Any], curve: dict[float, float], state: TrialState) -> None:
        """A trial of an interrupted search, with its score after each step."""
        fixed = FixedTrial(config)
        suggest(self.space, fixed)
        trial = create_trial(
            state=state,
            value=curve[max(curve)] if state == TrialState.COMPLETE else None,
            params=fixed.params,
            distributions=fixed.distributions,
            intermediate_values={int(step): score for step, score in curve.items() if step == int(step)},
            user_attrs={TRIAL: key},
        )
        if state == TrialState.RUNNING:
            self.open[key] = add_running(self.study, trial)
        else:
            self.study.add_trial(trial)

    def report(self, key: str, step: int, score: float) -> None:
        """A trial finished a step, for the first time: a study takes no second score of it."""
        self.open[key].report(score, step)

    def end(self, key: str, state: TrialState, score: float | None = None) -> None:
        """A trial ended: COMPLETE at its full length with its score, PRUNED before, FAIL where it broke."""
        self.study.tell(self.open.pop(key), score if state == TrialState.COMPLETE else None, state=state)
