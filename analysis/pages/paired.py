"""The ensembles of two experiments on the same images: how much they differ beyond chance."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.calibration import interval, losses
from analysis.evidence import SplitEvidence
from analysis.manifest import Manifest
from analysis.pages.comparison import UNKNOWN, Entry, trial_facts
from analysis.pages.ensemble_tables import Measured, probabilities
from analysis.pages.text import count

FEWEST = 10
"""Holdout images that two ensembles share, below which an interval of their difference means nothing."""


class Change(NamedTuple):
    """The mean over images of a paired difference, with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


class Paired(NamedTuple):
    """Two ensembles on the images that both saw as holdout."""

    images: int
    top1: Change
    """-1 to 1; above 0 where the second is more often right."""
    loss: Change
    """Of the negative log likelihood, in nats; below 0 where the second is better."""


class Difference(NamedTuple):
    """An experiment against the first one."""

    name: str
    paired: Paired | None
    reason: str
    """Why they don't compare; empty where they do."""


def differences(entries: Sequence[Entry]) -> list[Difference]:
    """Each experiment's ensemble against that of the first."""
    first, *others = entries
    return [Difference(other.name, *difference(first, other)) for other in others]


def difference(first: Entry, other: Entry) -> tuple[Paired | None, str]:
    """How the second differs from the first, or why that can't be told."""
    if first.measured is None or other.measured is None:
        return None, f"{(first if first.measured is None else other).name} has no ensemble with its evidence"
    manifests = first.measured.manifest, other.measured.manifest
    if class_ids(manifests[0]) != class_ids(manifests[1]):
        return None, "their classes differ"
    sizes = [trial_facts(entry.search.facts).get("image_size") for entry in (first, other)]
    if manifests[0].dataset != manifests[1].dataset and sizes[0] == sizes[1]:
        return None, "their data differ"
    rows = matching_rows(first.measured.evidence.holdout, other.measured.evidence.holdout)
    if len(rows) < FEWEST:
        return None, f"their holdouts share {count(len(rows), 'image')}, too few to compare"
    return compared(first.measured, other.measured, rows), ""


def class_ids(manifest: Manifest) -> list[str]:
    """In the order of the labels."""
    return [each.id for each in manifest.classes]


def matching_rows(first: SplitEvidence, other: SplitEvidence) -> np.ndarray:
    """Rows of the same file with the same label, int (images, 2)."""
    places = {image: row for row, image in enumerate(zip(other.files, other.labels.tolist(), strict=True))}
    images = zip(first.files, first.labels.tolist(), strict=True)
    rows = [(row, places[image]) for row, image in enumerate(images) if image in places]
    return np.array(rows, dtype=int).reshape(-1, 2)


def compared(first: Measured, other: Measured, rows: np.ndarray) -> Paired:
    """The second minus the first on rows (images, 2) of their holdouts."""
    (right, loss), (other_right, other_loss) = (
        outcomes(measured, rows[:, place]) for place, measured in enumerate((first, other))
    )
    return Paired(len(rows), change(other_right - right), change(other_loss - loss))


def outcomes(measured: Measured, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each image's first guess is right (0 or 1), and its negative log likelihood; (images,) each."""
    holdout = measured.evidence.holdout
    predicted, labels = probabilities(measured, holdout)[rows], holdout.labels[rows]
    return (predicted.argmax(axis=1) == labels).astype(float), losses(predicted, labels)


def change(values: np.ndarray) -> Change:
    """Of differences (images,)."""
    return Change(float(values.mean()), *interval(values))


def differences_table(first: str, told: Sequence[Difference]) -> pd.DataFrame:
    """The differences for people."""
    rows = [(f"{each.name} - {first}", *cells(each)) for each in told]
    return pd.DataFrame(rows, columns=["difference", "shared holdout images", "top-1 in points", "NLL", "finding"])


def cells(told: Difference) -> tuple[str, str, str, str]:
    """The texts of one row."""
    paired = told.paired
    if paired is None:
        return UNKNOWN, UNKNOWN, UNKNOWN, told.reason
    top1, loss = Change(*(100 * value for value in paired.top1)), paired.loss
    return (
        f"{paired.images:,}",
        f"{top1.mean:+.2f} ({top1.low:+.2f} to {top1.high:+.2f})",
        f"{loss.mean:+.4f} ({loss.low:+.4f} to {loss.high:+.4f})",
        verdict(paired),
    )


def verdict(paired: Paired) -> str:
    """What differs by more than its interval."""
    top1, loss = paired.top1, paired.loss
    found = [
        "more often right" if top1.low > 0 else "less often right" if top1.high < 0 else "",
        "lower NLL" if loss.high < 0 else "higher NLL" if loss.low > 0 else "",
    ]
    return ", ".join(filter(None, found)) or "no difference beyond chance"
