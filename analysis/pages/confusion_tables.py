"""Which classes an ensemble takes for which: tables from its guesses on holdout."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.manifest import ClassEntry

MOST_CLASSES = 15
"""Rows of the matrix."""
LONGEST_NAME = 24
"""Characters of a class's name in a plot."""


class Confusion(NamedTuple):
    """The worst classes, and what their images were taken for."""

    classes: np.ndarray
    """Indices of the classes, (rows,)."""
    counts: np.ndarray
    """int (rows, rows): images of the row's class that were taken for the column's."""
    elsewhere: np.ndarray
    """int (rows,): images of the row's class that were taken for a class that has no column."""


def confusion_counts(labels: np.ndarray, guesses: np.ndarray, classes: int) -> np.ndarray:
    """int (classes, classes): images of the row's class that were taken for the column's."""
    return np.bincount(labels * classes + guesses, minlength=classes**2).reshape(classes, classes)


def worst_classes(counts: np.ndarray, most: int = MOST_CLASSES) -> Confusion:
    """All classes in their order, or of more than `most` those with the largest share of wrong guesses, worst first."""
    images, right = counts.sum(axis=1), counts.diagonal()
    places = np.arange(len(counts))
    if len(counts) > most:
        wrong = images - right
        share = wrong / np.maximum(images, 1)
        places = np.lexsort((places, -wrong, -share))[:most]
    shown = counts[np.ix_(places, places)]
    return Confusion(places, shown, images[places] - shown.sum(axis=1))


def confused_pairs(counts: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """truth, guess, images, and share (of the true class's images) of what was taken for another class, most first."""
    truth, guess = np.nonzero(counts * (1 - np.eye(len(counts), dtype=int)))
    images = counts[truth, guess]
    table = pd.DataFrame(
        {
            "truth": [names[place] for place in truth.tolist()],
            "guess": [names[place] for place in guess.tolist()],
            "images": images,
            "share": images / counts.sum(axis=1)[truth],
        }
    )
    return table.sort_values(["images", "share"], ascending=False, kind="stable", ignore_index=True)


def confident_errors(
    probabilities: np.ndarray, labels: np.ndarray, files: Sequence[str], names: Sequence[str], most: int
) -> pd.DataFrame:
    """file, truth, guess, confidence and of_truth (the true class's probability) of the surest wrong guesses."""
    guesses, rows = probabilities.argmax(axis=1), np.arange(len(labels))
    wrong = np.flatnonzero(guesses != labels)
    confidence = probabilities[rows, guesses]
    places = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
    return pd.DataFrame(
        {
            "file": [files[place] for place in places],
            "truth": [names[labels[place]] for place in places],
            "guess": [names[guesses[place]] for place in places],
            "confidence": confidence[places],
            "of_truth": probabilities[places, labels[places]],
        }
    )


def class_names(classes: Sequence[ClassEntry]) -> list[str]:
    """A short name of each class, unique: the first of its words, then its id or place where others are called so."""
    short = [shortened(each.words.split(",")[0].strip() or each.id) for each in classes]
    known = Counter(short)
    with_id = [
        name if known[name] == 1 else f"{name} ({shortened(each.id)})"
        for name, each in zip(short, classes, strict=True)
    ]
    known = Counter(with_id)
    return [name if known[name] == 1 else f"{name} {place}" for place, name in enumerate(with_id, start=1)]


def shortened(text: str) -> str:
    """The text, cut where it is longer than `LONGEST_NAME`."""
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"
