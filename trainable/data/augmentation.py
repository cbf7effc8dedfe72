"""Progressive augmentation: albumentations policies whose probabilities and magnitudes follow the epoch."""

import math
import os
import random

import numpy as np

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the internet for a newer version on import

import albumentations as A
import cv2

from trainable.config import Policy, TrialConfig

PADDING_SHARE = 1 / 8
"""How far the light policy's crop may move, as a share of the image's side (4 pixels at 32, He et al. 2016)."""
SMALLEST_CROP, ASPECTS = 0.35, (3 / 4, 4 / 3)
"""The full policy at strength 1: a crop's least share of the image's area, and the range of width / height."""
JITTER, HUE = 0.4, 0.1
"""Brightness, contrast and saturation up to 40 % more or less; the hue turned by up to a tenth of its circle."""
ROTATION, SHEAR, SHIFT = 15, 10, 0.1
"""Degrees, degrees, and a share of the side, in either direction."""
SMALLEST_HOLE, LARGEST_HOLE = 0.1, 0.35
"""Sides of the rectangle that is black, as shares of the image's."""
COLOUR_P, AFFINE_P, HOLE_P, BLUR_P = 0.8, 0.5, 0.5, 0.1
"""Probabilities."""
FEW_EPOCHS = 8
"""Trainings of fewer change the size of their images within an epoch."""
BLUR_SIGMAS = (0.5, 3.0)
"""Standard deviations of the 3 x 3 Gaussian blur, in pixels."""


def strength_at(epoch: int, epochs: float) -> float:
    """Strength in the 0-based `epoch` of a training of `epochs`: 1 - cos(pi/2 * epoch/epochs), from 0 to near 1.

    `epochs` is the full length, not how far a trial was allowed to go, so the same epoch of two trials compares.
    """
    return 1 - math.cos(math.pi / 2 * min(1.0, epoch / epochs))


def size_at(epoch: float, epochs: float, image_size: int) -> int:
    """Side of the training images after `epoch` of `epochs`, with progressive resizing.

    Half of `image_size` in the first half, three quarters up to three quarters of the epochs, the whole in the last
    quarter (after Tan & Le 2021, section 4.1, and FFCV's recipes): like the strength, the same for all trials.
    """
    done = epoch / epochs
    return image_size if done >= 3 / 4 else image_size * (2 if done < 1 / 2 else 3) // 4


def training_size(config: TrialConfig, done: float, image_size: int) -> int:
    """Side of the training images of `config` after `done` epochs, in pixels.

    It changes between two epochs; in trainings of few, which might end before it has grown, within one too.
    """
    if not config.progressive_resize:
        return image_size
    return size_at(done if config.epochs < FEW_EPOCHS else math.floor(done), config.epochs, image_size)


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
    hole = (SMALLEST_HOLE, SMALLEST_HOLE + (LARGEST_HOLE - SMALLEST_HOLE) * s)
    return [
        A.RandomResizedCrop((image_size, image_size), scale=(1 - (1 - SMALLEST_CROP) * s, 1), ratio=ASPECTS, p=s),
        A.ColorJitter(brightness=JITTER * s, contrast=JITTER * s, saturation=JITTER * s, hue=HUE * s, p=COLOUR_P * s),
        A.Affine(
            rotate=(-ROTATION * s, ROTATION * s),
            translate_percent=(-SHIFT * s, SHIFT * s),
            shear=(-SHEAR * s, SHEAR * s),
            border_mode=cv2.BORDER_REFLECT_101,
            p=AFFINE_P * s,
        ),
        A.CoarseDropout(num_holes_range=(1, 1), hole_height_range=hole, hole_width_range=hole, p=HOLE_P * s),
        A.GaussianBlur(blur_limit=(3, 3), sigma_limit=BLUR_SIGMAS, p=BLUR_P * s),
    ]


def resized(images: np.ndarray, image_size: int) -> np.ndarray:
    """uint8 images (batch, H, W, 3) at another size; the same array where they have it."""
    if images.shape[1] == image_size:
        return images
    side = (image_size, image_size)
    return np.stack([cv2.resize(image, side, interpolation=cv2.INTER_AREA) for image in images])


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
