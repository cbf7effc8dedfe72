"""An exported ensemble as one classifier: the only implementation of its prediction, in single precision."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from analysis.manifest import EXPORT_AGAIN, MemberModel, read_manifest
from trainable.architectures import build_model
from trainable.config import make_config
from trainable.data.layouts import ClassName
from trainable.device import choose_device
from trainable.epoch import Normalise
from trainable.errors import UserError

Images = np.ndarray | Mapping[int, np.ndarray]
"""uint8 RGB (images, S, S, 3); where members differ in their image size S, one such array for each size."""


class Ensemble:
    """Models with their preprocessing, averaged: softmax(weighted mean of the logits / temperature)."""

    def __init__(
        self,
        folder: Path,
        members: Sequence[MemberModel],
        classes: Sequence[ClassName],
        weights: Sequence[float],
        temperature: float,
        device: torch.device,
    ) -> None:
        self.members = tuple(members)
        self.classes = tuple(classes)
        self.weights = tuple(weights)
        self.temperature = temperature
        self.device = device
        self.models = [build_member(folder, member, len(classes), device) for member in members]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The image sizes of the members in pixels, each once, ascending."""
        return tuple(sorted({member.image_size for member in self.members}))

    @torch.inference_mode()
    def member_logits(self, images: Images) -> np.ndarray:
        """float32 logits (members, images, classes) for one batch. ValueError for images of another size or type."""
        batches = self._on_device(images)
        outputs = [
            model(batches[member.image_size]).float() for member, model in zip(self.members, self.models, strict=True)
        ]
        return torch.stack(outputs).cpu().numpy()

    def mean_logits(self, member_logits: np.ndarray) -> np.ndarray:
        """float32 (images, classes): the weighted mean over the members, the first axis."""
        return np.average(member_logits, axis=0, weights=self.weights).astype(np.float32)

    def predict_logits(self, images: Images) -> np.ndarray:
        """float32 logits (images, classes) for one batch, before the temperature."""
        return self.mean_logits(self.member_logits(images))

    def predict(self, images: Images) -> np.ndarray:
        """float32 probabilities (images, classes) for one batch."""
        logits = torch.from_numpy(self.predict_logits(images))
        return (logits / self.temperature).softmax(dim=1).numpy()

    def _on_device(self, images: Images) -> dict[int, torch.Tensor]:
        by_size = images if isinstance(images, Mapping) else {images.shape[1]: images}
        for size in self.sizes:
            batch = by_size.get(size)
            if batch is None or batch.dtype != np.uint8 or batch.shape[1:] != (size, size, 3):
                raise ValueError(f"expected uint8 (images, {size}, {size}, 3) for each image size of {self.sizes}")
        return {size: torch.tensor(by_size[size]).to(self.device) for size in self.sizes}


def load_ensemble(folder: Path | str, device: str = "auto") -> Ensemble:
    """The ensemble that `analysis.export` wrote to `folder`, ready on `device` (auto, cpu, cuda or cuda:N).

    UsageError where there is no such folder or device; UserError where the export is incomplete, broken, or of
    another schema version.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    return Ensemble(
        folder,
        manifest.members,
        [ClassName(each.id, each.words) for each in manifest.classes],
        manifest.weights,
        manifest.temperature,
        choose_device(device),
    )


def build_member(folder: Path, member: MemberModel, num_classes: int, device: torch.device) -> nn.Module:
    """A member as a module from uint8 images (batch, S, S, 3) to logits (batch, classes), with its weights loaded."""
    path = folder / member.file
    config = make_config({"data": folder, **member.config}, f"{folder}: member {member.trial}")
    model = build_model(config, num_classes, member.image_size)
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: doesn't hold the weights of {config.arch} ({reason}); {EXPORT_AGAIN}") from None
    module = nn.Sequential(Normalise(member.mean, member.std), model.to(memory_format=torch.channels_last))
    return module.to(device).eval()
