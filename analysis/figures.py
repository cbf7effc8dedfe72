"""What an ensemble and its members reach: one look at the holdout images, and everything that ensemble.json says."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from rich.console import Console
from rich.progress import track

from analysis.candidates import Candidate
from analysis.ensemble import Ensemble
from analysis.manifest import ClassEntry, Figures, Manifest, Member
from analysis.select import score_logits
from trainable.data.dataset import Dataset
from trainable.data.loader import in_order
from trainable.epoch import HeldOutScores
from trainable.training import EVAL_BATCH
from trainable.versions import library_versions


def evaluate(ensemble: Ensemble, dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """float32 logits (members, rows, classes) for rows of the cache; with a bar where stderr is a terminal."""
    batches = track(
        in_order(dataset.cache, rows, EVAL_BATCH),
        "holdout",
        total=-(-len(rows) // EVAL_BATCH),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    return np.concatenate([ensemble.member_logits(images.numpy()) for images in batches], axis=1)


def describe(
    experiment: str,
    ensemble: Ensemble,
    members: Sequence[Candidate],
    select: HeldOutScores,
    holdout_logits: np.ndarray,
    dataset: Dataset,
) -> Manifest:
    """Everything that ensemble.json says, from the holdout logits (members, images, classes)."""
    splits, labels = dataset.splits, dataset.cache.labels

    def on_select(logits: np.ndarray) -> Figures:
        return figures(score_logits(logits, labels[splits.select]), len(splits.select))

    def on_holdout(logits: np.ndarray) -> Figures:
        return figures(score_logits(logits, labels[splits.holdout]), len(splits.holdout))

    entries = [
        Member(**model.model_dump(), select=on_select(member.logits), holdout=on_holdout(logits))
        for model, member, logits in zip(ensemble.members, members, holdout_logits, strict=True)
    ]
    return Manifest(
        experiment=experiment,
        classes=tuple(ClassEntry(id=each.id, words=each.words) for each in dataset.classes),
        members=tuple(entries),
        weights=ensemble.weights,
        temperature=ensemble.temperature,
        select=figures(select, len(splits.select)),
        holdout=on_holdout(ensemble.mean_logits(holdout_logits)),
        dataset=dataset.cache.fingerprint,
        versions=library_versions(),
        created=datetime.now(UTC).replace(microsecond=0),
    )


def figures(scores: HeldOutScores, images: int) -> Figures:
    """Scores with the number of images behind them."""
    return Figures(**scores._asdict(), images=images)
