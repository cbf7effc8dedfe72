"""Chosen candidates become members: weights copied, models rebuilt, and checked against what they said on `select`."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from analysis.candidates import Candidate
from analysis.ensemble import Ensemble
from analysis.manifest import MEMBERS, REBUILD, MemberModel
from analysis.selection import Selection
from trainable.architectures import build_model, normalisation
from trainable.data.dataset import Dataset
from trainable.device import EVAL_BATCH, choose_arithmetic
from trainable.errors import UserError
from trainable.files import checksum

HALVED_IMAGES = 64
"""Images of `select` on which half precision is compared with single precision."""
LARGEST_CHANGE = 0.02
"""Of a probability, by half precision: of trained models it is a tenth of that."""
FAITHFUL = 0.25
"""Largest distance of recomputed logits from the kept ones, relative to these.

Measured on 8 Swins trained in bf16: 0.002 with their own weights, 0.49 or more with those of another trial.
"""


def stage_members(folder: Path, selection: Selection, weights: Sequence[Path], device: torch.device) -> Ensemble:
    """Copy the members' `weights` into `folder`, and load what was copied."""
    (folder / MEMBERS).mkdir()
    models = []
    for member, temperature, path in zip(selection.members, selection.temperatures, weights, strict=True):
        file = f"{MEMBERS}/{member.trial}.safetensors"
        try:
            shutil.copyfile(path, folder / file)
        except OSError as error:
            raise UserError(f"{path}: can't be copied to {folder} ({error.strerror}); make room") from None
        models.append(member_model(member, temperature, folder, file, selection.dataset.num_classes))
    shares, views = selection.choice.weights, selection.views
    return Ensemble(folder, models, selection.dataset.classes, shares, selection.temperature, device, views)


def halve_members(folder: Path, ensemble: Ensemble, dataset: Dataset) -> tuple[Ensemble, str]:
    """The same ensemble with its files rewritten in half precision, and a line on what that changes."""
    images = dataset.cache.images[dataset.splits.select[:HALVED_IMAGES]]
    before = ensemble.predict(images)
    for member in ensemble.members:
        tensors = load_file(folder / member.file).items()
        halved = {name: each.half() if each.is_floating_point() else each for name, each in tensors}
        save_file(halved, folder / member.file)
    models = [each.model_copy(update={"crc32": checksum(folder / each.file)}) for each in ensemble.members]
    shares, views = ensemble.weights, ensemble.views
    half = Ensemble(folder, models, ensemble.classes, shares, ensemble.temperature, ensemble.device, views)
    change = np.abs(half.predict(images) - before).max()
    if not change < LARGEST_CHANGE:
        raise UserError(f"--half: probabilities would change by up to {change:.2g}; export without it")
    return half, f"half precision changes probabilities by at most {change:.1e} on {len(images)} images of select"


def member_model(member: Candidate, temperature: float, folder: Path, file: str, num_classes: int) -> MemberModel:
    """How to rebuild a member and what images it expects."""
    with torch.device("meta"):  # its mean and deviation are wanted, not its weights
        skeleton = build_model(member.config.for_its_weights(), num_classes, member.image_size)
    mean, std = normalisation(skeleton)
    return MemberModel(
        trial=member.trial,
        file=file,
        config=member.config.model_dump(mode="json", include=REBUILD, exclude_none=True),
        mean=mean,
        std=std,
        image_size=member.image_size,
        temperature=temperature,
        parameters=sum(each.numel() for each in skeleton.parameters()),
        crc32=checksum(folder / file),
        source=member.source,
    )


def check_faithful(ensemble: Ensemble, selection: Selection) -> None:
    """UserError where a rebuilt member doesn't repeat, on some `select` images, what was chosen for it.

    It has to in single precision, in which it predicts, or in the arithmetic in which it was trained: large activations
    make the two differ (of an EfficientNet by 0.28, with the same weights).
    """
    dataset = selection.dataset
    rows = dataset.splits.select[:EVAL_BATCH]
    images = dataset.cache.images[rows]
    exact = ensemble.member_logits(images)
    for place, member in enumerate(selection.members):
        kept = member.logits[: len(rows)].astype(np.float32)
        distance = _distance(exact[place], kept)
        if not distance < FAITHFUL:
            trained = choose_arithmetic(member.config.precision, ensemble.device).dtype
            distance = _distance(logits_as_trained(ensemble, place, images, trained), kept)
        if not distance < FAITHFUL:
            raise UserError(
                f"{member.weights}: rebuilt, it predicts otherwise than in training (distance {distance:.2f}); "
                "export with the versions that trained it, or move this trial's folder away"
            )


def logits_as_trained(ensemble: Ensemble, place: int, images: np.ndarray, dtype: torch.dtype | None) -> np.ndarray:
    """float32 logits (images, classes) of a member by its place, in the arithmetic of its training."""
    device = ensemble.device
    with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        return ensemble.module.members[place](torch.from_numpy(images).to(device)).float().cpu().numpy()


def _distance(logits: np.ndarray, kept: np.ndarray) -> float:
    """Of the logits from the kept ones, relative to these."""
    return float(np.linalg.norm(logits - kept) / max(np.linalg.norm(kept), np.finfo(np.float32).tiny))
