"""From an experiment's trials to the members of an ensemble, with their weights, temperatures and views.

All of it looks at `select` only. Trials, their latest epochs and soups of them are candidates; bagged greedy selection
votes on them; the best ensemble of each size is weighed; one is picked and calibrated.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch

from analysis.augmented import Views, with_views
from analysis.calibration import fit_temperature
from analysis.candidates import Candidate, find_candidates, usable
from analysis.cost import CostMeter
from analysis.front import Choice, Limits, best, knee, make_front
from analysis.greedy import Metric
from analysis.library import Library, make_library
from analysis.pooling import log_scores, pool
from analysis.retraining import train_again
from analysis.snapshots import snapshots
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
    refit: bool = False
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

    def probabilities(self) -> np.ndarray:
        """float32 (images, classes) of the ensemble on `select`."""
        logits = np.stack([member.logits for member in self.members])
        return pool(logits, self.temperatures, self.choice.weights, self.temperature)


def select_members(
    folder: Path, trials: "DataFrame", facts: dict[str, Any], wanted: Wanted, scratch: Path, device: torch.device
) -> Selection:
    """Choose an ensemble from the experiment in `folder`.

    Args:
        folder: Of the experiment.
        trials: As `load_experiment` gives them.
        facts: The content of experiment.json.
        wanted: What is asked for.
        scratch: Where the weights of soups are written; they must stay there until they are exported.
        device: Where new logits are computed, and latencies measured.

    UserError where no trial can be a member, or none is within the limits, or the data set is gone or has changed.
    """
    found = find_candidates(folder, trials, facts, wanted.retrain)
    dataset = open_data(found[0], facts["dataset"])
    labels = dataset.cache.labels[dataset.splits.select]
    candidates, notes = usable(found, len(labels), dataset.num_classes)
    library = make_library(candidates, labels)
    single = candidates[0]
    if wanted.extras and not wanted.refit:
        more, said = free_candidates(library.candidates, dataset, scratch, device)
        library = library.extended(more)
        notes += said
    meter = CostMeter(dataset.num_classes, device)
    front = make_front(library, wanted.metric, wanted.limits, meter.of, single.config.seed)
    choice = knee(front, len(labels)) if wanted.pick == "knee" else best(front)
    members = [library.candidates[index] for index in choice.members]
    if wanted.retrain:
        *members, single = retrained(folder, [*members, single])
    views: Views = (WHOLE,)
    if wanted.extras:
        members, views, said = with_views(
            members, choice.weights, dataset, device, images_within(wanted.limits.latency_ms, choice)
        )
        notes += said
    temperatures = tuple(fit_temperature(member.logits, labels) for member in members)
    together = pool(np.stack([member.logits for member in members]), temperatures, choice.weights)
    return Selection(
        members=tuple(members),
        temperatures=temperatures,
        temperature=fit_temperature(log_scores(together), labels),
        views=views,
        single=single,
        library=library,
        front=tuple(front),
        choice=choice,
        dataset=dataset,
        notes=tuple(notes),
    )


def open_data(candidate: Candidate, fingerprint: str) -> Dataset:
    """The images that the experiment was made with; UserError where they are gone or have changed."""
    config = candidate.config
    if is_missing(config.data):
        raise UserError(f"{config.data}: the experiment's data set is no longer there; put it back and export again")
    dataset = open_images_of(config.model_copy(update={"image_size": candidate.image_size}))
    if dataset.cache.fingerprint != fingerprint:
        raise UserError(f"{config.data}: the images have changed since the search; restore them and export again")
    return dataset


def free_candidates(
    trials: Sequence[Candidate], dataset: Dataset, scratch: Path, device: torch.device
) -> tuple[list[Candidate], list[str]]:
    """What the search gives without further training, from its trials, best first; and a line on each soup."""
    later = snapshots(trials, dataset, device)
    made, notes = soups(trials, dataset, scratch, device)
    return [*later, *made], notes


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
