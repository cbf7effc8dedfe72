import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trainable.data.layouts import ClassName
from trainable.predictions import COLUMNS, prediction_rows

CLASSES = [ClassName(f"n{i}", words) for i, words in enumerate(["cat", "dog", "red fox", "owl", "bee", "elk, moose"])]


def test_a_row_has_the_first_guess_and_the_first_five() -> None:
    probabilities = np.array([[0.05, 0.1, 0.4, 0.25, 0.02, 0.18]])
    (row,) = prediction_rows(["a.png"], probabilities, CLASSES)
    assert row == {
        "file": "a.png",
        "class_id": "n2",
        "words": "red fox",
        "confidence": "0.4000",
        "top5": "n2 n3 n5 n1 n0",
        "top5_confidence": "0.4000 0.2500 0.1800 0.1000 0.0500",
    }
    assert tuple(row) == COLUMNS


def test_rows_come_in_the_order_of_the_images() -> None:
    rows = list(prediction_rows(["b", "a", "c"], np.eye(6)[[4, 0, 5]], CLASSES))
    assert [(row["file"], row["words"]) for row in rows] == [("b", "bee"), ("a", "cat"), ("c", "elk, moose")]


def test_with_fewer_than_five_classes_all_of_them_are_listed() -> None:
    (row,) = prediction_rows(["a"], np.array([[0.25, 0.75]]), CLASSES[:2])
    assert (row["top5"], row["top5_confidence"]) == ("n1 n0", "0.7500 0.2500")


def test_of_equal_probabilities_the_first_class_comes_first() -> None:
    (row,) = prediction_rows(["a"], np.full((1, 6), 1 / 6), CLASSES)
    assert row["top5"] == "n0 n1 n2 n3 n4"


def test_no_images_make_no_rows() -> None:
    assert list(prediction_rows([], np.zeros((0, 6)), CLASSES)) == []


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"]])
def test_as_many_names_as_rows_of_probabilities_are_needed(names: list[str]) -> None:
    with pytest.raises(ValueError, match="zip"):
        list(prediction_rows(names, np.zeros((2, 6)), CLASSES))


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(2, 6)), elements=st.floats(0, 1, width=32)))
def test_confidences_fall_and_belong_to_their_classes(probabilities: np.ndarray) -> None:
    count, classes = probabilities.shape
    names = [str(number) for number in range(count)]
    for row, values in zip(prediction_rows(names, probabilities, CLASSES[:classes]), probabilities, strict=True):
        guesses = [int(name[1:]) for name in row["top5"].split()]
        confidences = [float(text) for text in row["top5_confidence"].split()]
        assert len(set(guesses)) == len(guesses) == min(5, classes)
        assert confidences == sorted(confidences, reverse=True)
        np.testing.assert_allclose(confidences, values[guesses], atol=5e-5)
        assert row["confidence"] == row["top5_confidence"].split()[0]
        assert float(values.max()) == pytest.approx(float(row["confidence"]), abs=5e-5)
