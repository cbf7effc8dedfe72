"""Candidates as greedy selection sees them: each with its temperature and its probabilities on `select`."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from analysis.calibration import fit_temperature
from analysis.candidates import Candidate
from analysis.greedy import ranking


class Library(NamedTuple):
    """Candidates, best first by themselves: by top-1 on `select`, then by the log loss."""

    candidates: tuple[Candidate, ...]
    temperatures: np.ndarray
    """(candidates,)."""
    probabilities: np.ndarray
    """float32 (candidates, images, classes) on `select`, at their temperatures."""
    labels: np.ndarray
    """int64 (images,)."""

    def pick(self, indices: Sequence[int]) -> "Library":
        """These candidates in this order."""
        order = list(indices)
        kept = tuple(self.candidates[index] for index in order)
        return Library(kept, self.temperatures[order], self.probabilities[order], self.labels)

    def extended(self, more: Sequence[Candidate]) -> "Library":
        """These candidates and more, ranked together."""
        if not more:
            return self
        other = make_library(more, self.labels)
        probabilities = np.concatenate([self.probabilities, other.probabilities])
        temperatures = np.concatenate([self.temperatures, other.temperatures])
        both = Library((*self.candidates, *other.candidates), temperatures, probabilities, self.labels)
        return both.pick(ranking(probabilities, self.labels))


def make_library(candidates: Sequence[Candidate], labels: np.ndarray) -> Library:
    """Fit each candidate's temperature on `select`, whose labels are (images,), and rank them."""
    temperatures = np.array([fit_temperature(each.logits, labels) for each in candidates])
    probabilities = np.stack(
        [calibrated(each.logits, temperature) for each, temperature in zip(candidates, temperatures, strict=True)]
    )
    library = Library(tuple(candidates), temperatures, probabilities, labels)
    return library.pick(ranking(probabilities, labels))


def calibrated(logits: np.ndarray, temperature: float) -> np.ndarray:
    """float32 probabilities (images, classes) of one model's logits."""
    return softmax(np.asarray(logits, dtype=np.float32) / np.float32(temperature), axis=1)
