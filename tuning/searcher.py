"""Ray's own OptunaSearch, for the schedulers that are Ray's own too."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from optuna.trial import TrialState
from ray.tune.experiment import Trial
from ray.tune.search import ConcurrencyLimiter, Searcher, SearchGenerator
from ray.tune.search.optuna import OptunaSearch

from search_spaces import suggest
from trainable import metrics
from tuning.past import PastTrial
from tuning.plan import SearchPlan
from tuning.ray_trials import trial_from_files, write_configuration
from tuning.sampler import make_sampler
from tuning.study import StudyLog, journal_storage, new_journal

RANDOM_FIRST = 5
"""Random configurations before a sampler has enough to learn from."""


class StartSearcher(OptunaSearch):
    """For trials whose configuration changes on the way: their epochs say nothing about what was proposed."""

    def on_trial_result(self, trial_id: str, result: dict) -> None:
        """Not told to the study, where an epoch that came twice would also warn."""


def make_searcher(plan: SearchPlan, folder: Path, past: Sequence[PastTrial] = ()) -> OptunaSearch:
    """The plan's sampler on its space, after those of the plan's first configurations that no trial has had.

    Args:
        plan: Of the search.
        folder: Of the experiment; its study begins anew, with what the past trials reached.
        past: The trials of an interrupted search.
    """
    study = StudyLog(plan.name, plan.space, new_journal(folder))
    for trial in past:
        state = trial.state_in_study(plan.length) if trial.ended else TrialState.RUNNING
        study.put_back(trial.key, trial.own_values(plan), trial.curve, state)
    tried = [trial.own_values(plan) for trial in past]
    first = [config for config in plan.first if not any(config.items() <= values.items() for values in tried)]
    kind = StartSearcher if plan.scheduler == "pbt" else OptunaSearch
    searcher = kind(
        space=partial(suggest, plan.space),
        metric=metrics.SCORE,
        mode=metrics.SCORE_MODE,
        sampler=make_sampler(plan.sampler, plan.seed + len(past), RANDOM_FIRST),
        study_name=plan.name,
        storage=journal_storage(folder),
        points_to_evaluate=first or None,
    )
    searcher._ot_trials.update(study.open)
    return searcher


class ResumingGenerator(SearchGenerator):
    """Ray's, but the trials of an interrupted search that haven't ended go on first."""

    def __init__(
        self,
        searcher: Searcher,
        past: Sequence[PastTrial],
        folder: Path,
        is_held: Callable[[], bool] = lambda: False,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(searcher)
        self.folder = folder
        """Of the experiment."""
        self.is_held = is_held
        """Whether no trial may begin; Ray asks each second while none runs."""
        self.is_stopped = is_stopped
        """Whether the search was told to stop, which Ray itself doesn't notice while it waits for a trial."""
        self.unfinished = [trial for trial in past if not trial.ended]
        self._counter = max((trial.number for trial in past), default=0)

    def create_trial_if_possible(self, experiment_spec: dict) -> Trial | None:
        """Ray asks for a trial to run."""
        if self.unfinished:
            past = self.unfinished.pop(0)
            if isinstance(self.searcher, ConcurrencyLimiter):
                self.searcher.live_trials.add(past.key)
            return trial_from_files(experiment_spec, self._parser, past)
        trial = None if self.is_held() else super().create_trial_if_possible(experiment_spec)
        if trial is not None:
            write_configuration(trial, self.folder)
        return trial

    def is_finished(self) -> bool:
        """Whether no trial will begin or go on."""
        return self.is_stopped() or (not self.unfinished and super().is_finished())
