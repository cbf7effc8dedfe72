"""What a free slot runs next: one engine that Ray's searcher and scheduler ask, and that a benchmark replays.

It knows each trial's configuration and scores and nothing of Ray, so that a search in Ray and its replay on a virtual
clock decide alike. A trial runs to a rung and pauses there; a free slot starts a new trial, or lets a paused one go on.
Which of the two, and with what configuration, is a policy's choice: `tuning.halving` or `tuning.freeze_thaw`. The
engine keeps the budget, carries the choice out, and notes each decision. It counts in steps: equal parts of the full
length.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Protocol

from search_spaces import is_probe

WORST = 0.0
"""What a score that isn't a finite number counts as: the worst accuracy."""


DIVERGED = "its loss diverged"
NO_TIME = "its next step would end after the time budget"
"""Why a trial ends before its rung."""
BEST_STARTS = 3
"""Of the architectures whose probes came out best, so many are fine-tuned as published before the policy proposes."""


class Status(StrEnum):
    """How a trial stands for the engine."""

    RUNNING = "running"
    PAUSED = "paused"
    ENDED = "ended"
    FAILED = "failed"


class Action(StrEnum):
    """What becomes of a trial after a step."""

    CONTINUE = "continue"
    PAUSE = "pause"
    STOP = "stop"


@dataclass
class TrialState:
    """A trial: its configuration, its score after each step, and the rung that it may run to."""

    key: str
    config: dict[str, Any]
    target: int
    status: Status = Status.RUNNING
    curve: dict[float, float] = field(default_factory=dict)
    steps: float = 0
    """Steps done; a fraction if a deadline cut the last one short."""
    probe_loss: float | None = None
    """Of a probe: its mean loss on training images that it wasn't fitted to."""

    @property
    def is_probe(self) -> bool:
        """Whether it is at its full length after one step, which costs no more."""
        return is_probe(self.config)

    def add(self, step: float, score: float) -> None:
        """Note the score after a step."""
        self.curve[step] = score
        self.steps = max(self.steps, step)


class Decision(NamedTuple):
    """What happens to a trial and why: a line of decisions.jsonl."""

    kind: Literal["start", "promote", "pause", "stop", "end", "fail"]
    """`stop` ends a trial before its full length, `end` at it."""
    trial: str
    step: float
    """Steps done."""
    reason: str
    target: int | None = None
    """The rung to run to, of `start` and `promote`."""
    score: float | None = None
    """After the steps done."""
    rank: int | None = None
    """Place among the trials that have reached the rung, from 1."""
    expected_improvement: float | None = None
    """Of freeze-thaw: how much better than the best so far, in standard deviations of all results so far."""


class Move(NamedTuple):
    """What a free slot does next."""

    key: str | None
    """The paused trial that goes on; None for a new one."""
    reason: str
    rank: int | None = None
    expected_improvement: float | None = None


class Budget(NamedTuple):
    """What a move may use."""

    may_start: bool
    """Whether the number of trials and the space have one more."""
    steps: float = math.inf
    """Steps that no trial has used or is about to use."""
    seconds: float = math.inf
    """Until the last step has to be done."""


