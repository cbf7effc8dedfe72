"""CutMix (Yun et al. 2019) and MixUp (Zhang et al. 2018) on a whole batch, on its device, with soft targets."""

import torch
from torch.nn.functional import one_hot
from torchvision.transforms import v2

MIXUP_ALPHA = 0.8
CUTMIX_ALPHA = 1.0
"""Beta parameters of the mixing share, as DeiT uses them (Touvron et al. 2021, table 9)."""


class BatchMixer:
    """Mixes a batch with probability `mix_prob` x strength, by CutMix or MixUp with equal chance.

    The choice and the mixing share come from torch's global generator, which the training seeds for each epoch.
    """

    def __init__(self, num_classes: int, mix_prob: float, strength: float) -> None:
        self.num_classes = num_classes
        self.probability = mix_prob * strength
        self.mix = v2.RandomChoice(
            [
                v2.CutMix(alpha=CUTMIX_ALPHA, num_classes=num_classes),
                v2.MixUp(alpha=MIXUP_ALPHA, num_classes=num_classes),
            ]
        )

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, 3, H, W) floats and (batch,) class indices -> images, and targets (batch, classes) that sum to 1."""
        if len(images) > 1 and torch.rand(()).item() < self.probability:
            return self.mix(images, labels)
        return images, one_hot(labels, self.num_classes).to(images.dtype)
