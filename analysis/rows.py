"""The rows of a prediction: one an image, with values as they are; each format writes them in its own way."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trainable.predictions import COLUMNS as FIRST_COLUMNS
from trainable.predictions import predictions

if TYPE_CHECKING:
    from analysis.ensemble import Votes
    from analysis.pipeline import Predicted
    from trainable.data.layouts import ClassName

DISAGREEMENT, LABEL, ERROR = "disagreement", "label", "error"
COLUMNS = (*FIRST_COLUMNS, DISAGREEMENT, ERROR)
LABELLED_COLUMNS = (*FIRST_COLUMNS, DISAGREEMENT, LABEL, ERROR)

Row = dict[str, Any]
"""Values by column; a broken image has only its file and its error."""


def disagreement(votes: "Votes", weights: Sequence[float]) -> np.ndarray:
    """Share of the members, by weight, whose first guess isn't the ensemble's: (images,), 0 to 1.

    This is the variation ratio (Freeman 1965; as a measure of uncertainty Gal 2016, section 3.3.1) of weighted votes,
    but about the ensemble's guess, which the most votes needn't be for.
    """
    differs = votes.members.argmax(axis=2) != votes.probabilities.argmax(axis=1)
    return np.average(differs, axis=0, weights=weights)


def batch_rows(batch: "Predicted", classes: Sequence["ClassName"], weights: Sequence[float]) -> Iterator[Row]:
    """Rows for the images of one batch in their order."""
    good: Iterator[Row] = iter(())
    if batch.votes is not None:
        guesses = predictions(batch.votes.probabilities, classes)
        shares = disagreement(batch.votes, weights).tolist()
        good = (guess._asdict() | {DISAGREEMENT: share} for guess, share in zip(guesses, shares, strict=True))
    for place, name in enumerate(batch.names):
        yield {"file": name} | ({ERROR: batch.errors[place]} if place in batch.errors else next(good))
