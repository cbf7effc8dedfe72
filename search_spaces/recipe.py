"""The ranges that the built-in spaces share, from scratch and from pretrained weights.

They suit training on small images (32 or 64 px) with AdamW and a cosine schedule.
"""

import math
from collections.abc import Mapping
from typing import Any

from search_spaces.space import Choice, Condition, Dimension, Float, Space

TRAINED = ("none", "early", "most")
"""Values of `freeze` with which something is trained."""


def from_scratch(name: str, architectures: tuple[str, ...], lr: Float, attention: bool, description: str) -> Space:
    """A built-in space: what differs between families comes in, the rest is shared.

    Args:
        name: The space's name.
        architectures: The values of `arch`; the first one starts.
        lr: The family's range of learning rates.
        attention: Whether the models have attention weights to drop.
        description: One line for people.
    """
    attn_drop_rate = (Float(name="attn_drop_rate", low=0.0, high=0.3, start=0.0),) if attention else ()
    dimensions: tuple[Dimension, ...] = (
        Choice(name="arch", values=architectures),
        lr,
        Float(name="weight_decay", low=1e-3, high=0.3, log=True, start=0.05),
        Float(name="drop_rate", low=0.0, high=0.5, start=0.0),
        *attn_drop_rate,
        Float(name="drop_path_rate", low=0.0, high=0.3, start=0.1),
        Float(name="label_smoothing", low=0.0, high=0.2, start=0.1),
        Float(name="mix_prob", low=0.0, high=1.0, start=0.5),
        Choice(name="batch_size", values=(32, 64, 128, 256), start=64),
    )
    return Space(name=name, dimensions=dimensions, description=description)


def for_pretrained(space: Space, with_probes: bool = True) -> Space:
    """A built-in space for fine-tuning published weights: its architectures, and dimensions that suit a start from a
    probe, a head that logistic regression fitted to frozen features (Kumar et al. 2022).

    Apply it once, and before `narrow`, whose explicit ranges would be lost.

    Args:
        space: What a search from scratch would vary.
        with_probes: Whether the probe itself is one of the configurations; it has no other hyper-parameters.
    """
    own = {dimension.name: dimension for dimension in space.dimensions}
    freeze = ("all", *TRAINED) if with_probes else TRAINED
    trained: Condition | None = {"freeze": TRAINED} if with_probes else None
    attention = [own["attn_drop_rate"]] if "attn_drop_rate" in own else []
    further: tuple[Dimension, ...] = (
        Float(name="lr", low=1e-5, high=1e-3, log=True, start=1e-4),
        Float(name="backbone_lr", low=0.03, high=1.0, log=True, start=1.0),
        Float(name="weight_decay", low=1e-3, high=0.3, log=True, start=0.05),
        Float(name="drop_rate", low=0.0, high=0.5, start=0.0),
        *attention,
        Float(name="drop_path_rate", low=0.0, high=0.3, start=0.0),
        Float(name="label_smoothing", low=0.0, high=0.2, start=0.1),
        Float(name="mix_prob", low=0.0, high=0.5, start=0.2),
        Choice(name="batch_size", values=(16, 32, 64), start=16),
        Float(name="layer_decay", low=0.6, high=1.0, start=0.75),
        Choice(name="augment", values=("light", "full"), start="full"),
    )
    dimensions = (
        *([own["arch"]] if "arch" in own else []),
        Choice(name="freeze", values=freeze, start="none"),
        *(each.model_copy(update={"when": _both(each.when, trained)}) for each in further),
    )
    return Space(name=space.name, dimensions=dimensions, fixed=space.fixed, description=space.description)


def _both(one: Condition | None, other: Condition | None) -> Condition | None:
    return (one or {}) | (other or {}) or None


def probe_of(arch: str | None) -> dict[str, Any]:
    """The configuration that trains nothing but a head on frozen features; None for the architecture of the space."""
    return ({} if arch is None else {"arch": arch}) | {"freeze": "all"}


def is_probe(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is one of those."""
    return config.get("freeze") == "all"


def with_batches_up_to(space: Space, largest: int) -> Space:
    """The space with batches of at most `largest` images, and at least two sizes if there is room for them."""
    return space.model_copy(update={"dimensions": tuple(_fewer(each, largest) for each in space.dimensions)})


def _fewer(dimension: Dimension, largest: int) -> Dimension:
    if dimension.name != "batch_size" or not isinstance(dimension, Choice):
        return dimension
    values = [int(value) for value in dimension.values if int(value) <= largest]
    smaller = 2 ** int(math.log2(max(1, largest)))
    while len(values) < 2 and smaller >= 1:
        values = values if smaller in values else [smaller, *values]
        smaller //= 2
    usual = int(dimension.start or dimension.values[0])
    start = max((value for value in values if value <= usual), default=values[0])
    return dimension.model_copy(update={"values": tuple(values), "start": start})
