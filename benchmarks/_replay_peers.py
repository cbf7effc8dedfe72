"""Peers of Ray whose trials pause and go on, HyperBand and BOHB; and what peers need that know no conditions.

Ray's schedulers are asked and told in the order of its `TuneController`: new trials wait in a queue, the scheduler says
which of those that wait or pause runs next, and it stops paused trials itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from ray.tune.experiment import Trial
from ray.tune.schedulers import HyperBandForBOHB, HyperBandScheduler, TrialScheduler

from benchmarks._replay_methods import METRIC, STEP, Move, Random, Setting
from search_spaces import Choice, Dimension, Int, Space, start_point, suggest, unconditional

QUEUE = {"random": 200, "bohb": 1}
"""New trials that wait to run, by where they come from: the defaults of Ray's controller."""


@dataclass(eq=False)
class RayTrial:
    """What Ray's schedulers look at."""

    trial_id: str
    config: Mapping[str, Any]
    status: str = Trial.PENDING
    last_result: dict[str, Any] | None = None
    is_saving: bool = False


class RayHyperband:
    """Ray's HyperBand with random draws, or its variant for BOHB with its BOHB; it stands in for Ray's controller."""

    def __init__(self, setting: Setting, searcher: str) -> None:
        scheduler = HyperBandForBOHB if searcher == "bohb" else HyperBandScheduler
        options: dict[str, Any] = {} if setting.rungs is None else {"reduction_factor": setting.rungs[1]}
        self.scheduler: Any = scheduler(time_attr=STEP, metric=METRIC, mode="max", max_t=setting.steps, **options)
        self.space = setting.space
        self.searcher = tune_bohb(setting) if searcher == "bohb" else None
        self.search_alg = SimpleNamespace(searcher=self.searcher)
        self.queue = QUEUE[searcher]
        self.random = Random(setting)
        self.trials: dict[str, RayTrial] = {}

    def next(self) -> Move | None:
        """The trial that the scheduler chooses among those that wait and those that it lets go on."""
        for _ in range(self.queue - sum(trial.status == Trial.PENDING for trial in self.trials.values())):
            self._add()
        trial = self.scheduler.choose_trial_to_run(self)
        if trial is None:
            return None
        trial.status = Trial.RUNNING
        return Move(trial.trial_id, trial.config if trial.last_result is None else None)

    def report(self, key: str, step: int, score: float, seconds: float) -> bool:
        """As `TuneController._process_trial_result`: the searcher hears of a stop only that the trial is complete."""
        trial, result = self.trials[key], {METRIC: score, STEP: step, "trial_id": key}
        decision = self.scheduler.on_trial_result(self, trial, result)
        if self.searcher is not None and decision != TrialScheduler.STOP:
            self.searcher.on_trial_result(key, result)
        trial.last_result = result
        if decision == TrialScheduler.PAUSE:
            trial.status = Trial.PAUSED
        elif decision == TrialScheduler.STOP:
            self.stop_trial(trial)
        return decision == TrialScheduler.CONTINUE

    def get_trials(self) -> list[RayTrial]:
        """All trials, for the scheduler."""
        return list(self.trials.values())

    def stop_trial(self, trial: RayTrial) -> None:
        """As `TuneController.stop_trial`; the scheduler calls it for trials that pause."""
        if trial.status == Trial.TERMINATED:
            return
        if trial.status == Trial.RUNNING:
            self.scheduler.on_trial_complete(self, trial, trial.last_result)
        else:
            self.scheduler.on_trial_remove(self, trial)
        if self.searcher is not None:
            self.searcher.on_trial_complete(trial.trial_id)
        trial.status = Trial.TERMINATED

    def _add(self) -> None:
        key, config = self.random.next()
        if self.searcher is not None:
            config = restored(self.space, self.searcher.suggest(key))
        trial = self.trials[key] = RayTrial(key, config or {})
        self.scheduler.on_trial_add(self, trial)


def tune_bohb(setting: Setting) -> Any:
    """Ray's face of HpBandSter's BOHB, which draws from NumPy's global generator in spite of its seed."""
    import ConfigSpace
    from ray.tune.search.bohb import TuneBOHB

    def hyperparameter(dimension: Dimension) -> Any:
        name = dimension.name
        if isinstance(dimension, Choice):
            return ConfigSpace.CategoricalHyperparameter(name, range(len(dimension.values)))
        whole, real = ConfigSpace.UniformIntegerHyperparameter, ConfigSpace.UniformFloatHyperparameter
        kind = whole if isinstance(dimension, Int) else real
        return kind(name, dimension.low, dimension.high, log=dimension.log)

    np.random.seed(setting.seed)
    space = ConfigSpace.ConfigurationSpace()
    space.add(*map(hyperparameter, varied(setting.space)))
    return TuneBOHB(space, metric=METRIC, mode="max", points_to_evaluate=[flat_start(setting.space)], seed=setting.seed)


def varied(space: Space) -> list[Dimension]:
    """The dimensions that have more than one value, whether they apply or not."""
    return [
        dimension
        for dimension in space.dimensions
        if (len(dimension.values) > 1 if isinstance(dimension, Choice) else dimension.low < dimension.high)
    ]


def flat_start(space: Space) -> dict[str, Any]:
    """The start for a peer that knows no conditions: each varied dimension has a value, a choice the value's place."""
    start = start_point(unconditional(space))
    return {
        dimension.name: dimension.values.index(start[dimension.name])
        if isinstance(dimension, Choice)
        else start[dimension.name]
        for dimension in varied(space)
    }


def restored(space: Space, flat: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration that a peer means; what doesn't apply is left out, and rounding beyond an end is undone."""
    values = start_point(unconditional(space))
    for dimension in varied(space):
        value = flat[dimension.name]
        if isinstance(dimension, Choice):
            values[dimension.name] = dimension.values[int(value)]
        else:
            number = int(value) if isinstance(dimension, Int) else float(value)
            values[dimension.name] = min(max(number, dimension.low), dimension.high)
    return suggest(space, optuna.trial.FixedTrial(values))
