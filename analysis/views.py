"""Test-time augmentation: the views of an image over which a member's logits are averaged."""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

WHOLE: Final = "whole"
MIRRORED: Final = "mirrored"
CROPS: Final = "crops"
CROP_SHARE = 7 / 8
"""Side of a crop as a share of the image's side."""


def mirrored(images: Tensor) -> list[Tensor]:
    """The images (batch, 3, H, W), left and right exchanged."""
    return [images.flip(3)]


def crops(images: Tensor) -> list[Tensor]:
    """The centre and the four corners, each enlarged to the images' own size (batch, 3, H, W)."""
    side = images.shape[-1]
    inner = round(CROP_SHARE * side)
    corners = (0, side - inner)
    places = [((side - inner) // 2, (side - inner) // 2), *((top, left) for top in corners for left in corners)]
    parts = [images[:, :, top : top + inner, left : left + inner] for top, left in places]
    return [functional.interpolate(part, size=(side, side), mode="bilinear", align_corners=False) for part in parts]


VIEWS: dict[str, Callable[[Tensor], list[Tensor]]] = {
    WHOLE: lambda images: [images],
    MIRRORED: mirrored,
    CROPS: crops,
}
"""By the names that ensemble.json uses."""
COUNTS = {WHOLE: 1, MIRRORED: 1, CROPS: 5}
"""How many images a view makes of one."""


def mean_logits(model: torch.nn.Module, images: Tensor, views: tuple[str, ...]) -> Tensor:
    """float32 logits (batch, classes) of normalised images (batch, 3, S, S): the mean over all views."""
    seen = [view for name in views for view in VIEWS[name](images)]
    if torch.compiler.is_exporting():  # one batch, so that the graph holds the model once and not once for each view
        return model(torch.cat(seen)).float().unflatten(0, (len(seen), -1)).mean(dim=0)
    return torch.stack([model(view).float() for view in seen]).mean(dim=0)
