"""From a space to configurations: ask Optuna, draw, start, check, count, and print.

A configuration is a plain dict from hyper-parameter to value. Dimensions whose condition is false are absent from it.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from search_spaces.errors import SpaceError, did_you_mean
from search_spaces.space import Choice, Dimension, Float, Int, Space, admits, applies

_OTHER = object()


class Suggests(Protocol):
    """The part of `optuna.Trial` that is used, so that this package needs no Optuna."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of `choices`."""
        ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number in [low, high]."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number in [low, high]."""
        ...


def suggest(space: Space, trial: Suggests) -> dict[str, Any]:
    """Ask the trial for each dimension that applies, in order; the fixed values are merged in.

    Args:
        space: What may vary.
        trial: An `optuna.Trial`, or anything with its three `suggest_` methods.
    """
    return {**space.fixed, **fill(space, lambda dimension: _ask(dimension, trial))}


def sample(space: Space, rng: random.Random) -> dict[str, Any]:
    """Draw one configuration uniformly (log-uniformly where `log`), with the fixed values merged in."""
    return {**space.fixed, **fill(space, lambda dimension: _draw(dimension, rng))}


def start_point(space: Space) -> dict[str, Any]:
    """The first trial, without the fixed values: what Optuna's `enqueue_trial` takes."""
    return fill(space, start_value)


def fill(space: Space, choose: Callable[[Dimension], Any]) -> dict[str, Any]:
    """The configuration that has what `choose` gives for each dimension that applies, without the fixed values."""
    seen = dict(space.fixed)
    for dimension in space.dimensions:
        if applies(dimension, seen):
            seen[dimension.name] = choose(dimension)
    return {name: value for name, value in seen.items() if name not in space.fixed}


def unconditional(space: Space) -> Space:
    """The space with every dimension always there, for what knows no conditions."""
    dimensions = tuple(dimension.model_copy(update={"when": None}) for dimension in space.dimensions)
    return space.model_copy(update={"dimensions": dimensions})


def start_value(dimension: Dimension) -> Any:
    """The dimension's `start`, else its first value or its middle (geometric where `log`)."""
    if dimension.start is not None:
        return dimension.start
    if isinstance(dimension, Choice):
        return dimension.values[0]
    low, high = dimension.low, dimension.high
    middle = math.exp((math.log(low) + math.log(high)) / 2) if dimension.log else low / 2 + high / 2
    return _into(dimension, middle)


def contains(space: Space, values: Mapping[str, Any]) -> None:
    """Check a configuration; fixed values may be left out of it (as `start_point` does), but not differ.

    Raises:
        SpaceError: A value is outside its dimension, unknown, missing, or doesn't apply to this configuration.
    """
    known = [*space.fixed, *(dimension.name for dimension in space.dimensions)]
    for name, value in values.items():
        if name not in known:
            raise SpaceError(f"space {space.name!r} has no {name!r} (= {value!r}); {did_you_mean(name, known)}")
        if name in space.fixed and value != space.fixed[name]:
            raise SpaceError(f"{name} = {value!r}, but space {space.name!r} fixes it to {space.fixed[name]!r}")
    seen = {**space.fixed}
    for dimension in space.dimensions:
        if applies(dimension, seen):
            seen[dimension.name] = _checked(dimension, values)
        elif dimension.name in values:
            raise SpaceError(
                f"{dimension.name} does not apply here: it needs {condition_text(dimension)}; leave it out"
            )


def cardinality(space: Space) -> int | None:
    """How many different configurations there are; None if a real-valued range makes them endless."""
    total = sum(count for _, count in scenarios(space.dimensions, space.fixed))
    return None if total == math.inf else int(total)


