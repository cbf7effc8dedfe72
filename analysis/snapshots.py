"""Members that cost no training: a trial's latest epoch beside its best one (Huang et al. 2017)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from analysis.candidates import LATEST_EPOCH, MOVE_AWAY, Candidate
from analysis.inference import empty_module, predict_rows
from analysis.modules import load_weights
from trainable.data.dataset import Dataset

LATEST = "-latest"
"""What the name of such a member ends with."""
TRIALS = 10
"""Trials whose latest epoch is looked at: the best ones."""


def snapshots(candidates: Sequence[Candidate], dataset: Dataset, device: torch.device) -> list[Candidate]:
    """The latest epochs of the best of `candidates` (best first), where weights of more than one epoch are there."""
    later = [(candidate, candidate.later) for candidate in candidates[:TRIALS]]
    return [snapshot(candidate, path, dataset, device) for candidate, path in later if path]


def snapshot(candidate: Candidate, path: Path, dataset: Dataset, device: torch.device) -> Candidate:
    """The trial at its latest epoch, with its logits on `select`."""
    module = empty_module(candidate.config, dataset.num_classes, candidate.image_size)
    load_weights(module.model, path, candidate.config.arch, MOVE_AWAY)
    name = f"{candidate.trial}{LATEST}"
    logits = predict_rows(module, dataset.cache, dataset.splits.select, device, name)
    kept = logits.astype(np.float16)
    return Candidate(name, candidate.config, candidate.image_size, path, kept, LATEST_EPOCH)
