"""An exported ensemble as one classifier: the only implementation of its prediction, in single precision."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from analysis.home import at_home
from analysis.manifest import EXPORT_AGAIN, MemberModel, check_members, read_manifest
from analysis.modules import EnsembleModule, MemberModule, load_weights
from analysis.views import WHOLE
from trainable.architectures import WithoutInitialValues, build_model
from trainable.config import make_config
from trainable.data.layouts import ClassName
from trainable.device import choose_device, images_at_once
from trainable.epoch import Normalise

Images = np.ndarray | Mapping[int, np.ndarray]
"""uint8 RGB (images, S, S, 3); where members differ in their image size S, one such array for each size."""


class Votes(NamedTuple):
    """What the ensemble says, and what each member says alone; float32, each row sums to 1."""

    probabilities: np.ndarray
    """(images, classes)."""
    members: np.ndarray
    """(members, images, classes)."""


class Ensemble:
    """Members with their weights in the mean, and what they were trained to tell apart."""

    def __init__(
        self,
        folder: Path,
        members: Sequence[MemberModel],
        classes: Sequence[ClassName],
        weights: Sequence[float],
        temperature: float,
        device: torch.device,
        views: Sequence[str] = (WHOLE,),
    ) -> None:
        self.members = tuple(members)
        self.classes = tuple(classes)
        self.weights = tuple(weights)
        self.temperature = temperature
        self.views = tuple(views)
        self.device = device
        modules = [build_member(folder, member, len(classes), self.views) for member in members]
        sizes, temperatures = ([getattr(member, of) for member in members] for of in ("image_size", "temperature"))
        self.module = EnsembleModule(modules, sizes, weights, temperatures, temperature).to(device).eval()

    @property
    def sizes(self) -> tuple[int, ...]:
        """The image sizes of the members in pixels, each once, ascending."""
        return tuple(sorted({member.image_size for member in self.members}))

    @torch.inference_mode()
    def member_logits(self, images: Images) -> np.ndarray:
        """float32 logits (members, images, classes) for one batch. ValueError for images of another size or type."""
        parts = [self.module.logits(*part).cpu() for part in self._parts(images)]
        return torch.cat(parts, dim=1).numpy()

    @torch.inference_mode()
    def votes(self, images: Images) -> Votes:
        """The probabilities of the ensemble and of each member, for one batch."""
        parts = [self.module.votes(*part) for part in self._parts(images)]
        together, members = zip(*parts, strict=True)
        return Votes(torch.cat(together).cpu().numpy(), torch.cat(members, dim=1).cpu().numpy())

    def predict(self, images: Images) -> np.ndarray:
        """float32 probabilities (images, classes) for one batch."""
        return self.votes(images).probabilities

    def _parts(self, images: Images) -> Iterator[tuple[Tensor, ...]]:
        """As many images at a time as are best computed together, in each size."""
        at_once = images_at_once(max(self.sizes), self.device)
        return zip(*(batch.split(at_once) for batch in self._on_device(images)), strict=True)

    def _on_device(self, images: Images) -> list[Tensor]:
        by_size = images if isinstance(images, Mapping) else {images.shape[1]: images}
        for size in self.sizes:
            batch = by_size.get(size)
            if batch is None or batch.dtype != np.uint8 or batch.shape[1:] != (size, size, 3):
                raise ValueError(f"expected uint8 (images, {size}, {size}, 3) for each image size of {self.sizes}")
        return [torch.from_numpy(np.array(by_size[size], order="C")).to(self.device) for size in self.sizes]


def load_ensemble(folder: Path | str, device: str = "auto") -> Ensemble:
    """The ensemble that `analysis.export` wrote to `folder`, on `device` (auto, cpu, cuda or cuda:N).

    `folder` may also be an address: it is copied to the cache folder then.

    UsageError where there is no such folder or device; UserError where the export is incomplete, broken, or of
    another schema version.
    """
    folder = at_home(str(folder))
    manifest = read_manifest(folder)
    chosen = choose_device(device)
    check_members(folder, manifest)
    classes = [ClassName(each.id, each.words) for each in manifest.classes]
    weights, temperature, views = manifest.weights, manifest.temperature, manifest.views
    return Ensemble(folder, manifest.members, classes, weights, temperature, chosen, views)


def build_member(folder: Path, member: MemberModel, num_classes: int, views: tuple[str, ...]) -> MemberModule:
    """A member with its weights loaded, on the CPU."""
    config = make_config({"data": folder, **member.config}, f"{folder}: member {member.trial}")
    with WithoutInitialValues():
        model = build_model(config, num_classes, member.image_size)
    load_weights(model, folder / member.file, config.arch, EXPORT_AGAIN)
    return MemberModule(model.to(memory_format=torch.channels_last), Normalise(member.mean, member.std), views)