def scenarios(
    dimensions: Sequence[Dimension], values: Mapping[str, object]
) -> Iterator[tuple[frozenset[str], int | float]]:
    """Every way in which the conditions can turn out: the dimensions that apply, and how many configurations that is.

    Args:
        dimensions: Those still to be decided, in order.
        values: What is decided: the fixed values at first.
    """
    if not dimensions:
        yield frozenset(), 1
        return
    first, rest = dimensions[0], dimensions[1:]
    if not applies(first, values):
        yield from scenarios(rest, values)
        return
    for value, count in _branches(first, rest):
        for names, further in scenarios(rest, {**values, first.name: value}):
            yield names | {first.name}, count * further


def describe(space: Space) -> list[dict[str, str]]:
    """One row for each fixed value and dimension, for a table; keys: name, kind, range, scale, when, start."""
    fixed = [
        {"name": name, "kind": "fixed", "range": _text(value), "scale": "", "when": "", "start": _text(value)}
        for name, value in space.fixed.items()
    ]
    return fixed + [_row(dimension) for dimension in space.dimensions]


def condition_text(dimension: Dimension) -> str:
    """The condition in words: `arch in vit_small, swin_tiny`; empty where there is none."""
    return " and ".join(
        f"{parent} {'in' if len(allowed) > 1 else '='} {', '.join(map(_text, allowed))}"
        for parent, allowed in (dimension.when or {}).items()
    )


def range_text(dimension: Dimension) -> str:
    """Its values, or its range, in words: `32, 64` or `0.001 .. 0.3`."""
    if isinstance(dimension, Choice):
        return ", ".join(map(_text, dimension.values))
    return f"{_text(dimension.low)} .. {_text(dimension.high)}"


def _ask(dimension: Dimension, trial: Suggests) -> Any:
    if isinstance(dimension, Choice):
        return trial.suggest_categorical(dimension.name, dimension.values)
    if isinstance(dimension, Int):
        return trial.suggest_int(dimension.name, dimension.low, dimension.high, log=dimension.log)
    return trial.suggest_float(dimension.name, dimension.low, dimension.high, log=dimension.log)


def _draw(dimension: Dimension, rng: random.Random) -> Any:
    if isinstance(dimension, Choice):
        return rng.choice(dimension.values)
    # Half a step at each end gives the first and the last whole number the same share as the others.
    margin = 0.5 if isinstance(dimension, Int) else 0.0
    low, high = dimension.low - margin, dimension.high + margin
    return _into(
        dimension, math.exp(rng.uniform(math.log(low), math.log(high))) if dimension.log else rng.uniform(low, high)
    )


def _into(dimension: Float | Int, value: float) -> float | int:
    number = round(value) if isinstance(dimension, Int) else value
    return min(max(number, dimension.low), dimension.high)


def _checked(dimension: Dimension, values: Mapping[str, Any]) -> Any:
    if dimension.name not in values:
        raise SpaceError(f"{dimension.name} is missing; it takes {range_text(dimension)}")
    value = values[dimension.name]
    if not admits(dimension, value):
        raise SpaceError(f"{dimension.name} = {value!r} is outside the space; it takes {range_text(dimension)}")
    return value


def _branches(dimension: Dimension, later: Sequence[Dimension]) -> Iterator[tuple[object, int | float]]:
    """The values that later conditions tell apart, and one that stands for all others, each with its count."""
    named = {value for child in later for value in (child.when or {}).get(dimension.name, ())}
    told_apart = [value for value in named if admits(dimension, value)]
    yield from ((value, 1) for value in told_apart)
    others = _size(dimension) - len(told_apart)
    if others > 0:
        yield _OTHER, others


def _size(dimension: Dimension) -> int | float:
    if isinstance(dimension, Choice):
        return len(dimension.values)
    if isinstance(dimension, Int):
        return dimension.high - dimension.low + 1
    return 1 if dimension.low == dimension.high else math.inf


def _row(dimension: Dimension) -> dict[str, str]:
    scale = "" if isinstance(dimension, Choice) else "log" if dimension.log else "linear"
    return {
        "name": dimension.name,
        "kind": dimension.kind,
        "range": range_text(dimension),
        "scale": scale,
        "when": condition_text(dimension),
        "start": _text(start_value(dimension)),
    }


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
