"""Ray's own OptunaSearch, for the schedulers that are Ray's own too."""

from functools import partial
from pathlib import Path

import optuna
from ray.tune.search.optuna import OptunaSearch

from search_spaces import suggest
from trainable import metrics
from tuning.plan import SearchPlan
from tuning.sampler import make_sampler
from tuning.study import journal_storage

RANDOM_FIRST = 5
"""Random configurations before a sampler has enough to learn from."""


class StartSearcher(OptunaSearch):
    """For trials whose configuration changes on the way: their epochs say nothing about what was proposed."""

    def on_trial_result(self, trial_id: str, result: dict) -> None:
        """Not told to the study, where an epoch that came twice would also warn."""


def make_searcher(plan: SearchPlan, folder: Path, resumed: bool = False) -> OptunaSearch:
    """The plan's sampler on its space, after the plan's first configurations.

    A resumed search finds those of them that haven't started waiting in the study.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kind = StartSearcher if plan.scheduler == "pbt" else OptunaSearch
    return kind(
        space=partial(suggest, plan.space),
        metric=metrics.SCORE,
        mode=metrics.SCORE_MODE,
        sampler=make_sampler(plan.sampler, plan.seed, RANDOM_FIRST),
        study_name=plan.name,
        storage=journal_storage(folder),
        points_to_evaluate=plan.first if plan.first and not resumed else None,
    )
