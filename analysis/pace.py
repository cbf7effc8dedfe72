"""What the parts of an export would take: measured on one candidate, and scaled to others by the search's records."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch

from analysis.candidates import Candidate
from analysis.deadline import CAUTION, Deadline
from analysis.inference import load_member, predict_rows
from analysis.soup import STATISTICS_IMAGES
from analysis.views import COUNTS
from trainable.data.dataset import Dataset
from trainable.device import EVAL_BATCH

MEASURED = 64
"""Images of `select` that are timed."""
INTERVAL_S, INTERVALS = 2e-5, 4
"""Seconds an image that a bootstrap interval takes; the figures on holdout have one a member, and so many more."""


class Pace(NamedTuple):
    """How fast models are here."""

    load_s: float = 0.0
    """To build a model and load its weights."""
    image_s: float = 0.0
    """An image through the candidate that was measured."""
    slowness: float = 0.0
    """That as a multiple of what the search's records say; 0 where they say nothing."""

    def seconds(self, candidate: Candidate, images: int) -> float:
        """To load a candidate and predict so many images."""
        return self.load_s + images * (candidate.image_s * self.slowness or self.image_s)


def measure_pace(candidate: Candidate, dataset: Dataset, device: torch.device) -> Pace:
    """From some images of `select` through a candidate, after a first one that lets the device get ready."""
    began = time.perf_counter()
    module = load_member(candidate, dataset.num_classes)
    loaded = time.perf_counter()
    rows = dataset.splits.select[:MEASURED]
    predict_rows(module, dataset.cache, rows[:1], device, "first image")
    ready = time.perf_counter()
    predict_rows(module, dataset.cache, rows, device, "first images")
    image_s = (time.perf_counter() - ready) / len(rows)
    return Pace(loaded - began, image_s, image_s / candidate.image_s if candidate.image_s else 0.0)


class Estimate(NamedTuple):
    """Whether the parts of a selection that may be left out fit in beside those that may not."""

    deadline: Deadline
    pace: Pace
    single: Candidate
    """The best trial, which is looked at on holdout too."""
    train: int
    select: int
    holdout: int
    """Images of each split."""
    refit_s: float = 0.0
    """To train the members again, if that is to be done."""

    def required(self, members: Sequence[Candidate], count: int = 1) -> float:
        """Seconds of what is never left out: the members' check, and the figures on holdout.

        Args:
            members: Of the ensemble.
            count: How many images are made of one.
        """
        known = count == 1 and not self.refit_s and any(each.weights == self.single.weights for each in members)
        single = 0.0 if known else self.pace.seconds(self.single, self.holdout)
        intervals = (len(members) + INTERVALS) * self.holdout * INTERVAL_S
        return self._predicted(members, count * self._final_images()) + single + intervals + self.refit_s

    def most_members(self, candidates: Sequence[Candidate]) -> int:
        """How many of the first candidates there is time for, at least one."""
        counts = range(len(candidates), 1, -1)
        return next((count for count in counts if self.deadline.fits(self.required(candidates[:count]))), 1)

    def view(self, view: str, members: Sequence[Candidate]) -> float:
        """Seconds to try a view on `select`, and to use it wherever the members predict."""
        return self._predicted(members, COUNTS[view] * (self.select + self._final_images()))

    def reserved(self, members: Sequence[Candidate], views: Sequence[str]) -> float:
        """Seconds of what is required, and of those views, in this order, that fit in beside it."""
        seconds = self.required(members)
        for view in views:
            more = self.view(view, members)
            seconds += more if self.deadline.fits(seconds + more) else 0.0
        return seconds

    def latest(self, candidates: Sequence[Candidate]) -> float:
        """Seconds to score the latest epochs of trials."""
        return self._predicted(candidates, self.select)

    def soup(self, candidates: Sequence[Candidate]) -> float:
        """Seconds to try the soup of these candidates."""
        return self._predicted(candidates[1:], self.select + STATISTICS_IMAGES)

    def refusal(self, seconds: float, reserved: float) -> str:
        """Why there is no time for a part beside what is reserved; empty if there is."""
        return "" if self.deadline.fits(seconds + reserved) else self.shortage(seconds, reserved)

    def shortage(self, seconds: float, reserved: float) -> str:
        """What a part would take, and what is left for it."""
        left = max(0.0, self.deadline.left() / CAUTION - reserved)
        return f"it would take about {seconds:.1f} s, and --time-budget leaves {left:.1f} s"

    def no_view(self, members: Sequence[Candidate], view: str, count: int) -> str:
        """The same of a view, if so many images are made of one without it."""
        return self.refusal(self.view(view, members), self.required(members, count))

    def _final_images(self) -> int:
        return min(self.select, EVAL_BATCH) + self.holdout

    def _predicted(self, candidates: Sequence[Candidate], images: int) -> float:
        return sum(self.pace.seconds(each, images) for each in candidates)
