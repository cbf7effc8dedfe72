"""From an experiment's trials to the members of an ensemble, with their weights, temperatures and views.

All of it looks at `select` only. Trials, their latest epochs and soups of them are candidates; bagged greedy selection
votes on them; the best ensemble of each size is weighed; one is picked, unless the best single candidate is better
beyond chance, and calibrated. What doesn't fit into the time that is left isn't tried.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch

from analysis.augmented import TRIED, Views, with_views
from analysis.calibration import helps, losses
from analysis.candidates import Candidate, find_candidates, usable
from analysis.cost import CostMeter
from analysis.deadline import Deadline
from analysis.front import Choice, Limits, best, knee, make_front, not_worse
from analysis.greedy import Metric
from analysis.library import Library, make_library, temperature_of, temperature_together
from analysis.pace import Estimate, Pace, measure_pace
from analysis.pooling import pool
from analysis.retraining import Refit, refit_seconds, train_again
from analysis.snapshots import LATEST, snapshots
from analysis.soup import soups
from analysis.views import COUNTS, WHOLE
from trainable.again import retrained_weights
from trainable.data.dataset import Dataset, open_images_of
from trainable.data.origin import is_missing
from trainable.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

Pick = Literal["knee", "best"]


class Wanted(NamedTuple):
    """What a user asks of the selection."""

    limits: Limits = Limits(members=5)
    metric: Metric = "log-loss"
    pick: Pick = "knee"
    extras: bool = True
    """Whether latest epochs, soups and views are tried."""
    retrain: bool = False
    """Whether trials without weights are candidates, which are trained again where they are picked."""
    refit: Refit = "no"
    """Whether the members will be trained again on train and select: then only trials are candidates."""


class Selection(NamedTuple):
    """What predicts, and how it was found."""

    members: tuple[Candidate, ...]
    """Best first. Their logits are the means over the views."""
    temperatures: tuple[float, ...]
    temperature: float
    views: Views
    single: Candidate
    """The best trial at its best epoch, as `load_experiment` ranks them: what the search gives without an ensemble."""
    library: Library
    front: tuple[Choice, ...]
    choice: Choice
    """The one of the front that was picked."""
    dataset: Dataset
    notes: tuple[str, ...]
    """What was tried, and why it was kept or left out, a line each."""
    refit: bool = False
    """Whether the members are to be trained again on train and select."""

    def holds(self, candidate: Candidate) -> bool:
        """Whether a member is this candidate as it was trained, and looks at whole images alone."""
        as_trained = not self.refit and self.views == (WHOLE,)
        return as_trained and any(member.weights == candidate.weights for member in self.members)

    def probabilities(self) -> np.ndarray:
        """float32 (images, classes) of the ensemble on `select`."""
        logits = np.stack([member.logits for member in self.members])
        return pool(logits, self.temperatures, self.choice.weights, self.temperature)


def select_members(
    folder: Path,
    trials: "DataFrame",
    facts: dict[str, Any],
    wanted: Wanted,
    scratch: Path,
    device: torch.device,
    deadline: Deadline | None = None,
) -> Selection:
    """Choose an ensemble from the experiment in `folder`.

    Args:
        folder: Of the experiment.
        trials: As `load_experiment` gives them.
        facts: The content of experiment.json.
        wanted: What is asked for.
        scratch: Where the weights of soups are written; they must stay there until they are exported.
        device: Where new logits are computed, and latencies measured.
        deadline: When the export has to end; by default there is time for everything.

    UserError where no trial can be a member, or none is within the limits, or the data set is gone or has changed.
    """
    deadline = deadline or Deadline()
    with deadline.part("candidates"):
        found = find_candidates(folder, trials, facts, wanted.retrain)
        dataset = open_data(found[0], facts["dataset"])
        labels = dataset.cache.labels[dataset.splits.select]
        candidates, notes = usable(found, len(labels), dataset.num_classes)
        library, single = make_library(candidates, labels), candidates[0]
        estimate = make_estimate(single, library.candidates, dataset, device, deadline)
    wanted, said = in_time(wanted, library.candidates, estimate)
    notes += said
    pick = partial(picked, wanted=wanted, meter=CostMeter(dataset.num_classes, device), seed=single.config.seed)
    refit_s, said = plan_refit(folder, trials, wanted.refit, estimate, lambda: pick(library).members)
    notes += said
    estimate = estimate._replace(refit_s=refit_s or 0.0)
    if wanted.extras and refit_s is None:
        more, said = free_candidates(library.candidates, dataset, scratch, device, estimate, wanted.limits.members)
        library, notes = without_lucky_epochs(library.extended(more)), [*notes, *said]
    with deadline.part("votes"):
        chosen = pick(library)
    members, choice, notes = chosen.members, chosen.choice, [*notes, *chosen.notes]
    if wanted.retrain:
        *members, single = retrained(folder, [*members, single])
    views: Views = (WHOLE,)
    if wanted.extras:
        most, no_time = images_within(wanted.limits.latency_ms, choice), partial(estimate.no_view, members)
        with deadline.part("views"):
            members, views, said = with_views(members, choice.weights, dataset, device, most, no_time)
        notes += said
    temperatures = tuple(temperature_of(member, labels) for member in members)
    return Selection(
        members=tuple(members),
        temperatures=temperatures,
        temperature=temperature_together(members, temperatures, choice.weights, labels),
        views=views,
        single=single,
        library=library,
        front=tuple(chosen.front),
        choice=choice,
        dataset=dataset,
        notes=tuple(notes),
        refit=refit_s is not None,
    )


def without_lucky_epochs(library: Library) -> Library:
    """Without the best epochs of trials whose latest one isn't worse beyond chance: of many epochs the best on few
    images is a lucky one, and promises more than it keeps."""
    places = {candidate.trial: place for place, candidate in enumerate(library.candidates)}
    of_images = [losses(each, library.labels) for each in library.probabilities]
    lucky = {
        place
        for trial, place in places.items()
        if (latest := places.get(f"{trial}{LATEST}")) is not None and not helps(of_images[latest], of_images[place])
    }
    return library.pick([place for place in range(len(places)) if place not in lucky])


def open_data(candidate: Candidate, fingerprint: str) -> Dataset:
    """The images that the experiment was made with; UserError where they are gone or have changed."""
    config = candidate.config
    if is_missing(config.data):
        raise UserError(f"{config.data}: the experiment's data set is no longer there; put it back and export again")
    dataset = open_images_of(config.model_copy(update={"image_size": candidate.image_size}))
    if dataset.cache.fingerprint != fingerprint:
        raise UserError(f"{config.data}: the images have changed since the search; restore them and export again")
    return dataset


def make_estimate(
    single: Candidate, candidates: Sequence[Candidate], dataset: Dataset, device: torch.device, deadline: Deadline
) -> Estimate:
    """What tells whether something fits into the time that is left; measured only where time is limited."""
    splits, measured = dataset.splits, next((each for each in candidates if each.weights), None)
    pace = measure_pace(measured, dataset, device) if measured and deadline.is_limited else Pace()
    return Estimate(deadline, pace, single, len(splits.train), len(splits.select), len(splits.holdout))


class Picked(NamedTuple):
    """What is picked of a library."""

    front: list[Choice]
    choice: Choice
    members: list[Candidate]
    notes: list[str]


def picked(library: Library, wanted: Wanted, meter: CostMeter, seed: int) -> Picked:
    """The ensemble as it is wanted; the best single candidate, and a line, if the ensemble is worse beyond chance."""
    front = make_front(library, wanted.metric, wanted.limits, meter.of, seed)
    ensemble = knee(front, len(library.labels)) if wanted.pick == "knee" else best(front)
    choice = not_worse(front, ensemble)
    members = [library.candidates[index] for index in choice.members]
    return Picked(front, choice, members, [] if choice == ensemble else [left_out(ensemble, choice, members[0])])


def in_time(wanted: Wanted, candidates: Sequence[Candidate], estimate: Estimate) -> tuple[Wanted, list[str]]:
    """What is wanted with no more members than there is time to look at, and a line if that is fewer."""
    limits = wanted.limits
    if not estimate.deadline.is_limited:
        return wanted, []
    most = estimate.most_members(candidates[: limits.members])
    if most >= min(limits.members, len(candidates)):
        return wanted, []
    reason = estimate.shortage(estimate.required(candidates[: limits.members]), 0.0)
    return wanted._replace(limits=limits._replace(members=most)), [
        f"at most {most} member{'s' * (most > 1)}: for more {reason}"
    ]


def left_out(ensemble: Choice, single: Choice, best: Candidate) -> str:
    """Why an ensemble isn't exported."""
    return (
        f"an ensemble of {len(ensemble.members)} is left out: on images that had no say it has "
        f"{ensemble.out_of_bag:.4f}, {best.trial} alone {single.out_of_bag:.4f} ({ensemble.lag:.1f} standard errors)"
    )


