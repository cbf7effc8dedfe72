"""How good probabilities are, and the temperature that makes them honest (Guo et al. 2017)."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import bootstrap

from analysis.manifest import Figures
from analysis.pooling import SMALLEST, log_scores

BINS = 15
RESAMPLES = 2000
LEVEL = 0.95
PRIOR_IMAGES = 4.0
"""How much a temperature of 1 counts before any image is seen: the prior's standard deviation of log T is about 0.5, as
that of trainings with label smoothing and mixed images (0.5 to 0.7) or too many epochs (1.5 to 2)."""
COLDEST, HOTTEST = 0.25, 4.0
"""Where a temperature is looked for: nearly three of the prior's standard deviations around 1."""
FIT_IMAGES = 2000
"""Images a temperature is fitted on, where there are more."""
TOP = 5


class Reliability(NamedTuple):
    """Images by the confidence of their first guess, in bins of equal width; NaN where a bin is empty."""

    images: np.ndarray
    """How many."""
    confidence: np.ndarray
    """Its mean in each bin."""
    accuracy: np.ndarray
    """Share of right guesses in each bin."""

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean distance of confidence and accuracy, weighted by images; 0 to 1."""
        gaps = np.abs(self.confidence - self.accuracy)[self.images > 0]
        return float((gaps * self.images[self.images > 0]).sum() / self.images.sum())


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> Reliability:
    """The reliability diagram of probabilities (images, classes) against labels (images,)."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    places = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)  # bins are open below, closed above
    images = np.bincount(places, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(places, each, bins) / images for each in (confidence, right)]
    return Reliability(images, *means)


def fit_temperature(logits: np.ndarray, labels: np.ndarray, applied: float = 1.0) -> float:
    """The most probable temperature, given that softmax(logits / temperature) gave the labels.

    Logarithms of probabilities are logits too. Of few images each label is held for a little uncertain (Platt 1999,
    section 2.2): else the temperature would fall to its bound where all guesses happen to be right.

    Args:
        logits: (images, classes).
        labels: (images,).
        applied: What the logits have been divided by already, on the word of the same images: prior and bounds are
            those of the product, so that a second fit doesn't undo what the first one owed to the prior.
    """
    step = -(-len(labels) // FIT_IMAGES)
    scores = np.asarray(logits[::step], dtype=np.float32)
    below_best = scores - scores.max(axis=1, keepdims=True)
    doubt = np.float32(1 / (len(scores) + 2))
    of_truth = (1 - doubt) * below_best[np.arange(len(scores)), labels[::step]] + doubt * below_best.mean(axis=1)

    def loss(temperature: float) -> float:
        divisor = np.float32(temperature)
        return float((np.log(np.exp(below_best / divisor).sum(axis=1)) - of_truth / divisor).mean())

    return most_probable(loss, len(scores), applied)


def most_probable(loss: Callable[[float], float], images: int, applied: float = 1.0) -> float:
    """The temperature with the highest posterior probability, within the bounds.

    The prior of 1 / temperature is a gamma distribution with its mode at 1: unlike a normal one of log T it leaves the
    loss convex in 1 / temperature, so that there is one minimum, and it moves away from 1 with the number of images.

    Args:
        loss: Mean negative log likelihood of the images at a temperature.
        images: How many speak.
        applied: See `fit_temperature`.
    """

    def whole_loss(log_temperature: float) -> float:
        temperature = math.exp(log_temperature)
        in_all = temperature * applied
        return images * loss(temperature) + PRIOR_IMAGES * (1 / in_all + math.log(in_all))

    bounds = math.log(COLDEST / applied), math.log(HOTTEST / applied)
    return math.exp(minimize_scalar(whole_loss, bounds=bounds, method="bounded", options={"xatol": 5e-3}).x)


def fit_together(
    mean: np.ndarray, temperatures: Sequence[float] | np.ndarray, weights: Sequence[float], labels: np.ndarray
) -> float:
    """The temperature of an ensemble, from the mean (images, classes) of its members' calibrated probabilities.

    The members' temperatures count as applied, in their geometric mean. Of a single member nothing is left to do.
    """
    if len(temperatures) == 1:
        return 1.0
    applied = math.exp(np.average(np.log(temperatures), weights=weights))
    return fit_temperature(log_scores(mean), labels, applied)


def figures(probabilities: np.ndarray, labels: np.ndarray) -> Figures:
    """Everything that ensemble.json tells of probabilities (images, classes) against labels (images,)."""
    rows = np.arange(len(labels))
    of_truth = probabilities[rows, labels].astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    squares = np.square(probabilities, dtype=np.float64).sum(axis=1) - 2 * of_truth + 1
    low, high = interval(right)
    return Figures(
        loss=float(-np.log(np.maximum(of_truth, SMALLEST)).mean()),
        brier=float(squares.mean()),
        ece=reliability(probabilities, labels).ece,
        top1=float(right.mean()),
        top5=float(((probabilities > of_truth[:, None]).sum(axis=1) < TOP).mean()),
        images=len(labels),
        top1_low=low,
        top1_high=high,
    )


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval (percentiles) of the mean of values (images,); of one image only its value."""
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) < 2:
        return float(numbers.mean()), float(numbers.mean())
    found = bootstrap(
        (numbers,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        batch=100,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def helps(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether losses (images,) fall by more than the standard error of their mean difference."""
    gains = np.asarray(before, dtype=np.float64) - after
    return bool(gains.mean() > gains.std(ddof=1) / math.sqrt(len(gains))) if len(gains) > 1 else False


def losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Negative log likelihood of each image, float64 (images,), in nats."""
    return -np.log(np.maximum(probabilities[np.arange(len(labels)), labels].astype(np.float64), SMALLEST))
