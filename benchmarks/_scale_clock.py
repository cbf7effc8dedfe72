"""The simulated half of `benchmarks.cluster_scale`: the real engine on a virtual clock, and a driver that takes time.

The driver is one server: results wait in the order in which their epochs end. Each takes what was measured of the real
one, and what the engine's answer really takes here, in CPU time. Until it is handled, its slot waits.
"""

import heapq
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks._scale_search import JITTER
from benchmarks.decision_time import made_up_score
from search_spaces import get_space
from tuning.engine import Action, Engine
from tuning.plan import Scheduler, SearchPlan
from tuning.policies import make_engine


class Costs(NamedTuple):
    """What a result costs the driver besides the policy's thinking, and what a slot loses besides waiting for it."""

    result_s: float
    """CPU time of the driver for a result, where no trial is known yet."""
    known_trial_s: float
    """And for each trial that is known."""
    handover_s: float
    """From one epoch's report to the begin of the slot's next epoch, less the driver's time."""


class Simulated(NamedTuple):
    """What came of a search on the virtual clock."""

    results: int
    trials: int
    busy: float
    """Share of slot time spent in epochs, from the start until a slot first finds nothing to do."""
    driver: float
    """Share of that time in which the driver worked."""
    lag_s: Sequence[float]
    """How long each result waited for the driver."""
    policy_s: Sequence[float]
    """What each result's decisions took."""
    known: Sequence[int]
    """Trials started when it was handled."""
    hours: float
    """Virtual length of it."""


def new_engine(scheduler: Scheduler, trials: int, epochs: int) -> Engine:
    """The engine of such a search of the space `all`."""
    plan = SearchPlan(
        space=get_space("all"),
        trial={},
        trials=trials,
        epochs=epochs,
        scheduler=scheduler,
        name="scale",
        output=Path(),
    )
    return make_engine(plan)


class Simulation:
    """The slots of a search, and the driver that they wait for."""

    def __init__(self, engine: Engine, slots: int, epoch_s: float, costs: Costs) -> None:
        self.engine = engine
        self.slots = slots
        self.epoch_s = epoch_s
        self.costs = costs
        self.rng = random.Random(1)
        self.ends: list[tuple[float, str]] = []
        """When running epochs end, and whose they are."""
        self.free_at = 0.0
        """When the driver has done what it was asked for."""
        self.worked, self.trained = 0.0, 0.0
        self.full = False
        """Whether a slot has found nothing to do."""

    def run(self) -> Simulated:
        """Until a slot finds nothing to do: what then still runs tells nothing of how well slots are filled."""
        lags: list[float] = []
        thoughts: list[float] = []
        known: list[int] = []
        now = 0.0
        for _ in range(self.slots):  # all ask at once
            self._fill()
        while self.ends and not self.full:
            now, key = heapq.heappop(self.ends)
            lags.append(max(0.0, self.free_at - now))
            self.free_at = max(self.free_at, now)
            begun = time.thread_time()
            trial = self.engine.trials[key]
            epoch = int(trial.steps) + 1
            action = self.engine.report(key, epoch, made_up_score(trial.config, epoch), self.epoch_s)
            goes_on = key if action is Action.CONTINUE else self._next_key()
            thoughts.append(time.thread_time() - begun)
            known.append(len(self.engine.trials))
            self._work(thoughts[-1] + self.costs.result_s + self.costs.known_trial_s * known[-1])
            self._begin(goes_on)
        rest = sum(max(0.0, end - now) for end, _ in self.ends)
        busy, driver = (self.trained - rest) / (self.slots * now), self.worked / now
        return Simulated(len(lags), len(self.engine.trials), busy, driver, lags, thoughts, known, now / 3600)

    def _fill(self) -> None:
        """Give a slot its first trial."""
        begun = time.thread_time()
        key = self._next_key()
        self._work(time.thread_time() - begun)
        self._begin(key)

    def _work(self, seconds: float) -> None:
        self.free_at += seconds
        self.worked += seconds

    def _begin(self, key: str | None) -> None:
        """The trial's next epoch, once the driver has said so."""
        if key is not None:
            length = self.epoch_s * self.rng.uniform(1 - JITTER, 1 + JITTER)
            self.trained += length
            heapq.heappush(self.ends, (self.free_at + self.costs.handover_s + length, key))

    def _next_key(self) -> str | None:
        """The trial that a free slot runs next."""
        move = self.engine.next_move()
        if move is None:
            self.full = True
            return None
        if move.key is not None:
            self.engine.promote()
            return move.key
        key = f"{len(self.engine.trials)}"
        return None if self.engine.start(key) is None else key


def quantile(values: Sequence[float], share: float) -> float:
    """0 where there are none."""
    return float(np.quantile(values, share)) if len(values) else 0.0
