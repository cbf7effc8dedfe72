import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix

from analysis.manifest import ClassEntry
from analysis.pages.confusion_tables import (
    LONGEST_NAME,
    class_names,
    confident_errors,
    confused_pairs,
    confusion_counts,
    worst_classes,
)

NAMES = ["ape", "bee", "cat"]
COUNTS = np.array([[5, 0, 1], [2, 2, 0], [0, 3, 7]])


def test_counts_are_those_of_torchmetrics_also_of_classes_that_never_come() -> None:
    labels, guesses = np.random.default_rng(0).integers(0, 6, (2, 500))
    expected = multiclass_confusion_matrix(torch.from_numpy(guesses), torch.from_numpy(labels), num_classes=7)
    assert (confusion_counts(labels, guesses, 7) == expected.numpy()).all()


def test_few_classes_are_all_shown_in_their_order() -> None:
    shown = worst_classes(COUNTS)
    assert shown.classes.tolist() == [0, 1, 2]
    assert (shown.counts == COUNTS).all()
    assert not shown.elsewhere.any()


def test_of_many_classes_the_worst_come_first_with_what_went_elsewhere() -> None:
    shown = worst_classes(COUNTS, most=2)
    assert shown.classes.tolist() == [1, 2]  # wrong are 2 of 4, then 3 of 10
    assert shown.counts.tolist() == [[2, 0], [3, 7]]
    assert shown.elsewhere.tolist() == [2, 0]


def test_a_class_without_images_is_no_bad_one() -> None:
    counts = np.array([[0, 0, 0], [1, 1, 0], [0, 0, 4]])
    assert worst_classes(counts, most=1).classes.tolist() == [1]


def test_confused_pairs_come_most_images_first_and_then_by_share() -> None:
    table = confused_pairs(COUNTS, NAMES)
    assert list(zip(table["truth"], table["guess"], table["images"], strict=True)) == [
        ("cat", "bee", 3), ("bee", "ape", 2), ("ape", "cat", 1)
    ]  # fmt: skip
    assert table["share"].tolist() == [0.3, 0.5, pytest.approx(1 / 6)]
    assert confused_pairs(np.diag([3, 4, 5]), NAMES).empty


def test_confident_errors_are_the_surest_wrong_guesses_alone() -> None:
    probabilities = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.05, 0.95, 0.0], [0.4, 0.3, 0.3]])
    table = confident_errors(probabilities, np.array([0, 0, 2, 1]), ["a", "b", "c", "d"], NAMES, most=2)
    assert table["file"].tolist() == ["c", "b"]
    assert table["truth"].tolist() == ["cat", "ape"]
    assert table["guess"].tolist() == ["bee", "bee"]
    assert table["confidence"].tolist() == [0.95, 0.7]
    assert table["of_truth"].tolist() == [0.0, 0.2]


def entries(*pairs: tuple[str, str]) -> list[ClassEntry]:
    return [ClassEntry(id=name, words=words) for name, words in pairs]


def test_a_class_is_called_by_its_first_word() -> None:
    assert class_names(entries(("n1", "goldfish, Carassius auratus"), ("n2", ""), ("n3", ","))) == [
        "goldfish",
        "n2",
        "n3",
    ]


def test_classes_of_the_same_word_are_told_apart_by_their_id() -> None:
    assert class_names(entries(("n1", "crane"), ("n2", "crane"), ("n3", "ox"))) == ["crane (n1)", "crane (n2)", "ox"]


def test_long_names_are_cut_and_still_differ() -> None:
    names = class_names(entries(*((f"{'x' * 40}{place}", f"{'x' * 40}{place}") for place in range(3))))
    assert len(set(names)) == 3
    assert class_names(entries(("a", "y" * 40), ("b", "b")))[0] == "y" * (LONGEST_NAME - 1) + "…"
