"""Which views of an image members look at: each kept only where it helps the ensemble on `select`."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from analysis.calibration import fit_temperature, fit_together, helps, losses
from analysis.candidates import Candidate
from analysis.inference import candidate_logits
from analysis.library import calibrated
from analysis.manifest import View
from analysis.pooling import log_scores, pool
from analysis.views import COUNTS, CROPS, MIRRORED, WHOLE
from trainable.data.dataset import Dataset

Views = tuple[View, ...]
TRIED: tuple[View, ...] = (MIRRORED, CROPS)
"""In this order: what brings most for its time first."""


def with_views(
    members: Sequence[Candidate],
    weights: Sequence[float],
    dataset: Dataset,
    device: torch.device,
    most: int,
    no_time: Callable[[View, int], str] = lambda _, __: "",
) -> tuple[list[Candidate], Views, list[str]]:
    """Try the views one after the other.

    Args:
        members: Of the ensemble, with their logits on the whole images of `select`.
        weights: Of the members.
        dataset: Where the images are.
        device: Where they are predicted.
        most: Images that may be made of one, at most.
        no_time: Why a view can't be tried in the time that is left, beside so many images of each; empty if it can.

    Returns:
        The members with the mean of their logits over the views that are kept, those views, and a line on each one.
    """
    labels = dataset.cache.labels[dataset.splits.select]
    views: Views = (WHOLE,)
    logits = np.stack([member.logits for member in members]).astype(np.float32)
    notes = []
    for view in TRIED:
        count = sum(COUNTS[name] for name in views)
        refusal = reason_against(view, members, count, most) or no_time(view, count)
        if refusal:
            notes.append(f"{view} views aren't tried: {refusal}")
            continue
        of_view = np.stack(
            [
                candidate_logits(
                    member, dataset, dataset.splits.select, device, f"{view} views of {member.trial}", (view,)
                )
                for member in members
            ]
        )
        tried = (count * logits + COUNTS[view] * of_view) / (count + COUNTS[view])
        before, after = (losses(together(each, weights, labels), labels) for each in (logits, tried))
        helped = helps(before, after)
        change = f"log loss on select {before.mean():.4f} without, {after.mean():.4f} with them"
        notes.append(f"{view} views {'help' if helped else 'are left out'}: {change}")
        if helped:
            views, logits = (*views, view), tried
    kept = [member._replace(logits=each.astype(np.float16)) for member, each in zip(members, logits, strict=True)]
    return kept, views, notes


def reason_against(view: str, members: Sequence[Candidate], count: int, most: int) -> str:
    """Why a view can't be used beside `count` images of each one; empty where it can."""
    if view == MIRRORED and not all(member.config.flip for member in members):
        return "the search says that left and right aren't the same (--no-flip)"
    if count + COUNTS[view] > most:
        return "they would take longer than --max-latency-ms"
    return ""


def together(logits: np.ndarray, weights: Sequence[float], labels: np.ndarray) -> np.ndarray:
    """float32 (images, classes): what members with these logits (members, images, classes) say, calibrated."""
    temperatures = [fit_temperature(each, labels) for each in logits]
    mean = pool(logits, temperatures, weights)
    return calibrated(log_scores(mean), fit_together(mean, temperatures, weights, labels))
