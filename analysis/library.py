"""Candidates as greedy selection sees them: each with its temperature and its probabilities on `select`."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from analysis.calibration import fit_temperature, fit_together
from analysis.candidates import Candidate
from analysis.greedy import ranking
from analysis.pooling import pool


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
    temperatures = np.array([temperature_of(each, labels) for each in candidates])
    probabilities = np.stack(
        [calibrated(each.logits, temperature) for each, temperature in zip(candidates, temperatures, strict=True)]
    )
    library = Library(tuple(candidates), temperatures, probabilities, labels)
    return library.pick(ranking(probabilities, labels))


def temperature_of(candidate: Candidate, labels: np.ndarray) -> float:
    """Of a candidate, on `select`, whose labels are (images,); of a probe, on what it says out of fold too."""
    further = candidate.out_of_fold
    if further is None:
        return fit_temperature(candidate.logits, labels)
    logits = np.concatenate([candidate.logits, further.logits])
    return fit_temperature(logits, np.concatenate([labels, further.labels]))


def temperature_together(
    members: Sequence[Candidate], temperatures: Sequence[float], weights: Sequence[float], labels: np.ndarray
) -> float:
    """Of an ensemble, given its members' own temperatures: on `select`, of probes alone also on what they say out of
    fold."""
    together = pool(np.stack([member.logits for member in members]), temperatures, weights)
    further = [member.out_of_fold for member in members if member.out_of_fold is not None]
    if len(further) == len(members) and all(np.array_equal(each.labels, further[0].labels) for each in further):
        more = pool(np.stack([each.logits for each in further]), temperatures, weights)
        together, labels = np.concatenate([together, more]), np.concatenate([labels, further[0].labels])
    return fit_together(together, temperatures, weights, labels)


def calibrated(logits: np.ndarray, temperature: float) -> np.ndarray:
    """float32 probabilities (images, classes) of one model's logits."""
    return softmax(np.asarray(logits, dtype=np.float32) / np.float32(temperature), axis=1)
