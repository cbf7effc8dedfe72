"""Accuracy and confusions from rows that pass by."""

import csv
import io

import numpy as np
import pytest
from rich.console import Console

from analysis.calibration import interval
from analysis.rows import Row
from analysis.score import Score, accuracy, accuracy_lines, confusions_table, write_confusion

CLASSES = ("=a", "b", "c")


def row(file: str, *top5: str) -> Row:
    return {"file": file, "class_id": top5[0], "top5": list(top5)}


@pytest.fixture
def score() -> Score:
    rows = [
        row("=a/1", "=a", "b"),
        row("=a/2", "b", "=a"),
        row("b/3", "c", "=a"),
        row("b/4", "c", "b"),
        {"file": "b/5", "error": "not an image"},
        row("x/6", "b", "c"),
    ]
    score = Score()
    labelled = list(score.through(rows, lambda name: label if (label := name.split("/")[0]) != "x" else None))
    assert [each["label"] for each in labelled] == ["=a", "=a", "b", "b", "b", None]
    return score


def test_images_are_counted_by_what_became_of_them(score: Score) -> None:
    assert (score.images, score.broken, score.unlabelled, score.first_unlabelled) == (6, 1, 1, "x/6")
    assert (score.labelled, score.top1, score.top5) == (4, 1, 3)
    assert score.confusions() == [("b", "c", 2), ("=a", "b", 1)]
    assert accuracy_lines(score).startswith(
        "top-1 25.00% (0.00% .. 75.00%), top-5 75.00% (25.00% .. 100.00%) of 4 images"
    )


def test_without_labels_only_images_are_counted() -> None:
    score = Score()
    assert list(score.through([row("1", "b")], None)) == [row("1", "b")]
    assert (score.images, score.labelled, score.unlabelled) == (1, 0, 0)


@pytest.mark.parametrize(("right", "images"), [(0, 1), (1, 1), (0, 50), (15, 18), (700, 1000), (1000, 1000)])
def test_the_interval_is_the_bootstraps(right: int, images: int) -> None:
    found = accuracy(right, images)
    low, high = interval(np.repeat([1.0, 0.0], [right, images - right]))
    assert found.share == right / images
    assert found.low == pytest.approx(low, abs=0.004)
    assert found.high == pytest.approx(high, abs=0.004)


def test_the_confusion_table_has_all_classes_and_no_formula(score: Score) -> None:
    file = io.BytesIO()
    write_confusion(file, score, CLASSES)
    assert not file.closed
    header, *lines = csv.reader(io.StringIO(file.getvalue().decode()))
    assert header == ["label", "'=a", "b", "c"]
    assert lines == [["'=a", "1", "1", "0"], ["b", "0", "0", "2"], ["c", "0", "0", "0"]]


def test_class_names_are_shown_and_not_obeyed() -> None:
    score = Score()
    list(score.through([row("1", "[red]\x1b[2J")], lambda _: "b"))
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(confusions_table(score))
    assert "[red]\\x1b[2J" in console.export_text()
