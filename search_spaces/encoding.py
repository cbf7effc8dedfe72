"""Configurations as points of the unit cube, for models and distances.

A number becomes its place between the ends of its range (on the log scale where `log`); a choice among numbers the
place of its rank; a choice among names one column a name, 1 for the one that it is. A dimension that doesn't apply
stands in the middle, its names at 0.
"""

import math
from collections.abc import Mapping
from typing import Any

from search_spaces.space import Choice, Dimension, Float, Int, Space

ABSENT = 0.5


def encode(space: Space, config: Mapping[str, Any]) -> list[float]:
    """The point of a configuration, (`columns`,), each in 0..1; values at the edge of float error are cut."""
    return [place for dimension in space.dimensions for place in _places(dimension, config.get(dimension.name))]


def columns(space: Space) -> list[str]:
    """What each column means: `lr`, or `arch=swin_tiny`."""
    return [name for dimension in space.dimensions for name in _columns(dimension)]


def _columns(dimension: Dimension) -> list[str]:
    if isinstance(dimension, Choice) and not _is_ordered(dimension):
        return [f"{dimension.name}={value}" for value in dimension.values]
    return [dimension.name]


def _places(dimension: Dimension, value: Any) -> list[float]:
    if isinstance(dimension, Choice):
        if not _is_ordered(dimension):
            return [float(value == each) for each in dimension.values]
        if value is None:
            return [ABSENT]
        return [sorted(dimension.values).index(value) / max(1, len(dimension.values) - 1)]
    return [ABSENT if value is None else _place(dimension, value)]


def _place(dimension: Float | Int, value: float) -> float:
    low, high = dimension.low, dimension.high
    if low == high:
        return ABSENT
    if dimension.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return min(1.0, max(0.0, (value - low) / (high - low)))


def _is_ordered(dimension: Choice) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in dimension.values)
