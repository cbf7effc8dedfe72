"""One space out of several families: all architectures, each with the dimensions that it has."""

from collections.abc import Sequence
from typing import Any

from search_spaces.hyperparameters import HYPERPARAMETERS
from search_spaces.space import Choice, Dimension, Space


def union(name: str, spaces: Sequence[Space], description: str) -> Space:
    """Merge spaces that have an `arch` choice and no conditions of their own.

    A dimension that only some of them have applies to their architectures; ranges that differ become the widest;
    `start` is that of the first space which has the dimension.
    """
    found = {d.name for space in spaces for d in space.dimensions}
    dimensions = tuple(_merged(known, spaces) for known in HYPERPARAMETERS if known in found)
    return Space(name=name, dimensions=dimensions, description=description)


def _merged(name: str, spaces: Sequence[Space]) -> Dimension:
    versions = {space.name: d for space in spaces for d in space.dimensions if d.name == name}
    first = next(iter(versions.values()))
    merged: dict[str, Any] = first.model_dump()
    if isinstance(first, Choice):
        merged["values"] = _distinct([d for d in versions.values() if isinstance(d, Choice)])
    else:
        ranges = [d for d in versions.values() if not isinstance(d, Choice)]
        merged |= {"low": min(d.low for d in ranges), "high": max(d.high for d in ranges)}
    if len(versions) < len(spaces):
        choices = [d for space in spaces if space.name in versions for d in space.dimensions if d.name == "arch"]
        merged["when"] = {"arch": _distinct([d for d in choices if isinstance(d, Choice)])}
    return type(first)(**merged)


def _distinct(choices: Sequence[Choice]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(value for choice in choices for value in choice.values))
