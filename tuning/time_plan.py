"""What a plan makes of its time: the length of a full training, what is kept back for the end, and how many slots.

Before the search the speed follows from the arithmetic; when Ray runs it is measured, and the plan follows.
"""

import math
import time
from typing import Any, NamedTuple

from search_spaces import is_probe, start_point
from trainable.errors import UsageError
from trainable.pace import Pace
from tuning.arithmetic import PASSES, USUAL_SPEED, mean_share, training_gmacs, whole_gmacs
from tuning.length import (
    FINE_TUNING,
    FROM_SCRATCH,
    Length,
    Recipe,
    choose_length,
    fewer_slots,
    in_steps,
    longest_epochs,
    usual_length,
)
from tuning.plan import SearchPlan, clock, usual_first_rung
from tuning.step_cost import Work

START_S, MEASURE_S = 14.0, 7.0
"""From the command to the first update: imports, Ray, the first trial's process; and the measurement of the speed."""
EXPORT_S, REPORT_S = 8.0, 4.0
"""What export and report take beside what they compute: imports, above all."""
LEAST_END_S = 8.0
"""What they take at least; a budget that leaves no more is refused."""
SPARE = 0.01
"""Of a time budget, against surprises at the end."""
LEAST_SHARE = 0.4
"""Of a budget, for training: if the end takes more than the rest, it leaves something out."""
LOOKS, LOOKS_OF_PROBES = 3, 6
"""At each holdout image: by a member, mirrored, and by the best trial alone; where there are probes, which cost little,
by more members."""
LEAST_UPDATES = 3
"""Fewer of the first configuration are no training."""
DOUBT = 3.0
"""By how much the arithmetic may be wrong."""


class Images(NamedTuple):
    """What of the images a length depends on."""

    train: int
    holdout: int
    side: int
    """In pixels."""


class Clock(NamedTuple):
    """When a search has to have done what."""

    started: float
    """Seconds since 1970."""
    budget_s: float | None
    reserve_s: float

    @property
    def training_ends(self) -> float:
        """Seconds since 1970 at which the last update has to be done."""
        return math.inf if self.budget_s is None else self.started + self.budget_s - self.reserve_s

    def training_left(self) -> float | None:
        """Seconds for training, at least one; None without a budget."""
        return None if self.budget_s is None else max(1.0, self.training_ends - time.time())

    def left(self) -> float:
        """Seconds until everything has to be done."""
        return math.inf if self.budget_s is None else self.started + self.budget_s - time.time()

    def option(self, keep_s: float = 0.0) -> tuple[str, ...]:
        """`--time-budget` of a command that has what is left but `keep_s`, at least a second."""
        return () if self.budget_s is None else ("--time-budget", f"{max(1.0, self.left() - keep_s):.1f}s")


def clock_of(plan: SearchPlan, started: float | None = None) -> Clock:
    """The clock of a search that started then, in seconds since 1970, or starts now."""
    return Clock(time.time() if started is None else started, plan.time_budget_s, plan.reserve_s)


class LengthOptions(NamedTuple):
    """What of a training's length was asked for; None for what follows from images and budget."""

    epochs: float | None = None
    step_updates: int | None = None
    first_rung: int | None = None
    tries: int = 0
    """So many of the first configurations are the user's."""


PROBE_SHARE = 0.35
"""Of the time for training that goes to probes, the cheapest first, beyond the first one."""


def first_configuration(plan: SearchPlan) -> dict[str, Any]:
    """What the search trains first, whole; probes are before it."""
    trained = (config for config in [*plan.first, *plan.starts] if not is_probe(config))
    return plan.trial_settings | next(trained, start_point(plan.space))


def recipe_of(plan: SearchPlan) -> Recipe:
    """How long its trainings are."""
    return FINE_TUNING if plan.fine_tunes else FROM_SCRATCH


