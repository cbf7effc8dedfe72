"""A virtual clock: slots that run trials whose results are known beforehand, in the order of time."""

import heapq
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks._replay_curves import Curve, Curves, regret_of
from benchmarks._replay_methods import Method, Move

GRID = tuple(percent / 100 for percent in range(1, 101))
"""Shares of the budget at which the regret is noted."""


class Event(NamedTuple):
    """A step that will be finished; events sort by time, then slot."""

    time: float
    slot: int
    key: str


@dataclass
class Replay:
    """What came of one search."""

    trace: list[tuple[float, float]] = field(default_factory=list)
    """Slot time spent, and the incumbent's regret then, after each step."""
    trials: int = 0
    """Trials started."""
    full: int = 0
    """Trials that reached their last step."""
    ask_s: list[float] = field(default_factory=list)
    """Seconds of each answer to what a free slot does."""
    report_s: list[float] = field(default_factory=list)
    """Seconds of each answer to whether a trial goes on."""

    def regrets(self, budget: float) -> list[float]:
        """The incumbent's regret at each share of `GRID`; 1 before the first result."""
        values, index, regret = [], 0, 1.0
        for share in GRID:
            while index < len(self.trace) and self.trace[index][0] <= share * budget + 1e-9:
                regret = self.trace[index][1]
                index += 1
            values.append(regret)
        return values


class Clock:
    """Runs a method's trials on `slots` slots until `budget` slot time is spent."""

    def __init__(self, method: Method, curves: Curves, slots: int) -> None:
        self.method = method
        self.curves = curves
        self.slots = slots
        self.replay = Replay()
        self.running: dict[str, Curve] = {}
        self.done: dict[str, int] = {}
        """Steps done by each trial."""
        self.events: list[Event] = []

    def run(self, budget: float) -> Replay:
        """A slot that finds nothing to do asks again when a result arrives."""
        spent, best, idle = 0.0, 0.0, list(range(self.slots))
        idle = self._fill(idle, 0.0)
        while self.events:
            event = heapq.heappop(self.events)
            curve = self.running[event.key]
            spent += curve.cost
            if spent > budget + 1e-9:
                break
            step = self.done[event.key] = self.done[event.key] + 1
            self.replay.full += step == len(curve.scores)
            score = float(curve.scores[step - 1])
            best = max(best, score)
            self.replay.trace.append((spent, regret_of(best)))
            if self._report(event.key, step, score):
                heapq.heappush(self.events, event._replace(time=event.time + curve.cost))
            else:
                idle.append(event.slot)
            idle = self._fill(sorted(idle), event.time)
        return self.replay

    def _fill(self, idle: list[int], now: float) -> list[int]:
        """Give the free slots work; returns those that still have none."""
        for index, slot in enumerate(idle):
            move = self._ask()
            if move is None:
                return idle[index:]
            if move.config is not None:
                self.running[move.key], self.done[move.key] = self.curves.of(move.config), 0
                self.replay.trials += 1
            heapq.heappush(self.events, Event(now + self.running[move.key].cost, slot, move.key))
        return []

    def _ask(self) -> Move | None:
        started = time.perf_counter()
        move = self.method.next()
        self.replay.ask_s.append(time.perf_counter() - started)
        return move

    def _report(self, key: str, step: int, score: float) -> bool:
        started = time.perf_counter()
        goes_on = self.method.report(key, step, score, self.running[key].cost)
        self.replay.report_s.append(time.perf_counter() - started)
        return goes_on
