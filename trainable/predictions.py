"""Predictions as a table for people and programs: one row an image."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from trainable.data.layouts import ClassName

COLUMNS = ("file", "class_id", "words", "confidence", "top5", "top5_confidence")
"""Header of `best_test_preds.csv`."""
TOP = 5


def prediction_rows(
    names: Iterable[str], probabilities: np.ndarray, classes: Sequence[ClassName]
) -> Iterator[dict[str, Any]]:
    """Rows for images of these names from probabilities (images, classes): the first guess, and the first five."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
    for name, guesses, row in zip(names, best, probabilities, strict=True):
        first = classes[guesses[0]]
        yield {
            "file": name,
            "class_id": first.id,
            "words": first.words,
            "confidence": f"{row[guesses[0]]:.4f}",
            "top5": " ".join(classes[guess].id for guess in guesses),
            "top5_confidence": " ".join(f"{row[guess]:.4f}" for guess in guesses),
        }
