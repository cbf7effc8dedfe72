"""The study that others read: every trial with its scores and its right state, in Optuna's journal storage.

`optuna-dashboard runs/NAME/study.journal` shows it while the search runs.
"""

import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import PartialFixedSampler, RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FixedTrial, TrialState, create_trial

from search_spaces import Space, suggest

JOURNAL = "study.journal"
"""Optuna's journal in the experiment's folder."""
TRIAL = "trial"
"""User attribute that names Ray's trial."""


def journal_storage(folder: Path) -> JournalStorage:
    """The storage of the experiment in `folder`."""
    return JournalStorage(JournalFileBackend(str(folder / JOURNAL)))


class StudyLog:
    """Writes trials to the study; nothing reads it to decide."""

    def __init__(self, name: str, space: Space, storage: optuna.storages.BaseStorage) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space = space
        self.study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        running = (trial for trial in self.study.get_trials(deepcopy=False) if trial.state == TrialState.RUNNING)
        self.open = {str(trial.user_attrs.get(TRIAL)): optuna.Trial(self.study, trial._trial_id) for trial in running}

    def start(self, key: str, config: dict[str, Any], curve: dict[int, float] | None = None) -> None:
        """A trial begins, or goes on with `curve` after an earlier search had ended it."""
        if key in self.open:
            return
        fixed = FixedTrial(config)
        suggest(self.space, fixed)
        if curve:
            self.study.add_trial(
                create_trial(
                    state=TrialState.RUNNING,
                    params=fixed.params,
                    distributions=fixed.distributions,
                    intermediate_values=curve,
                    user_attrs={TRIAL: key},
                )
            )
            trial = optuna.Trial(self.study, self.study.get_trials(deepcopy=False)[-1]._trial_id)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                self.study.sampler = PartialFixedSampler(fixed.params, RandomSampler())
            trial = self.study.ask()
            suggest(self.space, trial)
            trial.set_user_attr(TRIAL, key)
        self.open[key] = trial

    def report(self, key: str, epoch: int, score: float) -> None:
        """A trial finished an epoch."""
        self.open[key].report(score, epoch)

    def end(self, key: str, state: TrialState, score: float | None = None) -> None:
        """A trial ended: COMPLETE at its full length with its score, PRUNED before, FAIL where it broke."""
        self.study.tell(self.open.pop(key), score if state == TrialState.COMPLETE else None, state=state)
