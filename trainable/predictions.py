"""Predictions as a table for people and programs: one row an image."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from trainable.data.layouts import ClassName

COLUMNS = ("file", "class_id", "words", "confidence", "top5", "top5_confidence")
"""Header of `best_test_preds.csv`."""
TOP = 5


class Prediction(NamedTuple):
    """The first guess for an image, and the first five, with their probabilities."""

    class_id: str
    words: str
    confidence: float
    top5: list[str]
    top5_confidence: list[float]


def predictions(probabilities: np.ndarray, classes: Sequence[ClassName]) -> Iterator[Prediction]:
    """One for each row of probabilities (images, classes)."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
    for guesses, values in zip(best, np.take_along_axis(probabilities, best, axis=1).tolist(), strict=True):
        first = classes[guesses[0]]
        yield Prediction(first.id, first.words, values[0], [classes[guess].id for guess in guesses], values)


def as_text(value: Any) -> Any:
    """A value for a cell: probabilities with four digits, lists with spaces in between."""
    if isinstance(value, list):
        return " ".join(as_text(each) for each in value)
    return f"{value:.4f}" if isinstance(value, float) else value


def prediction_rows(
    names: Iterable[str], probabilities: np.ndarray, classes: Sequence[ClassName]
) -> Iterator[dict[str, Any]]:
    """Rows for images of these names from probabilities (images, classes), as text."""
    for name, prediction in zip(names, predictions(probabilities, classes), strict=True):
        yield {"file": name, **{column: as_text(value) for column, value in prediction._asdict().items()}}
