"""Members that cost no training: a trial's latest epoch beside its best one (Huang et al. 2017)."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from analysis.candidates import LATEST_EPOCH, Candidate
from analysis.inference import candidate_logits
from trainable.data.dataset import Dataset

LATEST = "-latest"
"""What the name of such a member ends with."""
TRIALS = 10
"""Trials whose latest epoch is looked at: the best ones."""


def snapshots(
    candidates: Sequence[Candidate],
    dataset: Dataset,
    device: torch.device,
    refusal: Callable[[Candidate], str] = lambda _: "",
) -> tuple[list[Candidate], list[str]]:
    """The latest epochs of the best of `candidates` (best first), where weights of more than one epoch are there.

    Also a line on those that `refusal` gives a reason against.
    """
    found, refused, reason = [], [], ""
    for candidate in candidates[:TRIALS]:
        if candidate.later is None:
            continue
        if against := refusal(candidate):
            refused.append(candidate.trial)
            reason = reason or against
        else:
            found.append(snapshot(candidate, candidate.later, dataset, device))
    return found, [f"latest epochs of {', '.join(refused)} aren't tried: {reason}"] if refused else []


def snapshot(candidate: Candidate, path: Path, dataset: Dataset, device: torch.device) -> Candidate:
    """The trial at its latest epoch, with its logits on `select`."""
    name = f"{candidate.trial}{LATEST}"
    latest = candidate._replace(trial=name, weights=path, source=LATEST_EPOCH, later=None)
    logits = candidate_logits(latest, dataset, dataset.splits.select, device, name)
    return latest._replace(logits=logits.astype(np.float16))
