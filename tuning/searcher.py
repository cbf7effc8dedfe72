"""Ray's own OptunaSearch, for the schedulers that are Ray's own too."""

from functools import partial
from pathlib import Path

import optuna
from ray.tune.search.optuna import OptunaSearch

from search_spaces import start_point, suggest
from trainable import metrics
from tuning.plan import SearchPlan
from tuning.sampler import make_sampler
from tuning.study import journal_storage

RANDOM_FIRST = 5
"""Random configurations before TPE has enough to learn from."""


def make_searcher(plan: SearchPlan, folder: Path, resumed: bool = False) -> OptunaSearch:
    """The plan's sampler on its space. The first trial is the space's starting point, unless the search is resumed."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    first = start_point(plan.space)
    return OptunaSearch(
        space=partial(suggest, plan.space),
        metric=metrics.SCORE,
        mode=metrics.SCORE_MODE,
        sampler=make_sampler(plan.sampler, plan.seed, RANDOM_FIRST),
        study_name=plan.name,
        storage=journal_storage(folder),
        points_to_evaluate=[first] if first and not resumed else None,
    )
