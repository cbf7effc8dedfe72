"""The space that a search varies, as its options make it, and the weights that its architectures start from."""

from types import SimpleNamespace
from typing import Any, NamedTuple

from search_spaces import (
    Space,
    SpaceError,
    for_pretrained,
    get_space,
    names,
    narrow,
    on_a_cpu,
    with_batches_up_to,
    with_geometry,
)
from search_spaces.geometry import FAMILIES
from trainable.config import ARCHITECTURES
from trainable.errors import UsageError
from tuning.data import Source
from tuning.options import given_options
from tuning.plan import architectures_of
from tuning.pretrained import Found, Weights, find_weights
from tuning.resources import Hardware

PHOTOS = "photos"
"""The space whose architectures follow from the hardware."""
MOST_PROBED = 100_000
"""Training images up to which there are probes: their features take a gigabyte in single precision."""
BATCHES_AN_EPOCH = 8
"""At least so many, in our own spaces."""


class Chosen(NamedTuple):
    """What a search varies, and the published weights that it starts from."""

    space: Space
    weights: Weights


def choose_space(asked: SimpleNamespace, source: Source, hardware: Hardware | None, cheap: bool) -> Chosen:
    """The space by name or path, narrowed by --set, and the weights that its architectures start from.

    A built-in one gets the ranges of fine-tuning if there are weights, else the geometry that the images allow, from
    the `cheap` end on; and batches of which an epoch has at least `BATCHES_AN_EPOCH`.
    """
    try:
        space = get_space(asked.space)
    except SpaceError as error:
        raise UsageError(f"--space {asked.space}: {error}") from None
    is_ours, settings = asked.space in names(), list(asked.settings or [])
    of_arch = [text for text in settings if text.partition("=")[0].strip() == "arch"]
    space = narrowed(space, of_arch)
    if asked.space == PHOTOS and not of_arch and hardware is not None and not hardware.gpu_bytes:
        space = only(space, [arch for arch in architectures_of(space) if on_a_cpu(arch)])
    weights = choose_weights(asked, source, space, hardware)
    if weights.found:
        space = only(space, list(weights.found))
        space = for_pretrained(space, asked.scheduler != "pbt" and takes_probes(source)) if is_ours else space
    elif is_ours and source.image_size is not None:
        space = with_geometry(space, source.image_size, cheap, grows=not asked.progressive_resize)
    if is_ours and source.train_images is not None:
        space = with_batches_up_to(space, max(1, source.train_images // BATCHES_AN_EPOCH))
    space = narrowed(space, [text for text in settings if text not in of_arch] + augmentation(asked, space))
    check_geometry(space)
    return Chosen(space, weights)


def augmentation(asked: SimpleNamespace, space: Space) -> list[str]:
    """What --augment makes of a space that varies it."""
    given = "augment" in given_options(asked.context) and any(each.name == "augment" for each in space.dimensions)
    is_set = any(text.partition("=")[0].strip() == "augment" for text in asked.settings or [])
    return [f"augment={asked.augment}"] if given and not is_set else []


def narrowed(space: Space, settings: list[str]) -> Space:
    """As `narrow`, for --set."""
    try:
        return narrow(space, settings)
    except SpaceError as error:
        raise UsageError(f"--set: {error}") from None


def only(space: Space, architectures: list[str]) -> Space:
    """The space with these of its architectures."""
    there = architectures_of(space)
    if set(there) <= set(architectures):
        return space
    return narrow(space, [f"arch={','.join(arch for arch in there if arch in architectures)}"])


def choose_weights(asked: SimpleNamespace, source: Source, space: Space, hardware: Hardware | None) -> Weights:
    """Where the space's architectures start from; none is found for trainings from scratch.

    UsageError if weights were asked for and there are none. On a machine that isn't known they are taken to be there.
    """
    archs, option = architectures_of(space), asked.pretrained or "auto"
    if option == "none" or (option == "auto" and source.is_digits and hardware is not None):
        return Weights({}, {})
    if hardware is None:
        return Weights(dict.fromkeys(archs, Found(True, "on timm's hub")), {})
    weights = find_weights(option, archs)
    if not weights.found and option != "auto":
        reasons = "; ".join(dict.fromkeys(weights.missing.values()))
        raise UsageError(
            f"--pretrained {option}: has weights for no architecture of space {space.name} ({reasons}); "
            "give others, or none to train from scratch"
        )
    return weights


def takes_probes(source: Source) -> bool:
    """Whether the features of all training images are few enough to be fitted in memory."""
    return (source.train_images or 0) <= MOST_PROBED


def starting_point(weights: Weights, source: Source) -> dict[str, Any]:
    """What of it every trial shares."""
    if not weights.found:
        return {"pretrained": False}
    return {"pretrained": weights.sources, "head": "probe" if takes_probes(source) else "new"}


def check_geometry(space: Space) -> None:
    """UsageError for a geometry that an architecture of the space lacks."""
    conditions = {dimension.name: (dimension.when or {}).get("arch") for dimension in space.dimensions}
    for name, family in FAMILIES.items():
        if name not in conditions and name not in space.fixed:
            continue
        among = conditions.get(name) or architectures_of(space)
        for arch in (each for each in among if each in ARCHITECTURES and each not in family):
            raise UsageError(
                f"space {space.name}: {arch} has no {name}, only {', '.join(family)} have; give it the condition "
                f'when = {{ arch = ["{family[0]}"] }}, or leave it out'
            )