def plan_refit(
    folder: Path,
    trials: "DataFrame",
    asked: Refit,
    estimate: Estimate,
    members: Callable[[], Sequence[Candidate]],
) -> tuple[float | None, list[str]]:
    """Seconds in which the members are trained again, about; None if they aren't. And a line on what `auto` decided."""
    if asked == "no":
        return None, []
    if asked == "auto" and not estimate.deadline.is_limited:
        return None, ["no refit: --refit auto needs a --time-budget, to tell whether it fits"]
    chosen = members()
    share = (estimate.train + estimate.select) / estimate.train
    seconds = share * refit_seconds(folder, [each.trial for each in chosen], trials)
    if asked == "yes":
        return seconds, []
    if seconds > 0 and (reason := estimate.refusal(seconds, estimate.required(chosen))):
        return None, [f"no refit: {reason}"]
    return seconds, [f"refit: about {seconds:.1f} s, which --time-budget leaves"]


def free_candidates(
    trials: Sequence[Candidate], dataset: Dataset, scratch: Path, device: torch.device, estimate: Estimate, members: int
) -> tuple[list[Candidate], list[str]]:
    """What the search gives without further training, from its trials, best first; and what was tried, a line each.

    What doesn't fit in beside views of so many members is left out, soups first.
    """

    def reserved() -> float:
        return estimate.reserved(trials[:members], TRIED)

    with estimate.deadline.part("latest epochs"):
        later, without = snapshots(
            trials, dataset, device, lambda each: estimate.deadline.fits(estimate.latest([each]) + reserved())
        )
    names, shortage = ", ".join(each.trial for each in without), estimate.shortage(estimate.latest(without), reserved())
    notes = [f"latest epochs of {names} aren't tried: {shortage}"] if without else []
    with estimate.deadline.part("soups"):
        made, said = soups(
            trials, dataset, scratch, device, lambda each: estimate.refusal(estimate.soup(each), reserved())
        )
    return [*later, *made], [*notes, *said]


def retrained(folder: Path, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The same candidates, those without weights trained again."""
    missing = sorted({candidate.trial for candidate in candidates if candidate.weights is None})
    if missing:
        train_again(folder, missing, refit=False)
    return [
        candidate._replace(weights=candidate.weights or retrained_weights(folder / candidate.trial))
        for candidate in candidates
    ]


def images_within(latency_ms: float | None, choice: Choice) -> int:
    """How many images may be made of one within the latency."""
    return sum(COUNTS.values()) if latency_ms is None else int(latency_ms / choice.cost.latency_ms)
