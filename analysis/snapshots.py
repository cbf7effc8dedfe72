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
    fits: Callable[[Candidate], bool] = lambda _: True,
) -> tuple[list[Candidate], list[Candidate]]:
    """The latest epochs of the best of `candidates` (best first), if weights of more than one epoch are there.

    Also the candidates whose latest epochs would have been scored, had `fits` said that there is time.
    """
    found, left_out = [], []
    for candidate in candidates[:TRIALS]:
        if candidate.later is None:
            continue
        if fits(candidate):
            found.append(snapshot(candidate, candidate.later, dataset, device))
        else:
            left_out.append(candidate)
    return found, left_out


def snapshot(candidate: Candidate, path: Path, dataset: Dataset, device: torch.device) -> Candidate:
    """The trial at its latest epoch, with its logits on `select`."""
    name = f"{candidate.trial}{LATEST}"
    latest = candidate._replace(trial=name, weights=path, source=LATEST_EPOCH, later=None)
    logits = candidate_logits(latest, dataset, dataset.splits.select, device, name)
    return latest._replace(logits=logits.astype(np.float16))
