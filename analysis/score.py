"""How right predictions are: counts of rows as they pass by, then accuracy and the confusion table."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from analysis.labels import LabelOf
from analysis.rows import ERROR, LABEL, Row
from trainable.escape import csv_cell, printable

if TYPE_CHECKING:
    from rich.table import Table

LEVEL = 0.95
MOST = 10
"""Confusions that are shown."""


class Accuracy(NamedTuple):
    """Share of images that are right, with its 95 % bootstrap interval."""

    share: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.share:.2%} ({self.low:.2%} .. {self.high:.2%})"


class Score:
    """Counts of the rows that went through, in memory that doesn't grow with them."""

    def __init__(self) -> None:
        self.images = 0
        self.broken = 0
        self.unlabelled = 0
        """Images that have a prediction but no label, and the first of them."""
        self.first_unlabelled = ""
        self.top1 = 0
        self.top5 = 0
        """Images whose label is the first guess, or among the first five."""
        self.pairs: Counter[tuple[str, str]] = Counter()
        """Images by label and first guess."""

    @property
    def labelled(self) -> int:
        """Images with a prediction and a label."""
        return self.pairs.total()

    def through(self, rows: Iterable[Row], label_of: LabelOf | None) -> Iterator[Row]:
        """The rows, with their label where there are labels."""
        for row in rows:
            self.images += 1
            if label_of is not None:
                row[LABEL] = label_of(row["file"])
            if ERROR in row:
                self.broken += 1
            elif label_of is not None:
                self._count(row)
            yield row

    def _count(self, row: Row) -> None:
        label = row[LABEL]
        if label is None:
            self.first_unlabelled = self.first_unlabelled or row["file"]
            self.unlabelled += 1
            return
        self.top1 += label == row["class_id"]
        self.top5 += label in row["top5"]
        self.pairs[label, row["class_id"]] += 1

    def confusions(self) -> list[tuple[str, str, int]]:
        """Label, first guess and number of images where they differ, the most frequent first."""
        return [(*pair, count) for pair, count in self.pairs.most_common() if pair[0] != pair[1]]


def accuracy(right: int, images: int) -> Accuracy:
    """Of at least one image.

    The interval is the one of `analysis.calibration.interval` for infinitely many resamples: of values that are 0 or 1
    a resample's sum is binomial. That needs the counts alone, not a value for each of a million images.
    """
    from scipy.stats import binom

    share = right / images
    low, high = binom.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2], images, share) / images
    return Accuracy(share, float(low), float(high))


def write_confusion(file: BinaryIO, score: Score, classes: Sequence[str]) -> None:
    """Images by label (lines) and first guess (columns) as CSV, for all classes."""
    text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
    try:
        table = csv.writer(text)
        table.writerow(["label", *map(csv_cell, classes)])
        for label in classes:
            table.writerow([csv_cell(label), *(score.pairs[label, guess] for guess in classes)])
    finally:
        text.detach()  # `file` is its opener's


def accuracy_lines(score: Score) -> str:
    """Both accuracies, for people."""
    top1, top5 = accuracy(score.top1, score.labelled), accuracy(score.top5, score.labelled)
    return f"top-1 {top1}, top-5 {top5} of {score.labelled:,} images, with 95 % intervals"


def confusions_table(score: Score) -> "Table":
    """The most frequent confusions; class names come from files."""
    from rich.table import Table
    from rich.text import Text

    table = Table("label", "first guess", title="most frequent confusions", box=None, pad_edge=False)
    table.add_column("images", justify="right")
    for label, guess, count in score.confusions()[:MOST]:
        table.add_row(Text(printable(label)), Text(printable(guess)), f"{count:,}")
    return table
