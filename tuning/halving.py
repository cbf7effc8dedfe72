"""Asynchronous successive halving by promotion (Li et al. 2020, algorithm 2), with new trials from a sampler.

Unlike the variant that stops trials for good, it can still promote one that looked bad only because few had been seen.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tuning.engine import Budget, Move, Status, TrialState, in_time
from tuning.sampler import RungSampler
from tuning.step_cost import StepCost


def promotable(trials: Iterable[TrialState], rungs: Sequence[int], factor: float) -> tuple[TrialState, int] | None:
    """The paused trial that goes on next, and its rank; None where none may.

    Rungs from the top down: of the n trials that reached a rung the best n/`factor` may go on, and the best of these
    that still waits there does. At equal scores the earlier trial is better.
    """
    trials = list(trials)
    for rung in reversed(rungs[:-1]):
        reached = sorted((trial for trial in trials if rung in trial.curve), key=lambda trial: -trial.curve[rung])
        for rank, trial in enumerate(reached[: int(len(reached) / factor)], start=1):
            if trial.status is Status.PAUSED and trial.steps == rung:
                return trial, rank
    return None


class Halving:
    """The policy: promote whoever may go on, else start a trial that the sampler proposes."""

    def __init__(self, sampler: RungSampler, rungs: Sequence[int], factor: float, cost: StepCost | None = None) -> None:
        self.sampler = sampler
        self.rungs = list(rungs)
        self.factor = factor
        self.cost = cost or StepCost(None, self.rungs[-1], measured=False)
        self.configs: dict[str, dict[str, Any]] = {}

    def choose(self, trials: Mapping[str, TrialState], budget: Budget) -> Move | None:
        """Promotions first, as far as the steps and the seconds reach."""
        choice = promotable(trials.values(), self.rungs, self.factor)
        if choice is not None:
            trial, rank = choice
            rung, step_seconds = int(trial.steps), self.step_seconds(trial.config, trial.steps)
            has_steps = self.rungs[self.rungs.index(rung) + 1] - rung <= budget.steps
            if has_steps and in_time(step_seconds, budget.seconds):
                reached = sum(rung in other.curve for other in trials.values())
                return Move(trial.key, f"in the top 1/{self.factor:g} of the {reached} that reached rung {rung}", rank)
        return Move(None, "a slot is free and no paused trial may go on") if budget.may_start else None

    def propose(self, key: str) -> dict[str, Any] | None:
        """Ask the sampler."""
        config = self.sampler.propose(key)
        if config is not None:
            self.configs[key] = config
        return config

    def learn(self, key: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Tell the sampler of a trial from elsewhere."""
        self.configs[key] = self.sampler.learn(key, values)
        return self.configs[key]

    def take_up(self, key: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Tell the sampler of a trial that it had proposed before an interruption."""
        self.configs[key] = self.sampler.take_up(key, values)
        return self.configs[key]

    def observe(self, key: str, rung: int, score: float) -> None:
        """Tell the sampler."""
        self.sampler.observe(key, rung, score)

    def spend(self, key: str, seconds: float, step: float) -> None:
        """Note what a step of such a configuration costs."""
        self.cost.add(self.configs[key], seconds, step)

    def step_seconds(self, config: Mapping[str, Any], step: float = 0) -> float | None:
        """As the steps so far, and the arithmetic, tell."""
        return self.cost.of_step(config, step)

    def forget(self, key: str) -> None:
        """Tell the sampler."""
        self.sampler.forget(key)