class Policy(Protocol):
    """Chooses moves, from what it is told of trials and their scores at the rungs."""

    def choose(self, trials: Mapping[str, TrialState], budget: Budget) -> Move | None:
        """What a free slot does; None where it waits."""

    def propose(self, key: str) -> dict[str, Any] | None:
        """A configuration for the new trial `key` that was chosen; None where the space has no more."""

    def learn(self, key: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Note a trial whose configuration came from elsewhere; returns the whole configuration."""

    def take_up(self, key: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """As `learn`, of a trial that this policy had proposed before the search was interrupted."""

    def observe(self, key: str, rung: int, score: float) -> None:
        """The trial reached a rung with this score, higher being better."""

    def spend(self, key: str, seconds: float, step: float) -> None:
        """The trial's step that ended at `step` took this long."""

    def forget(self, key: str) -> None:
        """The trial ended or failed: what it was asked for will not come."""

    def step_seconds(self, config: Mapping[str, Any], step: float = 0) -> float | None:
        """What the step that follows `step` takes with such a configuration; None if nothing tells."""


def in_time(step_seconds: float | None, left: float) -> bool:
    """Whether a step ends within the seconds that are left; None, of which nothing tells, does."""
    return step_seconds is None or step_seconds <= left


def rung_levels(first: int, factor: float, longest: int) -> list[int]:
    """Steps of the rungs: `first`, `first` x `factor`, ... below `longest`, and `longest` as the last."""
    steps = math.ceil(math.log(longest / first, factor)) if first < longest else 0
    return sorted({int(first * factor**step) for step in range(steps) if first * factor**step < longest} | {longest})


class Engine:
    """Decides for at most `trials` trials of together at most `steps` steps over `rungs`; notes each decision.

    The configurations in `first` (without the space's fixed values) are tried before any that the policy proposes,
    probes before all else. Then come, of `starts`, those of the architectures with the best probes. With
    `first_in_full` the first trial that isn't a probe runs to its full length at once. No step begins that takes longer
    than the seconds `left`, as far as the policy can tell.
    """

    def __init__(
        self,
        policy: Policy,
        rungs: Sequence[int],
        *,
        trials: int = sys.maxsize,
        steps: float = math.inf,
        first: Sequence[Mapping[str, Any]] = (),
        starts: Sequence[Mapping[str, Any]] = (),
        first_in_full: bool = False,
        left: Callable[[], float] = lambda: math.inf,
        note: Callable[[Decision], None] = lambda decision: None,
    ) -> None:
        self.policy = policy
        self.rungs = list(rungs)
        self.most_trials = trials
        self.most_steps = steps
        self.first = sorted(first, key=lambda config: not is_probe(config))
        self.starts = list(starts)
        self.tunes = bool(starts)
        """Whether fine-tuning was planned."""
        self.started = 0
        """How many of `starts` were tried."""
        self.first_in_full = first_in_full
        self.left = left
        self.note = note
        self.trials: dict[str, TrialState] = {}
        self.exhausted = False
        self.closed: str | None = None
        """Why the search is over, once it is."""
        self.move: Move | None = None
        self.is_chosen = False
        """Whether `move` is what the policy chooses, given all that it knows."""

    @property
    def running(self) -> int:
        """Trials that hold a slot."""
        return sum(trial.status is Status.RUNNING for trial in self.trials.values())

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing will: paused trials that are left will never go on."""
        return not self.running and self.next_move() is None

    def next_move(self) -> Move | None:
        """What a free slot does next; the same until something new is known."""
        if not self.is_chosen:
            self.move = self._choose()
            self.is_chosen = True
        return self.move

    def start(self, key: str) -> dict[str, Any] | None:
        """A configuration for a new trial, if a free slot should start one rather than go on with another."""
        move = self.next_move()
        if move is None or move.key is not None:
            return None
        if self.first:
            config: dict[str, Any] | None = self.policy.learn(key, self.first.pop(0))
        elif self.starts:
            config = self.policy.learn(key, self.starts.pop(0))
            self.started += 1
        else:
            config = self.policy.propose(key)
        self.is_chosen = False
        if config is None:
            self.exhausted = True
            return None
        in_full = is_probe(config) or (self.first_in_full and self._first_trained() is None)
        target = self.rungs[-1] if in_full else self.rungs[0]
        self.trials[key] = TrialState(key, config, target)
        improvement = move.expected_improvement
        self.note(Decision("start", key, 0, move.reason, target, expected_improvement=improvement))
        return config

    def promote(self) -> None:
        """The trial of `next_move` runs on to its next rung."""
        move = self.next_move()
        if move is None or move.key is None:
            raise RuntimeError("no paused trial may go on; ask next_move first")
        trial = self.trials[move.key]
        trial.target = self.next_rung(trial.steps)
        trial.status = Status.RUNNING
        self.is_chosen = False
        self.note(self._decision("promote", trial, move.reason, trial.target, move.rank, move.expected_improvement))

    def report(self, key: str, step: float, score: float, seconds: float | None = None) -> Action:
        """A trial finished a step; at its rung it pauses, unless it is itself the one that goes on next."""
        trial = self.trials[key]
        again = step in trial.curve  # from an older checkpoint, after a failure: the policy knows its score
        taken = 1 if trial.is_probe else step - max((known for known in trial.curve if known < step), default=0)
        trial.add(step, score if math.isfinite(score) else WORST)
        self.is_chosen = False
        if step in self.rungs and not again:
            self.policy.observe(key, int(step), trial.curve[step])
        if seconds is not None:
            self.policy.spend(key, seconds / taken, step)
        if step >= self.rungs[-1] or self.closed:
            self.end(key, "reached its full length" if step >= self.rungs[-1] else str(self.closed))
            return Action.STOP
        if step < trial.target:
            return self._continue_in_time(trial)
        trial.status = Status.PAUSED
        move = self.next_move()
        if move and move.key == key:
            self.promote()
            return Action.CONTINUE
        self.note(self._decision("pause", trial, f"waits at rung {step:g}"))
        return Action.PAUSE

    def _continue_in_time(self, trial: TrialState) -> Action:
        """A trial below its rung runs on, unless its next step would take longer than there is time.

        The one that runs in full does so in any case: its schedule is about to end, and the deadline cuts it short.
        """
        if self._runs_in_full(trial) or in_time(self.policy.step_seconds(trial.config, trial.steps), self.left()):
            return Action.CONTINUE
        self.end(trial.key, NO_TIME)
        return Action.STOP

    def end(self, key: str, reason: str) -> None:
        """The trial will not go on: full length, diverged, or the search is over."""
        kind: Literal["end", "stop"] = "end" if self.trials[key].steps >= self.rungs[-1] else "stop"
        self._leave(key, Status.ENDED, kind, reason)

    def diverge(self, key: str) -> None:
        """The trial's loss is no longer finite: it counts as the worst at the rung that it was to reach, and ends."""
        trial = self.trials[key]
        if trial.status is Status.RUNNING:
            self.policy.observe(key, trial.target, WORST)
        self.end(key, DIVERGED)

    def fail(self, key: str, reason: str) -> None:
        """The trial broke; it says nothing about its configuration."""
        self._leave(key, Status.FAILED, "fail", reason)

    def close(self, reason: str) -> None:
        """The search is over: running trials end after their step, and nothing new begins."""
        self.closed = reason
        self.is_chosen = False

    def take_up(self, key: str, config: dict[str, Any]) -> None:
        """Put a trial of an interrupted search back as it was at its start; `relearn` and `settle` tell the rest."""
        self.trials[key] = TrialState(key, config, self.rungs[0])
        self.is_chosen = False
        left = [values for values in self.first if not values.items() <= config.items()]
        starts = [values for values in self.starts if not values.items() <= config.items()]
        ours = len(left) < len(self.first) or len(starts) < len(self.starts)
        (self.policy.learn if ours else self.policy.take_up)(key, config)
        self.started += len(self.starts) - len(starts)
        self.first, self.starts = left, starts

    def relearn(
        self, key: str, step: float, score: float, seconds: float | None = None, diverged: bool = False
    ) -> None:
        """A trial that was taken up had finished this step."""
        trial = self.trials[key]
        taken = 1 if trial.is_probe else step - trial.steps
        trial.add(step, score)
        if step in self.rungs:
            self.policy.observe(key, int(step), score)
        elif diverged:
            self.policy.observe(key, self.next_rung(step), WORST)
        if seconds is not None:
            self.policy.spend(key, seconds / taken, step)

    def settle(self, key: str, saved: float | None) -> Status:
        """A trial that was taken up waits at its rung, runs on to its next one, or has ended; returns which.

        Args:
            key: Of the trial.
            saved: The step from which it can go on; None where it can't. What was finished after it is trained again.
        """
        trial = self.trials[key]
        self.is_chosen = False
        runs_in_full = self._runs_in_full(trial) and trial.steps < self.rungs[-1]
        if saved is not None and (saved < trial.steps or trial.steps not in self.rungs or runs_in_full):
            trial.status = Status.RUNNING
            trial.target = int(trial.steps) if trial.steps in self.rungs else self.next_rung(trial.steps)
            trial.target = self.rungs[-1] if runs_in_full else trial.target
        elif saved is None or trial.steps >= self.rungs[-1]:
            trial.status = Status.ENDED
            self.policy.forget(key)
        else:
            trial.status = Status.PAUSED
        return trial.status

    def _runs_in_full(self, trial: TrialState) -> bool:
        return self.first_in_full and trial.key == self._first_trained()

    def _first_trained(self) -> str | None:
        """The first trial that isn't a probe."""
        return next((key for key, trial in self.trials.items() if not trial.is_probe), None)

    def least_promising(self) -> str | None:
        """The paused trial that the largest share of those at its rung are better than; the one of the lowest rung."""
        waiting = [trial for trial in self.trials.values() if trial.status is Status.PAUSED]
        return max(waiting, key=self._doubt).key if waiting else None

    def _doubt(self, trial: TrialState) -> tuple[float, float]:
        at_rung = [other.curve[trial.steps] for other in self.trials.values() if trial.steps in other.curve]
        better = sum(score > trial.curve[trial.steps] for score in at_rung)
        return better / len(at_rung), -trial.steps

    def next_rung(self, steps: float) -> int:
        """The first rung above `steps`."""
        return next(rung for rung in self.rungs if rung > steps)

    def _choose(self) -> Move | None:
        if self.closed:
            return None
        trained = [trial for trial in self.trials.values() if not trial.is_probe]
        used = sum(t.target if t.status is Status.RUNNING else t.steps for t in trained)
        left, seconds = self.most_steps - used, self.left()
        may_start = len(self.trials) < self.most_trials and not self.exhausted and left >= self.rungs[0]
        while self.first and may_start:
            if not is_probe(self.first[0]) and self._is_probing():
                return None
            if self._fits_in(seconds, self.first[0]):
                return Move(None, "one of the configurations to be tried first")
            self.first.pop(0)
        if self.starts and may_start:
            if self._is_probing():
                return None
            self.starts = self._best_starts(seconds)
            if self.starts:
                return Move(None, "where fine-tuning starts, of an architecture whose probe is among the best")
        if self.tunes and self.first_in_full and self._first_trained() is None:
            return None  # none is in time, and shorter ones would only spoil what the probes have
        return self.policy.choose(self.trials, Budget(may_start, left, seconds))

    def _is_probing(self) -> bool:
        """Whether a probe runs, for whose result all else waits."""
        return any(trial.is_probe and trial.status is Status.RUNNING for trial in self.trials.values())

    def _best_starts(self, seconds: float) -> list[Mapping[str, Any]]:
        """Those of `starts` that are still to be tried and can be in time, the best probe's first.

        An architecture without a probe would have to compute its features itself: it counts only if none has one.
        """
        losses: dict[Any, float] = {}
        for trial in self.trials.values():
            if trial.probe_loss is not None:
                losses[trial.config.get("arch")] = trial.probe_loss
        probed = [config for config in self.starts if config.get("arch") is None or config["arch"] in losses]
        ranked = sorted(probed if losses else self.starts, key=lambda config: losses.get(config.get("arch"), math.inf))
        fitting = [config for config in ranked if self._fits_in(seconds, config)]
        return fitting[: max(0, BEST_STARTS - self.started)]

    def _fits_in(self, seconds: float, config: Mapping[str, Any]) -> bool:
        """Whether the configuration can reach its rung in time; the first of all is tried in any case."""
        if not self.trials:
            return True
        in_full = self.first_in_full and self._first_trained() is None
        steps = 1 if is_probe(config) else self.rungs[-1] if in_full else self.rungs[0]
        return in_time(self.policy.step_seconds(config), seconds / steps)

    def _leave(self, key: str, status: Status, kind: Literal["end", "stop", "fail"], reason: str) -> None:
        trial = self.trials[key]
        if trial.status in (Status.ENDED, Status.FAILED):
            return
        trial.status = status
        self.is_chosen = False
        self.policy.forget(key)
        self.note(self._decision(kind, trial, reason))

    def _decision(
        self,
        kind: Literal["promote", "pause", "stop", "end", "fail"],
        trial: TrialState,
        reason: str,
        target: int | None = None,
        rank: int | None = None,
        expected_improvement: float | None = None,
    ) -> Decision:
        score = trial.curve.get(trial.steps)
        return Decision(kind, trial.key, trial.steps, reason, target, score, rank, expected_improvement)
