"""Chosen trials become members: weights copied, models rebuilt, and checked against what their training predicted."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from analysis.candidates import Candidate
from analysis.ensemble import Ensemble
from analysis.manifest import MEMBERS, REBUILD, MemberModel
from trainable.architectures import build_model, normalisation
from trainable.data.dataset import Dataset
from trainable.device import choose_device
from trainable.errors import UserError
from trainable.training import EVAL_BATCH

FAITHFUL = 0.25
"""Largest distance of recomputed logits from the kept ones, relative to these.

Measured on 8 Swins trained in bf16: 0.002 with their own weights, 0.49 or more with those of another trial.
"""


def stage_members(folder: Path, members: Sequence[Candidate], dataset: Dataset, device: str) -> Ensemble:
    """Copy the members' best weights into `folder`, and load what was copied."""
    (folder / MEMBERS).mkdir()
    models = []
    for member in members:
        file = f"{MEMBERS}/{member.trial}.safetensors"
        try:
            shutil.copyfile(member.weights, folder / file)
        except OSError as error:
            raise UserError(f"{member.weights}: can't be copied to {folder} ({error.strerror}); make room") from None
        models.append(member_model(member, file, dataset.num_classes))
    weights = [1 / len(members)] * len(members)
    return Ensemble(folder, models, dataset.classes, weights, 1.0, choose_device(device))


def member_model(member: Candidate, file: str, num_classes: int) -> MemberModel:
    """How to rebuild a member and what images it expects."""
    with torch.device("meta"):  # its mean and deviation are wanted, not its weights
        skeleton = build_model(member.config.model_copy(update={"pretrained": False}), num_classes, member.image_size)
    mean, std = normalisation(skeleton)
    return MemberModel(
        trial=member.trial,
        file=file,
        config=member.config.model_dump(mode="json", include=REBUILD),
        mean=mean,
        std=std,
        image_size=member.image_size,
    )


def check_faithful(ensemble: Ensemble, members: Sequence[Candidate], dataset: Dataset) -> None:
    """UserError where a rebuilt member doesn't repeat, on some `select` images, what its training predicted."""
    rows = dataset.splits.select[:EVAL_BATCH]
    for member, logits in zip(members, ensemble.member_logits(dataset.cache.images[rows]), strict=True):
        kept = member.logits[: len(rows)].astype(np.float32)
        distance = np.linalg.norm(logits - kept) / max(np.linalg.norm(kept), np.finfo(np.float32).tiny)
        if not distance < FAITHFUL:
            raise UserError(
                f"{member.weights}: rebuilt, it predicts otherwise than in training (distance {distance:.2f}); "
                "export with the versions that trained it, or move this trial's folder away"
            )
