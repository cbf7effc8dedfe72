"""Which configuration next: Optuna through Ray's OptunaSearch, with the study in a journal that others can read."""

import warnings
from functools import partial
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from ray.tune.search.optuna import OptunaSearch

from search_spaces import start_point, suggest
from trainable import metrics
from tuning.plan import SearchPlan

JOURNAL = "study.journal"
"""Optuna's journal in the experiment's folder."""

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
        sampler=make_sampler(plan.sampler, plan.seed),
        study_name=plan.name,
        storage=journal_storage(folder),
        points_to_evaluate=[first] if first and not resumed else None,
    )


def make_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """Optuna's sampler `name`, seeded; TPE models conditional dimensions in groups and counts running trials."""
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=True, group=True, constant_liar=True, n_startup_trials=RANDOM_FIRST
        )


def journal_storage(folder: Path) -> JournalStorage:
    """The experiment's study, readable by optuna-dashboard while the search runs."""
    return JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
