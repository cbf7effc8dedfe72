"""Which trials become members: the best ones, as many as help on `select`. Pure functions on arrays."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from trainable.epoch import HeldOutScores, score


class Members(NamedTuple):
    """The chosen candidates by their index, best first, and what the mean of their logits scores on `select`."""

    indices: tuple[int, ...]
    scores: HeldOutScores


def choose_members(logits: Sequence[np.ndarray], labels: np.ndarray, most: int) -> Members:
    """Choose at most `most` of the candidates whose logits (images, classes) are given, by labels (images,).

    Candidates are ranked by top-1, then by loss. Of the best one, the best two, and so on, the mean of the logits with
    the highest top-1 wins; at equal top-1 the lower loss, then the fewer members. ValueError where there is nothing
    to choose from.
    """
    if not logits or not len(labels) or most < 1:
        raise ValueError(f"nothing to choose: {len(logits)} candidates, {len(labels)} labels, at most {most} members")
    ranked = rank(logits, labels)[:most]
    scores = [score_logits(mean, labels) for mean in prefix_means([logits[index] for index in ranked])]
    length = max(range(1, len(ranked) + 1), key=lambda n: (scores[n - 1].top1, -scores[n - 1].loss, -n))
    return Members(tuple(ranked[:length]), scores[length - 1])


def rank(logits: Sequence[np.ndarray], labels: np.ndarray) -> list[int]:
    """Indices of the candidates, best first: by top-1, then the lower loss, then the given order."""
    scores = [score_logits(each, labels) for each in logits]
    return sorted(range(len(scores)), key=lambda index: (-scores[index].top1, scores[index].loss))


def prefix_means(logits: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """The mean of the first array, of the first two, and so on; each (images, classes) in float64."""
    total = np.zeros(logits[0].shape)
    for count, each in enumerate(logits, start=1):
        total = total + each
        yield total / count


def score_logits(logits: np.ndarray, labels: np.ndarray) -> HeldOutScores:
    """Loss, top-1 and top-5 of logits (images, classes) against labels (images,), in single precision."""
    return score(torch.tensor(logits, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64))
