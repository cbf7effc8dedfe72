"""Syne Tune's schedulers, asked and told in the order of its `Tuner`, with their own defaults.

No release has them all: 0.16.0 has no promotion and no Gaussian processes, and 0.14.2 is the last one that does.
"""

from datetime import datetime
from typing import Any

import numpy as np
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import choice, lograndint, loguniform, randint, uniform
from syne_tune.optimizer.scheduler import SchedulerDecision

from benchmarks._replay_methods import METRIC, STEP, Move, Setting, rung_options
from benchmarks._replay_peers import flat_start, restored, varied
from benchmarks._replay_releases import LEGACY, SYNE_RELEASES
from search_spaces import Choice, Dimension, Int


class SyneTune:
    """A scheduler of either release. Some draw from NumPy's global generator in spite of their seed."""

    def __init__(self, setting: Setting, name: str) -> None:
        np.random.seed(setting.seed)
        self.setting = setting
        self.legacy = SYNE_RELEASES[name] == LEGACY
        self.scheduler = (legacy_scheduler if self.legacy else scheduler)(setting, name)
        self.trials: list[Trial] = []

    def next(self) -> Move | None:
        """A new trial, or a paused one that goes on."""
        suggestion = self.scheduler.suggest(len(self.trials)) if self.legacy else self.scheduler.suggest()
        if suggestion is None:
            return None
        if not suggestion.spawn_new_trial_id:
            trial = self.trials[suggestion.checkpoint_trial_id]
            trial.config = suggestion.config or trial.config
            return Move(str(trial.trial_id))
        trial = Trial(len(self.trials), suggestion.config, datetime.now())
        self.trials.append(trial)
        self.scheduler.on_trial_add(trial)
        return Move(str(trial.trial_id), restored(self.setting.space, trial.config))

    def report(self, key: str, step: int, score: float, seconds: float) -> bool:
        """As `Tuner._update_running_trials`: a trial that stops or pauses is removed, the others end as complete."""
        trial, result = self.trials[int(key)], {METRIC: score, STEP: step}
        if self.scheduler.on_trial_result(trial, result) != SchedulerDecision.CONTINUE:
            self.scheduler.on_trial_remove(trial)
            return False
        if step >= self.setting.steps:
            self.scheduler.on_trial_complete(trial, result)
            return False
        return True


def scheduler(setting: Setting, name: str) -> Any:
    """A scheduler of the current release."""
    from syne_tune.optimizer import baselines

    classes = {
        "syne-asha-stopping": baselines.ASHA,
        "syne-bohb": baselines.BOHB,
        "syne-cqr": baselines.ASHACQR,
    }
    rungs = rung_options(setting, "grace_period", "reduction_factor")
    return classes[name](time_attr=STEP, do_minimize=False, **common(setting), **rungs)


def legacy_scheduler(setting: Setting, name: str) -> Any:
    """A scheduler of the last release that had it; DyHPO's rungs are a constant distance apart, which is its factor."""
    from syne_tune.optimizer import legacy_baselines

    classes = {
        "syne-asha-promotion": legacy_baselines.ASHA,
        "syne-mobster": legacy_baselines.MOBSTER,
        "syne-hypertune": legacy_baselines.HyperTune,
        "syne-dyhpo": legacy_baselines.DyHPO,
    }
    kind = {"type": "promotion"} if name == "syne-asha-promotion" else {}
    rungs = rung_options(setting, "grace_period", "reduction_factor")
    if name == "syne-dyhpo":
        rungs = rung_options(setting, "grace_period", "rung_increment", int)
    return classes[name](resource_attr=STEP, mode="max", **common(setting), **kind, **rungs)


def common(setting: Setting) -> dict[str, Any]:
    """What every scheduler is told."""
    return {
        "config_space": {dimension.name: domain(dimension) for dimension in varied(setting.space)},
        "metric": METRIC,
        "max_t": setting.steps,
        "random_seed": setting.seed,
        "points_to_evaluate": [flat_start(setting.space)],
    }


def domain(dimension: Dimension) -> Any:
    """A dimension in Syne Tune's words; a choice by the places of its values, which must be of one type there."""
    if isinstance(dimension, Choice):
        return choice(list(range(len(dimension.values))))
    if isinstance(dimension, Int):
        return (lograndint if dimension.log else randint)(dimension.low, dimension.high)
    return (loguniform if dimension.log else uniform)(dimension.low, dimension.high)
