"""Greedy ensemble selection from a library of models (Caruana et al. 2004), as pure functions on arrays.

Models are added one at a time, with replacement, each time the one with which the mean of the probabilities scores
best, beginning with the best models (sorted initialisation). It is repeated on random halves of the images (bagging),
and the other halves tell how much an ensemble that was chosen like this is worth.

Few images can't tell good models apart, and the one that looks best is lucky. So it begins with all that the images
don't speak against, and continues only if that gains something: both are measured in nats of log likelihood, images
times difference of the loss (in images, for top-1). Nor can few images speak against a weak model: one that was trained
for a shorter time than others starts with nats against it, since the search had reasons not to train it on. The more
images, the less any of these rules matters.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from analysis.calibration import losses
from analysis.pooling import SMALLEST

Metric = Literal["log-loss", "top1"]

BAGS = 10
ROUNDS = 12
"""Additions at most: shares come in steps of 1/12 or larger."""
START = 5
"""The best models that it may begin with."""
LIKELY = 3.0
"""Nats (or images) behind the best that don't speak against a model: a likelihood ratio of 1 to 20."""
WORTH = 1.0
"""Nats (or images) that other weights must gain: what a parameter costs (Akaike 1974)."""
HALVED = 1.0
"""Nats (or images) against a model for each halving of the longest training: an eighth of it is `LIKELY` behind."""
TIE = 1e-3
"""Weight of the log loss beside top-1: it decides between equal accuracies."""


class Ballot(NamedTuple):
    """What one half of the images chooses."""

    shares: np.ndarray
    """(models,), of each model in the ensemble; they add up to 1."""
    alone: np.ndarray
    """(models,), the badness of each by itself, with what its handicap adds."""
    half: np.ndarray
    """Indices of the images that choose."""
    others: np.ndarray
    """Indices of the images that had no say."""


def ballots(
    probabilities: np.ndarray, labels: np.ndarray, metric: Metric, seed: int, trained: Sequence[float] | None = None
) -> list[Ballot]:
    """`BAGS` random halves of the images choose, each on its own.

    Args:
        probabilities: Float (models, images, classes).
        labels: Int64 (images,).
        metric: What is improved.
        seed: Fixes the halves.
        trained: How long each model's training was, in any unit; by default all alike.
    """
    generator = np.random.default_rng(seed)
    seen = scored(probabilities, labels, metric)
    against = handicaps(trained or [1.0] * len(seen))
    found = []
    for _ in range(BAGS):
        half, others = np.split(generator.permutation(len(labels)), [(len(labels) + 1) // 2])
        alone = badness(seen[:, half], labels[half], metric) + against / len(half)
        found.append(Ballot(shares(seen[:, half], labels[half], metric, alone, against), alone, half, others))
    return found


def handicaps(trained: Sequence[float]) -> np.ndarray:
    """Nats (models,) against models whose trainings were that long."""
    return HALVED * np.log2(max(trained) / np.asarray(trained, dtype=np.float64))


def ranking(probabilities: np.ndarray, labels: np.ndarray) -> list[int]:
    """Models (models, images, classes), best first: by top-1, then by the lower log loss."""
    return np.argsort(badness(probabilities, labels, "top1"), kind="stable").tolist()


def image_badness(probabilities: np.ndarray, labels: np.ndarray, metric: Metric) -> np.ndarray:
    """Badness of one model's or ensemble's probabilities (images, classes) for each image, (images,)."""
    loss = losses(probabilities, labels)
    return loss if metric == "log-loss" else (probabilities.argmax(axis=1) != labels) + TIE * loss


def badness(sums: np.ndarray, labels: np.ndarray, metric: Metric, count: int = 1) -> np.ndarray:
    """What is to be lowered, (models,): the log loss, or the share of wrong first guesses with a little of it.

    `sums` are the probabilities of `count` models added up, (models, images, classes); for the log loss
    (models, images), those of the true class.
    """
    if metric == "log-loss":
        return -np.log(np.maximum(sums / count, SMALLEST)).mean(axis=1)
    wrong = (sums.argmax(axis=2) != labels).mean(axis=1)
    return wrong + TIE * badness(_of_truth(sums, labels), labels, "log-loss", count)


def scored(probabilities: np.ndarray, labels: np.ndarray, metric: Metric) -> np.ndarray:
    """What `badness` looks at, of probabilities (models, images, classes)."""
    return _of_truth(probabilities, labels) if metric == "log-loss" else probabilities


def _of_truth(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return probabilities[:, np.arange(len(labels)), labels]


def shares(seen: np.ndarray, labels: np.ndarray, metric: Metric, alone: np.ndarray, against: np.ndarray) -> np.ndarray:
    """Share (models,) of each model in the mean that greedy selection takes.

    `seen` is what `badness` looks at, `alone` (models,) the badness of each model by itself with its handicap, and
    `against` (models,) the handicaps: an ensemble has the mean of its models'.
    """
    chosen = _sorted_start(alone, len(labels))
    handicap = against / len(labels)
    total = seen[chosen].sum(axis=0)
    best, lowest = list(chosen), badness(total[None], labels, metric, len(chosen))[0] + handicap[chosen].mean()
    while len(chosen) < ROUNDS:
        count = len(chosen) + 1
        # one model at a time: all sums together would take the memory of the library again
        tried = np.concatenate([badness((total + model)[None], labels, metric, count) for model in seen])
        tried += (handicap[chosen].sum() + handicap) / count
        following = int(tried.argmin())
        chosen.append(following)
        total = total + seen[following]
        if len(labels) * (lowest - tried[following]) >= WORTH:
            best, lowest = list(chosen), tried[following]
    return np.bincount(best, minlength=len(seen)) / len(best)


def _sorted_start(alone: np.ndarray, images: int) -> list[int]:
    """The best models by themselves, without those that the images speak against."""
    ranked = np.argsort(alone, kind="stable")[:START]
    return ranked[images * (alone[ranked] - alone.min()) <= LIKELY].tolist()
