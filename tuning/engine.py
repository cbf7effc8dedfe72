"""What a free slot runs next: one engine that Ray's searcher and scheduler ask, and that a benchmark replays.

It knows each trial's configuration and scores and nothing of Ray, so that a search in Ray and its replay on a virtual
clock decide alike. A trial runs to a rung and pauses there; a free slot starts a new trial, or lets a paused one go on.
This is asynchronous successive halving by promotion (Li et al. 2020, algorithm 2): unlike the variant that stops
trials for good, it can still promote one that looked bad only because few had been seen.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Protocol

WORST = 0.0
"""What a score that isn't a finite number counts as: the worst accuracy."""


class Status(StrEnum):
    """How a trial stands for the engine."""

    RUNNING = "running"
    PAUSED = "paused"
    ENDED = "ended"
    FAILED = "failed"


class Action(StrEnum):
    """What becomes of a trial after an epoch."""

    CONTINUE = "continue"
    PAUSE = "pause"
    STOP = "stop"


@dataclass
class TrialState:
    """A trial: its configuration, its score after each epoch, and the rung that it may run to."""

    key: str
    config: dict[str, Any]
    target: int
    status: Status = Status.RUNNING
    curve: dict[int, float] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Epochs done."""
        return max(self.curve, default=0)


class Decision(NamedTuple):
    """What happens to a trial and why: a line of decisions.jsonl."""

    kind: Literal["start", "promote", "pause", "end", "fail"]
    trial: str
    epochs: int
    """Epochs done; for `start` and `promote` the rung to run to."""
    reason: str
    rank: int | None = None
    """Place among the trials that have reached the rung, from 1."""


class Sampler(Protocol):
    """Where new configurations come from."""

    def propose(self, key: str) -> dict[str, Any] | None:
        """A configuration for the new trial `key`; None where the space has no more."""

    def learn(self, key: str, values: dict[str, Any]) -> dict[str, Any]:
        """Note the configuration of a trial that was proposed in an earlier search."""

    def observe(self, key: str, rung: int, score: float) -> None:
        """The trial reached a rung with this score, higher being better."""

    def forget(self, key: str) -> None:
        """The trial ended or failed: what it was asked for will not come."""


def rung_levels(first: int, factor: float, longest: int) -> list[int]:
    """Epochs of the rungs: `first`, `first` x `factor`, ... below `longest`, and `longest` as the last."""
    steps = math.ceil(math.log(longest / first, factor)) if first < longest else 0
    return sorted({int(first * factor**step) for step in range(steps) if first * factor**step < longest} | {longest})


def promotable(trials: Iterable[TrialState], rungs: Sequence[int], factor: float) -> tuple[TrialState, int] | None:
    """The paused trial that goes on next, and its rank; None where none may.

    Rungs from the top down: of the n trials that reached a rung the best n/`factor` may go on, and the best of these
    that still waits there does. At equal scores the earlier trial is better.
    """
    trials = list(trials)
    for rung in reversed(rungs[:-1]):
        reached = sorted((trial for trial in trials if rung in trial.curve), key=lambda trial: -trial.curve[rung])
        for rank, trial in enumerate(reached[: int(len(reached) / factor)], start=1):
            if trial.status is Status.PAUSED and trial.epochs == rung:
                return trial, rank
    return None


class Engine:
    """Decides for at most `trials` trials over `rungs`; each decision goes to `note`."""

    def __init__(
        self,
        sampler: Sampler,
        rungs: Sequence[int],
        factor: float,
        trials: int,
        note: Callable[[Decision], None] = lambda decision: None,
    ) -> None:
        self.sampler = sampler
        self.rungs = list(rungs)
        self.factor = factor
        self.most_trials = trials
        self.note = note
        self.trials: dict[str, TrialState] = {}
        self.exhausted = False

    @property
    def running(self) -> int:
        """Trials that hold a slot."""
        return sum(trial.status is Status.RUNNING for trial in self.trials.values())

    @property
    def may_start(self) -> bool:
        """Whether the budget of trials and the space have one more."""
        return len(self.trials) < self.most_trials and not self.exhausted

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing will: paused trials that are left will never be promoted."""
        return not self.running and not self.may_start and self._promotable() is None

    def start(self, key: str) -> dict[str, Any] | None:
        """A configuration for a new trial, if a free slot should start one rather than promote."""
        if not self.may_start or self._promotable() is not None:
            return None
        config = self.sampler.propose(key)
        if config is None:
            self.exhausted = True
            return None
        self.trials[key] = TrialState(key, config, self.rungs[0])
        self.note(Decision("start", key, self.rungs[0], "a slot is free and no paused trial may go on"))
        return config

    def next_promotion(self) -> str | None:
        """The paused trial that a free slot should go on with; None where there is none."""
        choice = self._promotable()
        return choice[0].key if choice else None

    def promote(self) -> None:
        """The trial of `next_promotion` runs on to its next rung."""
        choice = self._promotable()
        if choice is None:
            raise RuntimeError("no paused trial may go on; ask next_promotion first")
        trial, rank = choice
        rung, trial.target = trial.epochs, self.rungs[self.rungs.index(trial.epochs) + 1]
        trial.status = Status.RUNNING
        reached = sum(rung in other.curve for other in self.trials.values())
        reason = f"in the top 1/{self.factor:g} of the {reached} that reached rung {rung}"
        self.note(Decision("promote", trial.key, trial.target, reason, rank))

    def report(self, key: str, epoch: int, score: float) -> Action:
        """A trial finished an epoch; at its rung it pauses, unless it is itself the one that goes on next."""
        trial = self.trials[key]
        trial.curve[epoch] = score if math.isfinite(score) else WORST
        if epoch in self.rungs:
            self.sampler.observe(key, epoch, trial.curve[epoch])
        if epoch >= self.rungs[-1]:
            self.end(key, "reached its full length")
            return Action.STOP
        if epoch < trial.target:
            return Action.CONTINUE
        trial.status = Status.PAUSED
        choice = self._promotable()
        if choice and choice[0] is trial:
            self.promote()
            return Action.CONTINUE
        self.note(Decision("pause", key, epoch, f"waits at rung {epoch}"))
        return Action.PAUSE

    def end(self, key: str, reason: str) -> None:
        """The trial will not go on: full length, diverged, or the search is over."""
        self._close(key, Status.ENDED, Decision("end", key, self.trials[key].epochs, reason))

    def fail(self, key: str, reason: str) -> None:
        """The trial broke; it says nothing about its configuration."""
        self._close(key, Status.FAILED, Decision("fail", key, self.trials[key].epochs, reason))

    def take_up(self, key: str, config: dict[str, Any], curve: dict[int, float], may_go_on: bool) -> Status:
        """Put a trial of an interrupted search back: it waits at its rung, runs on to its next one, or has ended."""
        trial = TrialState(key, config, self.rungs[0], curve=dict(curve))
        self.trials[key] = trial
        self.sampler.learn(key, config)
        for rung in self.rungs:
            if rung in trial.curve:
                self.sampler.observe(key, rung, trial.curve[rung])
        if not may_go_on or trial.epochs >= self.rungs[-1]:
            trial.status = Status.ENDED
        elif trial.epochs in self.rungs:
            trial.status = Status.PAUSED
        else:
            trial.target = next(rung for rung in self.rungs if rung > trial.epochs)
        return trial.status

    def _promotable(self) -> tuple[TrialState, int] | None:
        return promotable(self.trials.values(), self.rungs, self.factor)

    def _close(self, key: str, status: Status, decision: Decision) -> None:
        if self.trials[key].status in (Status.ENDED, Status.FAILED):
            return
        self.trials[key].status = status
        self.sampler.forget(key)
        self.note(decision)
