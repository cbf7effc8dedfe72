"""The policies of `trainable.data.augmentation` at full strength, in torchvision's transforms on PIL images.

Where torchvision has no equal it gets the cheaper one: a shifted image is filled with black instead of its reflection.
"""

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from timm.data import create_dataset, create_loader
from torch.utils.data import DataLoader
from torchvision import transforms as T

from trainable.config import Policy, TrialConfig
from trainable.data.augmentation import PADDING_SHARE

ERASED_P = 0.5
"""How often the full policy blackens a rectangle."""
PeerTransform = Callable[[Image.Image], torch.Tensor]


def peer_transform(kind: Policy, image_size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> PeerTransform:
    """PIL image -> normalised float tensor (3, image_size, image_size)."""
    hole = [T.RandomErasing(p=ERASED_P, scale=(0.1**2, 0.35**2), ratio=(0.1 / 0.35, 0.35 / 0.1))]
    to_tensor = [T.ToTensor(), T.Normalize(mean, std), *(hole if kind == "full" else [])]
    return T.Compose([*on_images(kind, image_size), *to_tensor])


def peer_bytes(kind: Policy, image_size: int) -> PeerTransform:
    """PIL image -> bytes (3, image_size, image_size), for a loader that normalises and erases on the device."""
    return T.Compose([*on_images(kind, image_size), T.PILToTensor()])


def timm_batches(config: TrialConfig, image_size: int, transform: PeerTransform, **options: Any) -> DataLoader:
    """timm's data set and loader of the training images, with our transform; `options` are its create_loader's."""
    dataset = create_dataset("", root=f"{config.data}/train", split="train", is_training=True)
    loader = create_loader(dataset, input_size=image_size, batch_size=config.batch_size, is_training=True, **options)
    dataset.transform = transform
    return loader


def on_images(kind: Policy, image_size: int) -> list[Callable]:
    """What is done to the PIL image: all of the policy but the erased rectangle."""
    bilinear = T.InterpolationMode.BILINEAR
    resize = T.Resize((image_size, image_size), interpolation=bilinear)  # nothing where the image has that size
    if kind == "none":
        return [resize]
    if kind == "light":
        reach = round(PADDING_SHARE * image_size)
        crop = T.RandomCrop(image_size, padding=reach, padding_mode="reflect")
        return [resize, crop, T.RandomHorizontalFlip(0.5)]
    affine = T.RandomAffine(15, translate=(0.1, 0.1), shear=(-10, 10, -10, 10), interpolation=bilinear)
    return [
        T.RandomResizedCrop(image_size, scale=(0.35, 1), ratio=(3 / 4, 4 / 3), interpolation=bilinear),
        T.RandomHorizontalFlip(0.5),
        T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        T.RandomApply([affine], p=0.5),
        T.RandomApply([T.GaussianBlur(3)], p=0.1),
    ]
