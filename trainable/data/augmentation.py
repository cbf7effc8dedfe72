"""Progressive augmentation: albumentations policies whose probabilities and magnitudes follow the epoch."""

import math
import os
import random

import numpy as np

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the internet for a newer version on import

import albumentations as A
import cv2

from trainable.config import Policy

PADDING_SHARE = 1 / 8
"""How far the light policy's crop may move, as a share of the image's side (4 pixels at 32, He et al. 2016)."""


def strength_at(epoch: int, epochs: int) -> float:
    """Strength in the 0-based `epoch` of a training of `epochs`: 1 - cos(pi/2 * epoch/epochs), from 0 to near 1.

    `epochs` is the full length, not how far a trial was allowed to go, so the same epoch of two trials compares.
    """
    return 1 - math.cos(math.pi / 2 * min(1.0, epoch / epochs))


def build_policy(kind: Policy, strength: float, image_size: int, flip: bool = True) -> A.Compose:
    """The augmentation of uint8 images (image_size, image_size, 3) at `strength` in 0..1; 0 leaves them as they are."""
    if not 0 <= strength <= 1:
        raise ValueError(f"augmentation strength {strength} is outside 0..1")
    transforms: list[A.BasicTransform] = []
    if kind != "none" and strength > 0:
        build = _light if kind == "light" else _full
        transforms = build(strength, image_size)
        if flip:
            transforms.insert(1, A.HorizontalFlip(p=0.5 * strength))
    return A.Compose(transforms, is_check_shapes=False)


def _light(strength: float, image_size: int) -> list[A.BasicTransform]:
    reach = max(1, round(PADDING_SHARE * image_size * strength))
    padded = image_size + 2 * reach
    pad = A.PadIfNeeded(min_height=padded, min_width=padded, border_mode=cv2.BORDER_REFLECT_101, p=1)
    return [A.Sequential([pad, A.RandomCrop(image_size, image_size)], p=1)]


def _full(strength: float, image_size: int) -> list[A.BasicTransform]:
    s = strength
    return [
        A.RandomResizedCrop((image_size, image_size), scale=(1 - 0.65 * s, 1), ratio=(3 / 4, 4 / 3), p=s),
        A.ColorJitter(brightness=0.4 * s, contrast=0.4 * s, saturation=0.4 * s, hue=0.1 * s, p=0.8 * s),
        A.Affine(
            rotate=(-15 * s, 15 * s),
            translate_percent=(-0.1 * s, 0.1 * s),
            shear=(-10 * s, 10 * s),
            border_mode=cv2.BORDER_REFLECT_101,
            p=0.5 * s,
        ),
        A.CoarseDropout(
            num_holes_range=(1, 1),
            hole_height_range=(0.1, 0.1 + 0.25 * s),
            hole_width_range=(0.1, 0.1 + 0.25 * s),
            p=0.5 * s,
        ),
        A.GaussianBlur(blur_limit=(3, 3), p=0.1 * s),
    ]


def augment(policy: A.Compose, images: np.ndarray, seeds: np.ndarray, epoch: int) -> np.ndarray:
    """Apply `policy` to uint8 `images` (batch, H, W, 3); an image's randomness comes from its seed and the epoch."""
    if not policy.transforms:
        return images
    out = np.empty_like(images)
    bits, py_random = np.random.Philox(key=(0, epoch)), random.Random()
    policy.set_random_state(np.random.Generator(bits), py_random)
    start = bits.state
    for row, seed in enumerate(seeds.tolist()):  # new generators for each image would take a third of the time
        start["state"]["key"][0] = seed
        bits.state = start
        py_random.seed(epoch << 64 | seed)
        out[row] = policy(image=images[row])["image"]
    return out
