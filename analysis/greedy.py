"""Greedy ensemble selection from a library of models (Caruana et al. 2004), as pure functions on arrays.

Models are added one at a time, with replacement, each time the one with which the mean of the probabilities scores
best. It begins with the best models in their order (sorted initialisation), and is repeated on random halves of the
images (bagging), so that a model which is only lucky on a few of them gets little weight.
"""

from typing import Literal

import numpy as np

from analysis.pooling import SMALLEST

Metric = Literal["log-loss", "top1"]

BAGS = 10
ROUNDS = 12
"""Additions at most: shares come in steps of 1/12 or larger."""
START = 5
"""The best models that it may begin with."""
TIE = 1e-3
"""Weight of the log loss beside top-1: it decides between equal accuracies."""


def vote(probabilities: np.ndarray, labels: np.ndarray, metric: Metric, seed: int) -> np.ndarray:
    """Mean share (models,) that greedy selection gives each model over `BAGS` random halves of the images.

    Args:
        probabilities: Float (models, images, classes).
        labels: Int64 (images,).
        metric: What is improved.
        seed: Fixes the halves.
    """
    generator = np.random.default_rng(seed)
    seen = _seen(probabilities, labels, metric)
    votes = np.zeros(len(probabilities))
    for _ in range(BAGS):
        half = generator.permutation(len(labels))[: max(1, len(labels) // 2)]
        votes += _shares(seen[:, half], labels[half], metric)
    return votes / BAGS


def shares(probabilities: np.ndarray, labels: np.ndarray, metric: Metric) -> np.ndarray:
    """Share (models,) of each model in the best mean of probabilities (models, images, classes) that greedy meets."""
    return _shares(_seen(probabilities, labels, metric), labels, metric)


def ranking(probabilities: np.ndarray, labels: np.ndarray) -> list[int]:
    """Models (models, images, classes), best first: by top-1, then by the lower log loss."""
    return np.argsort(badness(probabilities, labels, "top1"), kind="stable").tolist()


def badness(sums: np.ndarray, labels: np.ndarray, metric: Metric, count: int = 1) -> np.ndarray:
    """What is to be lowered, (models,): the log loss, or the share of wrong first guesses with a little of it.

    `sums` are the probabilities of `count` models added up, (models, images, classes); for the log loss
    (models, images), those of the true class.
    """
    if metric == "log-loss":
        return -np.log(np.maximum(sums / count, SMALLEST)).mean(axis=1)
    wrong = (sums.argmax(axis=2) != labels).mean(axis=1)
    return wrong + TIE * badness(_of_truth(sums, labels), labels, "log-loss", count)


def _seen(probabilities: np.ndarray, labels: np.ndarray, metric: Metric) -> np.ndarray:
    """What a metric looks at."""
    return _of_truth(probabilities, labels) if metric == "log-loss" else probabilities


def _of_truth(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return probabilities[:, np.arange(len(labels)), labels]


def _shares(seen: np.ndarray, labels: np.ndarray, metric: Metric) -> np.ndarray:
    chosen = _sorted_start(seen, labels, metric)
    total = seen[chosen].sum(axis=0)
    best, lowest = list(chosen), badness(total[None], labels, metric, len(chosen))[0]
    while len(chosen) < ROUNDS:
        count = len(chosen) + 1
        # one model at a time: all sums together would take the memory of the library again
        tried = np.concatenate([badness((total + model)[None], labels, metric, count) for model in seen])
        following = int(tried.argmin())
        chosen.append(following)
        total = total + seen[following]
        if tried[following] < lowest:
            best, lowest = list(chosen), tried[following]
    return np.bincount(best, minlength=len(seen)) / len(best)


def _sorted_start(seen: np.ndarray, labels: np.ndarray, metric: Metric) -> list[int]:
    """The best models by themselves, as many as score best together."""
    ranked = np.argsort(badness(seen, labels, metric), kind="stable")[:START]
    means = np.stack([seen[ranked[:count]].mean(axis=0) for count in range(1, len(ranked) + 1)])
    return ranked[: int(badness(means, labels, metric).argmin()) + 1].tolist()
