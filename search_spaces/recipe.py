"""The ranges that the built-in spaces share, from scratch and from pretrained weights.

They suit training on small images (32 or 64 px) with AdamW and a cosine schedule.
"""

import math
from typing import Any

from search_spaces.space import Choice, Dimension, Float, Space


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


def for_pretrained(space: Space) -> Space:
    """The space for fine-tuning: a tenth of the learning rates, and a layer-wise decay if it has none yet.

    Apply it once, and before `narrow`, whose explicit ranges would be shifted too. A learning rate that is fixed
    or a list of choices is left as it is.
    """
    dimensions = [
        _tenth(d) if d.name == "lr" and isinstance(d, Float) and d.low < d.high else d for d in space.dimensions
    ]
    if "layer_decay" not in space.fixed and all(d.name != "layer_decay" for d in dimensions):
        dimensions.append(Float(name="layer_decay", low=0.6, high=1.0, start=0.75))
    return Space(name=space.name, dimensions=tuple(dimensions), fixed=space.fixed, description=space.description)


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


def _tenth(lr: Float) -> Float:
    # Rounded, since 0.0003 / 10 is 2.9999999999999997e-05.
    shifted: dict[str, Any] = {
        field: float(f"{value / 10:.12g}")
        for field in ("low", "high", "start")
        if (value := getattr(lr, field)) is not None
    }
    return Float(**{**lr.model_dump(), **shifted})
