"""From a budget of seconds to the length of a full training, its steps, and how many trials train at once.

All functions are pure. A short budget means short trainings whose schedules end within it, not the first epochs of
long ones.
"""

import math
from typing import NamedTuple


class Recipe(NamedTuple):
    """How long full trainings of a kind are."""

    epochs: int
    """At least, ..."""
    least_updates: int
    """... and on few images so many updates, ..."""
    most_updates: int
    """... and with time for it up to so many."""
    share_of_first: float
    """Of the time for training that the first full training takes, if the budget holds no long one."""
    shortest_updates: int = 1
    """Where the time holds fewer, none is trained."""


FROM_SCRATCH = Recipe(epochs=30, least_updates=300, most_updates=3000, share_of_first=0.96)
"""Half the length reached 5 points less (docs/log.md). If the first training turns out slower, the last updates, which
change little, are cut off."""
FINE_TUNING = Recipe(epochs=15, least_updates=150, most_updates=600, share_of_first=0.5, shortest_updates=40)
"""From published weights less time is enough, and the architecture whose probe is the best may cost twice the first. A
dozen updates only spoil what the probe has (docs/log.md)."""
LONGEST_STEP_S, STEP_SHARE = 120.0, 0.1
"""An epoch is a step if it takes less than this, and less than this share of the time for training; ..."""
LEAST_STEP_UPDATES = 50
"""... else a part of it with at least so many updates is; ..."""
FEW_UPDATES = 10
"""... and if it has fewer than these, several epochs are."""
FEW_TRAININGS = 3
"""A slot for which the time holds fewer long trainings had better share its cores with others."""


class Length(NamedTuple):
    """Of a full training."""

    epochs: float
    steps: int
    """Equal parts that it is trained and scored in."""


def longest_epochs(updates_per_epoch: int, recipe: Recipe = FROM_SCRATCH) -> float:
    """Epochs of a training that more time makes no longer."""
    return max(recipe.epochs, recipe.most_updates / updates_per_epoch)


def usual_epochs(updates_per_epoch: int, recipe: Recipe = FROM_SCRATCH) -> int:
    """Epochs of a full training if no time budget tells."""
    return max(recipe.epochs, math.ceil(recipe.least_updates / updates_per_epoch))


def choose_length(updates_per_epoch: int, update_s: float, training_s: float, recipe: Recipe = FROM_SCRATCH) -> Length:
    """What a budget of `training_s` seconds a slot makes of the first configuration, whose updates take `update_s`.

    As long as pays, if the first training then takes no more than its share of the time; whole epochs if a step is one.
    """
    longest = longest_epochs(updates_per_epoch, recipe) * updates_per_epoch
    in_time = math.floor(min(longest, recipe.share_of_first * training_s / update_s))
    updates = max(recipe.shortest_updates, in_time)
    step = step_updates(updates_per_epoch, update_s, training_s)
    if step < updates_per_epoch or updates < step:
        return Length(updates / updates_per_epoch, max(1, round(updates / step)))
    steps = updates // step
    return Length(steps * step // updates_per_epoch, steps)


def usual_length(updates_per_epoch: int, update_s: float, recipe: Recipe = FROM_SCRATCH) -> Length:
    """Of a full training if neither a length nor a time budget is given."""
    epochs = usual_epochs(updates_per_epoch, recipe)
    step = step_updates(updates_per_epoch, update_s)
    steps = math.ceil(epochs * updates_per_epoch / step)
    return Length(max(epochs, steps * step // updates_per_epoch), steps)


def in_steps(epochs: float, updates_per_epoch: int, update_s: float | None, training_s: float = math.inf) -> Length:
    """A training of so many epochs, in steps of an epoch, or of a part of one that takes long.

    None for `update_s` if nothing tells how long an update takes.
    """
    step = min(updates_per_epoch, step_updates(updates_per_epoch, update_s, training_s))
    return Length(epochs, max(1, round(epochs * updates_per_epoch / step)))


def step_updates(updates_per_epoch: int, update_s: float | None, training_s: float = math.inf) -> int:
    """Updates of a step: an epoch's, or those of a part of it if it takes long, or of several if they are few."""
    if updates_per_epoch < FEW_UPDATES:
        return updates_per_epoch * math.ceil(FEW_UPDATES / updates_per_epoch)
    in_time = math.inf if update_s is None else min(LONGEST_STEP_S, STEP_SHARE * training_s) / update_s
    return updates_per_epoch if updates_per_epoch <= in_time else max(LEAST_STEP_UPDATES, math.floor(in_time))


def fewer_slots(slots: int, long_training_s: float, training_s: float) -> int:
    """Trials at once, at most `slots`, so that each has time for `FEW_TRAININGS` long ones.

    Args:
        slots: As many as fit.
        long_training_s: Of a long training in one of them.
        training_s: For training.
    """
    if math.isinf(training_s):
        return slots
    return max(1, min(slots, math.floor(slots * training_s / (FEW_TRAININGS * long_training_s))))
