"""What an exported ensemble's manifest and evidence say, as tables: the pages and the tests use these."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from analysis.calibration import figures, fit_together, reliability
from analysis.evidence import EVIDENCE, SPLITS, Evidence, SplitEvidence, read_evidence
from analysis.manifest import EXPORT_AGAIN, Manifest, read_manifest
from analysis.pooling import pool
from trainable.errors import UserError

if TYPE_CHECKING:
    from analysis.manifest import Figures, FrontPoint

BEFORE, AFTER = "before", "after"
"""Calibration."""


class Measured(NamedTuple):
    """An exported ensemble with the logits that its figures rest on."""

    manifest: Manifest
    evidence: Evidence

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Of the members."""
        return tuple(member.temperature for member in self.manifest.members)


class Diversity(NamedTuple):
    """How differently members guess on holdout; both arrays are symmetric (members, members)."""

    trials: tuple[str, ...]
    disagreement: np.ndarray
    """Share of images on which two members' first guesses differ, 0 to 1."""
    correlation: np.ndarray
    """Of their errors (phi coefficient, -1 to 1); NaN where a member makes none, or nothing else."""


def read_measured(folder: Path) -> Measured:
    """The export in `folder`; UserError where its manifest or evidence can't be read, or they don't belong together."""
    manifest, evidence = read_manifest(folder), read_evidence(folder)
    if not all(fits(split, len(manifest.members), len(manifest.classes)) for split in evidence):
        raise UserError(f"{folder / EVIDENCE}: doesn't fit {folder}'s members and classes; {EXPORT_AGAIN}")
    return Measured(manifest, evidence)


def fits(split: SplitEvidence, members: int, classes: int) -> bool:
    """Whether a split has images, labels of these classes, and a number for each member, image and class."""
    labels, logits = split.labels, split.logits
    return (
        len(labels) > 0
        and labels.dtype.kind in "iu"
        and bool((labels >= 0).all() and (labels < classes).all())
        and logits.shape == (members, len(labels), classes)
        and all(array.dtype.kind == "f" and bool(np.isfinite(array).all()) for array in (logits, split.single))
    )


def probabilities(measured: Measured, split: SplitEvidence) -> np.ndarray:
    """The calibrated ensemble's float32 probabilities (images, classes) for a split of its evidence."""
    return pool(split.logits, measured.temperatures, measured.manifest.weights, measured.manifest.temperature)


def uncalibrated(measured: Measured, split: SplitEvidence) -> np.ndarray:
    """The same with all temperatures 1."""
    return pool(split.logits, [1.0] * len(split.logits), measured.manifest.weights)


def front_table(measured: Measured) -> pd.DataFrame:
    """One row for each number of members: members, trials, chosen, parameters, latency_ms (NaN where not measured), and
    top1, top1_low, top1_high and loss (nats) of select and holdout, as `select_top1` and so on.

    Of holdout they are NaN where the evidence lacks a member of that ensemble.
    """
    measures = ("top1", "top1_low", "top1_high", "loss")
    about = ("members", "trials", "chosen", "parameters", "latency_ms")
    rows: list[dict[str, object]] = []
    for point in measured.manifest.front:
        row: dict[str, object] = {
            "members": len(point.members),
            "trials": ", ".join(point.members),
            "chosen": is_chosen(measured.manifest, point),
            "parameters": point.parameters,
            "latency_ms": np.nan if point.latency_ms is None else point.latency_ms,
        }
        for split, score in zip(SPLITS, (point.select, holdout_figures(measured, point)), strict=True):
            row |= {f"{split}_{name}": np.nan if score is None else getattr(score, name) for name in measures}
        rows.append(row)
    columns = [*about, *(f"{split}_{name}" for split in SPLITS for name in measures)]
    return pd.DataFrame(rows, columns=columns)


def is_chosen(manifest: Manifest, point: "FrontPoint") -> bool:
    """Whether these members are the exported ones."""
    return sorted(point.members) == sorted(member.trial for member in manifest.members)


