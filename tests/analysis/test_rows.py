"""Rows of a batch: values as they are, broken images in their place, and how much the members disagree."""

import numpy as np
import pytest

from analysis.ensemble import Votes
from analysis.pipeline import Predicted
from analysis.rows import batch_rows, disagreement
from trainable.data.layouts import ClassName

CLASSES = [ClassName("a", "first"), ClassName("b", "second"), ClassName("c", "third")]
MEMBERS = np.array(
    [
        [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]],
        [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1]],
        [[0.6, 0.1, 0.3], [0.1, 0.2, 0.7]],
    ],
    dtype=np.float32,
)
"""Of three members for two images."""
WEIGHTS = (0.5, 0.3, 0.2)
VOTES = Votes(np.average(MEMBERS, axis=0, weights=WEIGHTS).astype(np.float32), MEMBERS)


def test_disagreement_is_the_weight_of_the_members_with_another_first_guess() -> None:
    assert disagreement(VOTES, WEIGHTS) == pytest.approx([0, 0.5])
    assert disagreement(VOTES, (0.6, 0.2, 0.2)) == pytest.approx([0, 0.4])


def test_a_row_has_numbers_and_lists_and_a_broken_image_its_error_alone() -> None:
    rows = list(batch_rows(Predicted(["x", "y", "z"], VOTES, {1: "not an image"}), CLASSES, WEIGHTS))
    assert rows[0] == {
        "file": "x",
        "class_id": "a",
        "words": "first",
        "confidence": pytest.approx(0.73),
        "top5": ["a", "b", "c"],
        "top5_confidence": pytest.approx([0.73, 0.13, 0.14], abs=0.02),
        "disagreement": 0.0,
    } | {"top5": ["a", "c", "b"]}
    assert rows[1] == {"file": "y", "error": "not an image"}
    assert (rows[2]["file"], rows[2]["class_id"], rows[2]["disagreement"]) == ("z", "b", pytest.approx(0.5))


def test_a_batch_of_broken_images_has_rows_too() -> None:
    rows = batch_rows(Predicted(["x"], None, {0: "not an image"}), CLASSES, WEIGHTS)
    assert list(rows) == [{"file": "x", "error": "not an image"}]
