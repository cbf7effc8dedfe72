"""Members and the ensemble as torch modules: from bytes to probabilities, preprocessing included."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from analysis.pooling import member_probabilities, pooled
from analysis.views import WHOLE, mean_logits
from trainable.epoch import Normalise
from trainable.errors import UserError


class MemberModule(nn.Module):
    """uint8 images (batch, S, S, 3) -> float32 logits (batch, classes), the mean over the views."""

    def __init__(self, model: nn.Module, normalise: Normalise, views: tuple[str, ...] = (WHOLE,)) -> None:
        super().__init__()
        self.normalise = normalise
        self.model = model
        self.views = views

    def forward(self, images: Tensor) -> Tensor:
        """The member's own logits, before its temperature."""
        return mean_logits(self.model, self.normalise(images), self.views)


class EnsembleModule(nn.Module):
    """uint8 images (batch, S, S, 3), a tensor for each size S ascending -> probabilities (batch, classes)."""

    def __init__(
        self,
        members: Sequence[MemberModule],
        sizes: Sequence[int],
        weights: Sequence[float],
        temperatures: Sequence[float],
        temperature: float,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        distinct = sorted(set(sizes))
        self.inputs = [distinct.index(size) for size in sizes]
        self.weights: Tensor
        self.temperatures: Tensor
        self.temperature: Tensor
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))
        self.register_buffer("temperatures", torch.tensor(temperatures, dtype=torch.float32))
        self.register_buffer("temperature", torch.tensor(temperature, dtype=torch.float32))

    def logits(self, *images: Tensor) -> Tensor:
        """Float32 (members, batch, classes), before any temperature."""
        return torch.stack([member(images[place]) for member, place in zip(self.members, self.inputs, strict=True)])

    def votes(self, *images: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities (batch, classes) of the ensemble, and (members, batch, classes) of its members."""
        members = member_probabilities(self.logits(*images), self.temperatures)
        return pooled(members, self.weights, self.temperature), members

    def forward(self, *images: Tensor) -> Tensor:
        """Probabilities (batch, classes)."""
        return self.votes(*images)[0]


def load_weights(model: nn.Module, path: Path, arch: str, mend: str) -> None:
    """Put the weights in a file into a model of `arch`; UserError, ending in `mend`, where they aren't its own."""
    tensors = read_tensors(path, arch, mend)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise foreign_weights(path, arch, error, mend) from None


def read_tensors(path: Path, arch: str, mend: str) -> dict[str, Tensor]:
    """The tensors in a file of weights; UserError, ending in `mend`, where it can't be read."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise foreign_weights(path, arch, error, mend) from None


def foreign_weights(path: Path, arch: str, error: Exception, mend: str) -> UserError:
    """What a file says that isn't the weights of `arch`."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UserError(f"{path}: doesn't hold the weights of {arch} ({reason}); {mend}")
