"""What a plan buys, roughly, before anything was measured: trials, epochs, images and seconds."""

import itertools
import math
from typing import NamedTuple

from tuning.plan import SearchPlan, architectures_of, halving_epochs

IMAGES_PER_SECOND = {
    "resnet18": 30,
    "resnet34": 15,
    "resnet50": 12,
    "resnet101": 7,
    "resnet152": 5,
    "vit_small": 40,
    "deit_small": 40,
    "swin_tiny": 85,
}
"""Training images/s of one CPU core in fp32 at 32 px, for estimates before anything was measured here."""
UNKNOWN_ARCHITECTURE = 20
REFERENCE_PIXELS = 32 * 32
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
    limits = [float(plan.epoch_limit)] if plan.epoch_limit is not None else []
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
        return halving_epochs(trials, plan.rungs, plan.reduction_factor)
    if plan.scheduler == "hyperband":
        return hyperband_epochs(trials, plan.epochs, plan.reduction_factor)
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


def images_per_second(arch: str) -> float:
    """Of training on one core at 32 px; a middling figure for an architecture that isn't in the table."""
    return IMAGES_PER_SECOND.get(arch, UNKNOWN_ARCHITECTURE)


def reference_speed(plan: SearchPlan, train_images: int, image_size: int, cores: float) -> float:
    """Epochs a second on `cores` CPU cores, from reference throughputs: right within a factor of three at best."""
    architectures = architectures_of(plan.space)
    seconds_an_image = sum(1 / images_per_second(arch) for arch in architectures)
    seconds_an_image *= image_size**2 / REFERENCE_PIXELS / len(architectures)
    return cores / (train_images * seconds_an_image)


def estimated_seconds(plan: SearchPlan, budget: Budget, speed: float) -> float:
    """Wall seconds until the budget is spent."""
    seconds = budget.epochs / speed
    return min(seconds, plan.time_budget_s) if plan.time_budget_s else seconds