def holdout_figures(measured: Measured, point: "FrontPoint") -> "Figures | None":
    """What these members reach together on holdout, calibrated on select; None where the evidence lacks one of them."""
    manifest, (select, holdout) = measured.manifest, measured.evidence
    if is_chosen(manifest, point):
        return manifest.holdout
    places = {member.trial: place for place, member in enumerate(manifest.members)}
    if point.members == (manifest.single.trial,):
        return manifest.single.holdout
    if not places.keys() >= set(point.members):
        return None
    chosen = [places[trial] for trial in point.members]
    temperatures = [measured.temperatures[place] for place in chosen]
    on_select = pool(select.logits[chosen], temperatures, point.weights)
    temperature = fit_together(on_select, temperatures, point.weights, select.labels)
    return figures(pool(holdout.logits[chosen], temperatures, point.weights, temperature), holdout.labels)


def diversity(measured: Measured) -> Diversity:
    """Disagreement and correlation of errors of each pair of members, on holdout."""
    holdout = measured.evidence.holdout
    guesses = holdout.logits.argmax(axis=2)
    wrong = (guesses != holdout.labels).astype(float)
    disagreement = (guesses[:, None] != guesses[None]).mean(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.corrcoef(wrong).reshape(disagreement.shape)
    return Diversity(tuple(member.trial for member in measured.manifest.members), disagreement, correlation)


def pairs_table(pairs: Diversity) -> pd.DataFrame:
    """first, second, disagreement and correlation of each pair of members, the most different first."""
    rows = [
        (pairs.trials[a], pairs.trials[b], pairs.disagreement[a, b], pairs.correlation[a, b])
        for a, b in combinations(range(len(pairs.trials)), 2)
    ]
    table = pd.DataFrame(rows, columns=["first", "second", "disagreement", "correlation"])
    return table.sort_values("disagreement", ascending=False, kind="stable", ignore_index=True)


def reliability_table(measured: Measured) -> pd.DataFrame:
    """One row a bin of confidence on holdout, before and after calibration: calibration, low and high (edges, open
    below), count of images, and their mean confidence and accuracy (NaN where there are none)."""
    holdout = measured.evidence.holdout
    tables = []
    for name, predict in ((BEFORE, uncalibrated), (AFTER, probabilities)):
        bins = reliability(predict(measured, holdout), holdout.labels)
        edges = np.linspace(0, 1, len(bins.images) + 1)
        tables.append(
            pd.DataFrame(
                {
                    "calibration": name,
                    "low": edges[:-1],
                    "high": edges[1:],
                    "count": bins.images,
                    "confidence": bins.confidence,
                    "accuracy": bins.accuracy,
                }
            ),
        )
    return pd.concat(tables, ignore_index=True)


def calibration_table(manifest: Manifest) -> pd.DataFrame:
    """measure (NLL in nats, Brier score, ECE) on holdout, before and after calibration; the lower the better."""
    measures = {"NLL": "loss", "Brier score": "brier", "ECE": "ece"}
    rows = [(name, getattr(manifest.uncalibrated, of), getattr(manifest.holdout, of)) for name, of in measures.items()]
    return pd.DataFrame(rows, columns=["measure", BEFORE, AFTER])


def optimism_table(manifest: Manifest) -> pd.DataFrame:
    """The ensemble, its members and the best single trial: what, select, low and high (of holdout), holdout, and
    optimism (select minus holdout), all top-1, 0 to 1."""
    named: Sequence[tuple[str, Figures, Figures]] = [
        ("ensemble", manifest.select, manifest.holdout),
        *((member.trial, member.select, member.holdout) for member in manifest.members),
    ]
    if manifest.single.trial not in {member.trial for member in manifest.members}:
        named = [*named, (manifest.single.trial, manifest.single.select, manifest.single.holdout)]
    rows = [(what, a.top1, b.top1, b.top1_low, b.top1_high, a.top1 - b.top1) for what, a, b in named]
    return pd.DataFrame(rows, columns=["what", "select", "holdout", "low", "high", "optimism"])