def usual_pace(plan: SearchPlan, images: Images, cores: float) -> Pace:
    """Of the first configuration by its arithmetic, on so many cores: right within a factor of `DOUBT` at best."""
    train_s = whole_gmacs(first_configuration(plan), images.side) / (USUAL_SPEED * cores)
    return Pace(train_s, train_s / PASSES)


def with_length(
    plan: SearchPlan,
    asked: LengthOptions,
    images: Images | None,
    pace: Pace | None,
    used_s: float = START_S + MEASURE_S,
    is_measured: bool = False,
) -> SearchPlan:
    """The plan with its length, its steps and what is kept back.

    Args:
        plan: Of the search.
        asked: What of the length is given.
        images: None if they aren't known yet; then a step is an epoch.
        pace: Of the first configuration in a slot, on images of the whole size.
        used_s: Seconds from the command to the first update.
        is_measured: Whether that is the pace of this machine, and not the usual one.
    """
    epochs = asked.epochs or plan.epochs
    if images is None or pace is None:
        length = Length(epochs, math.ceil(epochs))
        return plan.model_copy(update=_length_fields(plan, asked, length))
    plan = plan.model_copy(update={"reserve_s": reserve_seconds(plan, images, pace)})
    first, training_s = first_configuration(plan), training_seconds(plan, used_s)
    kept = probes_in_time(plan, images, pace, training_s)
    plan = plan.model_copy(update={"first": kept + [each for each in plan.first if not is_probe(each)]})
    training_s = max(1.0, training_s - sum(probe_seconds(plan, each, images, pace) for each in kept))
    batch = batch_of(plan, images)
    update_s = batch * pace.train * mean_share(first)
    length = choose(plan, asked, max(1, images.train // batch), update_s, training_s)
    step_s = images.train * length.epochs / length.steps * pace.train
    work = Work(images.side, step_s / whole_gmacs(first, images.side), is_measured, length.epochs / length.steps)
    plan = plan.model_copy(update=_length_fields(plan, asked, length) | {"work": work})
    return plan.model_copy(update={"first": reachable(plan, len(kept) + max(1, asked.tries), training_s)})


def probe_seconds(plan: SearchPlan, probe: dict[str, Any], images: Images, pace: Pace) -> float:
    """Of a probe in a slot, given the pace of the first configuration."""
    a_gmac_s = pace.train / whole_gmacs(first_configuration(plan), images.side)
    return images.train * whole_gmacs(plan.trial_settings | probe, images.side) * a_gmac_s


def probes_in_time(plan: SearchPlan, images: Images, pace: Pace, training_s: float) -> list[dict[str, Any]]:
    """The plan's probes, the cheapest first, as far as their share of the time goes; the first in any case.

    If the rest of the time holds no fine-tuning worth its name, all of it is theirs.
    """
    own = [each for each in plan.first if is_probe(each)]
    update_s = batch_of(plan, images) * pace.train
    rest = recipe_of(plan).share_of_first * (1 - PROBE_SHARE) * training_s
    left = training_s * (PROBE_SHARE if rest >= recipe_of(plan).shortest_updates * update_s else 1.0)
    kept: list[dict[str, Any]] = []
    for probe in own:
        left -= probe_seconds(plan, probe, images, pace)
        if kept and left < 0:
            break
        kept.append(probe)
    return kept


def reachable(plan: SearchPlan, kept: int, training_s: float) -> list[dict[str, Any]]:
    """Of the configurations to be tried first those that can be trained in full; the first `kept` in any case."""
    return plan.first[:kept] + [each for each in plan.first[kept:] if full_seconds(plan, each) <= training_s]


def full_seconds(plan: SearchPlan, config: dict[str, Any]) -> float:
    """Of a training of full length in a slot, as far as `plan.work` tells; 0 if it doesn't."""
    if plan.work is None:
        return 0.0
    return plan.work.seconds * plan.length * training_gmacs(plan.trial_settings | config, plan.work.image_size)


def _length_fields(plan: SearchPlan, asked: LengthOptions, length: Length) -> dict[str, Any]:
    return {
        "epochs": length.epochs,
        "steps": length.steps,
        "first_rung": asked.first_rung or usual_first_rung(length.steps),
        "first_in_full": asked.epochs is None and plan.time_budget_s is not None and plan.decides_itself,
    }


def choose(plan: SearchPlan, asked: LengthOptions, per_epoch: int, update_s: float, training_s: float) -> Length:
    """As asked, else what the time makes of it, else the usual one.

    UsageError for more updates a step than a training has.
    """
    if asked.epochs is None and plan.time_budget_s is not None:
        length = choose_length(per_epoch, update_s, training_s, recipe_of(plan))
    elif asked.epochs is None:
        length = usual_length(per_epoch, update_s, recipe_of(plan))
    else:
        length = in_steps(asked.epochs, per_epoch, update_s, training_s)
    if asked.step_updates is None:
        return length
    updates = max(1, round(length.epochs * per_epoch))
    if asked.step_updates > updates:
        raise UsageError(
            f"--step-updates {asked.step_updates}: a full training has {updates} updates ({length.epochs:.3g} epochs); "
            "give fewer, or more --epochs"
        )
    return length._replace(steps=max(1, round(updates / asked.step_updates)))


def batch_of(plan: SearchPlan, images: Images) -> int:
    """Images an update of the first configuration."""
    return min(first_configuration(plan).get("batch_size", 128), images.train)


def with_reserve(plan: SearchPlan, images: Images | None, cores: float) -> SearchPlan:
    """The plan of a search that continues, with what its time budget keeps back for the end; see `with_length`."""
    if images is None:
        return plan
    return plan.model_copy(update={"reserve_s": reserve_seconds(plan, images, usual_pace(plan, images, cores))})


def reserve_seconds(plan: SearchPlan, images: Images, pace: Pace) -> float:
    """What export and report will take, of a time budget."""
    if plan.time_budget_s is None:
        return 0.0
    looks = LOOKS_OF_PROBES if any(is_probe(each) for each in plan.first) else LOOKS
    wanted = EXPORT_S + REPORT_S + looks * images.holdout * pace.evaluate + SPARE * plan.time_budget_s
    return min(wanted, (1 - LEAST_SHARE) * plan.time_budget_s)


def training_seconds(plan: SearchPlan, used_s: float) -> float:
    """Between the first update and the end of training, in a time budget."""
    return math.inf if plan.time_budget_s is None else max(1.0, plan.time_budget_s - plan.reserve_s - used_s)


def slots_in_time(plan: SearchPlan, images: Images, pace: Pace, slots: int) -> int:
    """Trials at once: fewer than the `slots` that fit if each has time for few long trainings only.

    `pace` is that of one of these slots while all of them train.
    """
    per_epoch = max(1, images.train // batch_of(plan, images))
    epochs = longest_epochs(per_epoch, recipe_of(plan)) if plan.first_in_full else plan.epochs
    return fewer_slots(slots, epochs * images.train * pace.train, training_seconds(plan, START_S + MEASURE_S))


def check_time(plan: SearchPlan, images: Images, pace: Pace, used_s: float) -> None:
    """UsageError for a time budget in which the first configuration has no time for a few updates."""
    if plan.time_budget_s is None:
        return
    least_s = LEAST_UPDATES * batch_of(plan, images) * pace.train
    if plan.time_budget_s - used_s - LEAST_END_S < least_s:
        wanted = 2 * (used_s + EXPORT_S + REPORT_S + least_s)
        raise UsageError(
            f"--time-budget {clock(plan.time_budget_s)}: start, export and report take about "
            f"{used_s + EXPORT_S + REPORT_S:.0f} s, and {LEAST_UPDATES} updates of the first configuration "
            f"{least_s:.0f} s; give {clock(wanted)} or more, or smaller images (--image-size)"
        )
