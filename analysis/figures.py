"""What an ensemble and its members reach: one look at the holdout images, and everything that ensemble.json says."""

from datetime import UTC, datetime

import numpy as np
import torch

from analysis.calibration import figures, fit_together, interval
from analysis.ensemble import Ensemble
from analysis.evidence import Evidence, SplitEvidence
from analysis.front import Choice
from analysis.inference import batches, candidate_logits
from analysis.library import calibrated, temperature_of
from analysis.manifest import ClassEntry, Figures, FrontPoint, Gain, Manifest, Member, Single
from analysis.pooling import log_scores, pool
from analysis.selection import Selection
from trainable.data.dataset import Dataset
from trainable.versions import library_versions


def gather_evidence(ensemble: Ensemble, selection: Selection) -> Evidence:
    """The logits of the members and of the best single trial; the only look that is taken at holdout."""
    dataset, splits = selection.dataset, selection.dataset.splits
    kept = np.stack([member.logits for member in selection.members])
    members = evaluate(ensemble, dataset, splits.holdout)
    single = single_logits(selection, members, ensemble.device)
    return Evidence(
        SplitEvidence(*names_and_labels(dataset, splits.select), kept, selection.single.logits),
        SplitEvidence(
            *names_and_labels(dataset, splits.holdout), members.astype(np.float16), single.astype(np.float16)
        ),
    )


def evaluate(ensemble: Ensemble, dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """float32 logits (members, rows, classes) for rows of the cache; with a bar where stderr is a terminal."""
    shown = batches(dataset.cache, rows, "holdout")
    return np.concatenate([ensemble.member_logits(images.numpy()) for images in shown], axis=1)


def single_logits(selection: Selection, members: np.ndarray, device: torch.device) -> np.ndarray:
    """float32 logits (images, classes) of the best single trial on holdout, as its search would have given it.

    Those of the members (members, images, classes) hold them where it is one of these, as it was trained.
    """
    single, dataset = selection.single, selection.dataset
    if selection.holds(single):
        return members[[member.weights for member in selection.members].index(single.weights)]
    return candidate_logits(single, dataset, dataset.splits.holdout, device, f"holdout, {single.trial} alone")


def names_and_labels(dataset: Dataset, rows: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Files below the data's folder, and labels, of rows of the cache."""
    return tuple(dataset.cache.names[row] for row in rows), dataset.cache.labels[rows]


def figures_on_select(selection: Selection, choice: Choice) -> Figures:
    """Of an ensemble of the front, calibrated."""
    picked = selection.library.pick(choice.members)
    mean = np.tensordot(np.array(choice.weights, np.float32), picked.probabilities, axes=1)
    temperature = fit_together(mean, picked.temperatures, choice.weights, picked.labels)
    return figures(calibrated(log_scores(mean), temperature), picked.labels)


def describe(
    experiment: str, ensemble: Ensemble, selection: Selection, evidence: Evidence, notes: tuple[str, ...]
) -> Manifest:
    """Everything that ensemble.json says."""
    chosen, holdout = evidence
    weights, temperatures = selection.choice.weights, selection.temperatures
    together = pool(holdout.logits, temperatures, weights, selection.temperature)
    single = single_figures(selection, evidence)
    members = [
        Member(
            **model.model_dump(),
            select=figures(calibrated(on_select, model.temperature), chosen.labels),
            holdout=figures(calibrated(on_holdout, model.temperature), holdout.labels),
        )
        for model, on_select, on_holdout in zip(ensemble.members, chosen.logits, holdout.logits, strict=True)
    ]
    return Manifest(
        experiment=experiment,
        classes=tuple(ClassEntry(id=each.id, words=each.words) for each in ensemble.classes),
        members=tuple(members),
        weights=weights,
        temperature=selection.temperature,
        views=selection.views,
        select=figures(selection.probabilities(), chosen.labels),
        holdout=figures(together, holdout.labels),
        uncalibrated=figures(pool(holdout.logits, [1.0] * len(members), weights), holdout.labels),
        single=single,
        gain=gain(together, holdout.single, holdout.labels),
        front=tuple(front_point(selection, choice) for choice in selection.front),
        refit=selection.refit,
        notes=(*selection.notes, *notes),
        dataset=selection.dataset.cache.fingerprint,
        versions=library_versions(),
        created=datetime.now(UTC).replace(microsecond=0),
    )


def single_figures(selection: Selection, evidence: Evidence) -> Single:
    """The best single trial, calibrated like the members, so that the ensemble is compared with its best."""
    chosen, holdout = evidence
    temperature = temperature_of(selection.single, chosen.labels)
    return Single(
        trial=selection.single.trial,
        select=figures(calibrated(chosen.single, temperature), chosen.labels),
        holdout=figures(calibrated(holdout.single, temperature), holdout.labels),
    )


def gain(together: np.ndarray, single: np.ndarray, labels: np.ndarray) -> Gain:
    """From the ensemble's probabilities and the single trial's logits, both (images, classes)."""
    right, right_alone = (scores.argmax(axis=1) == labels for scores in (together, single))
    differences = right.astype(float) - right_alone
    low, high = interval(differences)
    return Gain(difference=float(differences.mean()), low=low, high=high)


def front_point(selection: Selection, choice: Choice) -> FrontPoint:
    """A choice with its figures on `select`."""
    return FrontPoint(
        members=tuple(selection.library.candidates[index].trial for index in choice.members),
        weights=choice.weights,
        parameters=choice.cost.parameters,
        latency_ms=choice.cost.latency_ms,
        out_of_bag=choice.out_of_bag,
        select=figures_on_select(selection, choice),
    )
