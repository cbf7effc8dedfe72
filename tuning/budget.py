"""What a plan buys, roughly, before anything was measured: trials, epochs, images and seconds."""

import itertools
import math
from typing import NamedTuple

from tuning.arithmetic import usual_images_per_second
from tuning.plan import SearchPlan, architectures_of, halving_steps

MANY = 1000
"""Trials over which the mean epochs of a trial are taken."""


class Budget(NamedTuple):
    """Roughly what a plan buys."""

    trials: float
    epochs: float
    """Epochs of all trials together."""
    full_trainings: float
    """The same in units of a full training."""
    images: float
    """Training images that pass through a model."""


def expected_budget(plan: SearchPlan, train_images: int, speed: float | None) -> Budget | None:
    """The least that the plan's trials, epochs and time buy.

    Args:
        plan: Of the search.
        train_images: Of an epoch.
        speed: Epochs a second of all slots together; None where nothing tells.

    Returns:
        None where the plan is bounded by time alone, and nothing tells the speed.
    """
    limits = [plan.epochs_of(plan.step_limit)] if plan.step_limit is not None else []
    if plan.trials is not None:
        limits.append(scheduled_epochs(plan, plan.trials))
    if not limits and plan.time_budget_s is not None and speed is not None:
        limits.append(plan.time_budget_s * speed)
    if not limits:
        return None
    epochs = min(limits)
    a_trial = scheduled_epochs(plan, MANY) / MANY
    return Budget(plan.trials or max(1.0, epochs / a_trial), epochs, epochs / plan.epochs, epochs * train_images)


def scheduled_epochs(plan: SearchPlan, trials: int) -> float:
    """Epochs that the scheduler spends on so many trials if each rung lets exactly its share go on."""
    if plan.rungs:
        return plan.epochs_of(halving_steps(trials, plan.rungs, plan.reduction_factor))
    if plan.scheduler == "hyperband":
        return hyperband_epochs(trials, plan.length, plan.reduction_factor)
    return trials * plan.epochs / (2 if plan.scheduler == "median" else 1)


def hyperband_epochs(trials: int, epochs: int, factor: float) -> float:
    """Epochs of `trials` in HyperBand's brackets as Ray fills them: from few long trials to many that are halved."""
    brackets = round(math.log(epochs, factor)) + 1
    total = 0.0
    for halvings in itertools.cycle(range(brackets)):
        if trials <= 0:
            break
        first = int(epochs * factor**-halvings)
        if first == 0:
            continue
        going_on = min(trials, math.ceil(brackets / (halvings + 1) * factor**halvings))
        trials -= going_on
        rungs = sorted({min(int(first * factor**step), epochs) for step in range(halvings + 1)})
        for reached, rung in itertools.pairwise([0, *rungs]):
            total += going_on * (rung - reached)
            going_on = math.ceil(going_on / factor)
    return total


def reference_speed(plan: SearchPlan, train_images: int, image_size: int, cores: float) -> float:
    """Epochs a second on `cores` CPU cores, from the arithmetic: right within a factor of three at best."""
    shared, architectures = plan.trial_settings, architectures_of(plan.space)
    seconds = sum(1 / usual_images_per_second(shared | {"arch": arch}, image_size) for arch in architectures)
    return cores * len(architectures) / (train_images * seconds)


def estimated_seconds(plan: SearchPlan, budget: Budget, speed: float) -> float:
    """Wall seconds until the budget is spent."""
    seconds = budget.epochs / speed
    return min(seconds, plan.time_budget_s) if plan.time_budget_s else seconds
