"""How much arithmetic a configuration takes for each image, before anything is measured. Needs no torch and no Ray."""

from collections.abc import Mapping
from typing import Any

from search_spaces import MODELS, geometry, is_probe, usual_geometry, usual_patch

PUBLISHED_SIDE = 224
GMACS = {arch: model.gmacs for arch, model in MODELS.items()}
"""10^9 multiplications of one image of 224 px (timm's results files)."""
UNKNOWN_GMACS = 4.0
"""The same of an architecture that isn't in the table."""
SMALL_STEM = 16
"""The small stem leaves maps of four times the side."""
VIT_WIDTH, VIT_DEPTH = 384, 12
"""Of ViT-Small and DeiT-Small."""
GROWING = ((1 / 2, 1 / 4), (3 / 4, 9 / 16), (float("inf"), 1.0))
"""Until when images that grow have which share of their pixels, as `trainable.data.augmentation.size_at` does it."""
GROWING_SHARE = 1 / 2 * 1 / 4 + 1 / 4 * 9 / 16 + 1 / 4
"""Of the pixels of a whole training."""
PASSES = 3
"""Forward and backward together, in forward passes."""
TRAINED_SHARES = {"early": 1 / 2, "most": 1 / 6}
"""Of the layers that a backward pass goes through, where the others are frozen."""
PROBE_VIEWS = 2
"""Passes of each image that a probe takes: as it is, and mirrored."""
USUAL_SPEED = 70.0
"""10^9 multiplications that a core does in a second of training in bf16 (an EPYC of 2023); a third of it in fp32."""


def forward_gmacs(config: Mapping[str, Any], image_size: int) -> float:
    """Of one image of `image_size` px through the configuration's model."""
    arch = str(config.get("arch"))
    if arch in geometry.VITS:
        return _vit_gmacs(image_size, config.get("patch_size"))
    gmacs = GMACS.get(arch, UNKNOWN_GMACS) * (image_size / PUBLISHED_SIDE) ** 2
    if arch in geometry.RESNETS and has_small_stem(config, image_size):
        gmacs *= SMALL_STEM
    return gmacs


def has_small_stem(config: Mapping[str, Any], image_size: int) -> bool:
    """Whether a ResNet of this configuration gets the small stem."""
    return (config.get("stem") or usual_geometry(str(config.get("arch")), image_size)["stem"]) == "small"


def whole_gmacs(config: Mapping[str, Any], image_size: int) -> float:
    """Of training one image of the whole size; of a probe, for each image that it is fitted to."""
    forward = forward_gmacs(config, image_size)
    if is_probe(config):
        return PROBE_VIEWS * forward
    return forward * (1 + (PASSES - 1) * TRAINED_SHARES.get(str(config.get("freeze")), 1.0))


def training_gmacs(config: Mapping[str, Any], image_size: int) -> float:
    """Of training one image, in the mean over a training."""
    return whole_gmacs(config, image_size) * mean_share(config)


def mean_share(config: Mapping[str, Any]) -> float:
    """What a training costs, in parts of one on whole images."""
    return GROWING_SHARE if config.get(geometry.GROWING) else 1.0


def size_share(config: Mapping[str, Any], done: float) -> float:
    """The same of the step that ends at the share `done` of a training."""
    if not config.get(geometry.GROWING):
        return 1.0
    return next(share for end, share in GROWING if done <= end)


def usual_images_per_second(config: Mapping[str, Any], image_size: int) -> float:
    """Of training on one core; right within a factor of three at best."""
    return USUAL_SPEED / training_gmacs(config, image_size)


def _vit_gmacs(image_size: int, patch_size: int | None) -> float:
    tokens = (image_size / (patch_size or usual_patch(image_size))) ** 2
    a_token = VIT_DEPTH * 12 * VIT_WIDTH**2  # queries, keys, values and projection 4, the two layers behind them 8
    attention = VIT_DEPTH * 2 * VIT_WIDTH * tokens
    return tokens * (a_token + attention) / 1e9
