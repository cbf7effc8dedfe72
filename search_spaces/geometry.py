"""How a model looks at an image: stem, patch, window and the side it trains on, as dimensions that cost time.

The cheap values win short trainings, the good ones long trainings; a search that has both chooses.
"""

from typing import Any

from search_spaces.space import Choice, Condition, Dimension, Space

SMALL_IMAGE = 96
"""Sides in pixels below which ResNets get the small stem and ViTs small patches, unless told otherwise."""
GROWS_FROM = 64
"""Sides from which training on smaller images first can pay; at 32 px it never did (docs/log.md)."""
GROWING = "progressive_resize"
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
VITS = ("vit_small", "deit_small")
SWINS = ("swin_tiny",)
FAMILIES = {"stem": RESNETS, "patch_size": VITS, "window_size": SWINS, GROWING: (*RESNETS, *VITS, *SWINS)}
"""Each geometry, and which of our architectures have it."""


def with_geometry(space: Space, image_size: int, cheap: bool, grows: bool = True) -> Space:
    """A built-in space with the geometry of its architectures as dimensions behind its own.

    Args:
        space: One that has an `arch` choice and no geometry yet.
        image_size: Side of the images in pixels.
        cheap: Whether a search starts with the cheap values, as a short budget wants it.
        grows: Whether images that grow are a choice.
    """
    there = next((d.values for d in space.dimensions if d.name == "arch" and isinstance(d, Choice)), ())
    added: list[Dimension] = []
    for name, values in _choices(image_size).items():
        among = tuple(arch for arch in there if arch in FAMILIES[name])
        if among and len(values) > 1 and (grows or name != GROWING):
            when: Condition | None = None if len(among) == len(there) else {"arch": among}
            added.append(Choice(name=name, values=values, start=values[0 if cheap else -1], when=when))
    return Space(
        name=space.name,
        dimensions=(*space.dimensions, *added),
        fixed=space.fixed,
        description=space.description,
    )


def usual_geometry(arch: str, image_size: int) -> dict[str, Any]:
    """The values that a configuration has which names none."""
    usual = {
        "stem": "small" if image_size < SMALL_IMAGE else "full",
        "patch_size": usual_patch(image_size),
        "window_size": usual_window(image_size),
        GROWING: False,
    }
    return {name: value for name, value in usual.items() if arch in FAMILIES[name]}


def usual_patch(image_size: int) -> int:
    """Side of a patch of ViT and DeiT in pixels."""
    return max(4, image_size // 8) if image_size < SMALL_IMAGE else 16


def usual_window(image_size: int) -> int:
    """The largest of Swin's windows of at most 7 patches that divides the first feature map (image / 4), else 7.

    Other windows pad, and windows of one or two patches would attend to almost nothing.
    """
    feature_map = max(1, image_size // 4)
    return max((window for window in range(4, 8) if feature_map % window == 0), default=7)


def _choices(image_size: int) -> dict[str, tuple[Any, ...]]:
    """The values of each dimension, the cheapest first."""
    patch, window = usual_patch(image_size), usual_window(image_size)
    patches = (2 * patch, patch) if image_size % (2 * patch) == 0 and image_size // (2 * patch) >= 4 else (patch,)
    windows = (window, 2 * window) if image_size // 4 % (2 * window) == 0 else (window,)
    sides = (True, False) if image_size >= GROWS_FROM and image_size % 16 == 0 else (False,)
    return {"stem": ("full", "small"), "patch_size": patches, "window_size": windows, GROWING: sides}
