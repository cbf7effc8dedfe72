"""Change a space from the command line: `lr=1e-4:1e-2:log`, `arch=resnet18,swin_tiny`, `batch_size=64`."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from search_spaces.configurations import condition_text, range_text, scenarios
from search_spaces.errors import SpaceError, did_you_mean
from search_spaces.hyperparameters import HYPERPARAMETERS
from search_spaces.space import Choice, Dimension, Float, Int, Space, admits


class _Setting(NamedTuple):
    text: str
    dimension: Dimension


def narrow(space: Space, assignments: Iterable[str]) -> Space:
    """The space with some dimensions narrowed, widened or fixed.

    Args:
        space: Where to begin; it isn't changed.
        assignments: `name=low:high` keeps the dimension's scale, `:log` or `:linear` after it changes that;
            `name=a,b` lists choices; `name=a` fixes it. Ranges may go beyond the space's, numeric choices
            take any positive number of their type.

    Returns:
        A space in which a fixed dimension has moved to `fixed` (one that applies only to some configurations stays,
        with a single value), dimensions that can no longer apply are gone, and each `start` lies inside.

    Raises:
        SpaceError: A name is unknown or set twice, a value isn't allowed, a range is upside down, or a dimension is
            set that the other settings rule out.
    """
    settings = _settings(space, assignments)
    changed = [settings[d.name].dimension if d.name in settings else d for d in space.dimensions]
    alive = {name for names, _ in scenarios(changed, space.fixed) for name in names}
    for name, setting in settings.items():
        if name not in alive:
            raise SpaceError(_ruled_out(setting, space.fixed, changed))
    kept: dict[str, Dimension] = {}
    for dimension in changed:
        if dimension.name in alive:
            kept[dimension.name] = _simplified(dimension, kept, space.fixed)
    fixed = {
        name: points[0]
        for name, dimension in kept.items()
        if name in settings and not dimension.when and len(points := _points(dimension)) == 1
    }
    return Space(
        name=space.name,
        dimensions=tuple(dimension for name, dimension in kept.items() if name not in fixed),
        fixed={**space.fixed, **fixed},
        description=space.description,
    )


def _settings(space: Space, assignments: Iterable[str]) -> dict[str, _Setting]:
    dimensions = {dimension.name: dimension for dimension in space.dimensions}
    settings: dict[str, _Setting] = {}
    for text in assignments:
        name, equals, spec = (part.strip() for part in text.partition("="))
        if not equals or not spec:
            raise SpaceError(f"setting {text!r} is not name=value; write name=a, name=a,b or name=low:high")
        if name not in dimensions:
            raise SpaceError(f"setting {text!r}: {_unknown(name, space)}; {did_you_mean(name, dimensions)}")
        if name in settings:
            raise SpaceError(f"setting {text!r}: {name!r} was already set by {settings[name].text!r}; keep one")
        try:
            settings[name] = _Setting(text, _assigned(dimensions[name], spec))
        except SpaceError as error:
            raise SpaceError(f"setting {text!r}: {error}") from None
    return settings


def _unknown(name: str, space: Space) -> str:
    if name in space.fixed:
        return f"{name!r} is fixed to {space.fixed[name]!r} in space {space.name!r}"
    if name in HYPERPARAMETERS:
        return f"space {space.name!r} does not search {name!r}"
    return f"space {space.name!r} has no dimension {name!r}"


def _assigned(dimension: Dimension, spec: str) -> Dimension:
    if isinstance(dimension, Choice):
        return _with_choices(dimension, spec)
    if ":" in spec:
        return _with_range(dimension, spec.split(":"))
    values = tuple(_number(item, dimension) for item in spec.split(","))
    if dimension.log and min(values) <= 0:
        raise SpaceError(f"{min(values)!r} has no logarithm; give a value above 0, or write 0:0:linear for zero")
    if len(values) == 1:
        return _changed(dimension, low=values[0], high=values[0], start=None)
    start = dimension.start if dimension.start in values else None
    return Choice(name=dimension.name, values=values, start=start, when=dimension.when)


def _with_range(dimension: Float | Int, parts: Sequence[str]) -> Dimension:
    if len(parts) > 3 or (len(parts) == 3 and parts[2].strip() not in ("log", "linear")):
        raise SpaceError("a range is low:high, low:high:log or low:high:linear")
    low, high = _number(parts[0], dimension), _number(parts[1], dimension)
    log = parts[2].strip() == "log" if len(parts) == 3 else dimension.log
    if low > high:
        raise SpaceError(f"the range is upside down; write {dimension.name}={parts[1].strip()}:{parts[0].strip()}")
    if log and low <= 0:
        raise SpaceError(f"{low!r} has no logarithm; give a low above 0, or add :linear")
    start = None if dimension.start is None else min(max(dimension.start, low), high)
    return _changed(dimension, low=low, high=high, log=log, start=start)


def _with_choices(dimension: Choice, spec: str) -> Choice:
    if ":" in spec and _number_type(dimension.values):
        listed = ",".join(map(str, dimension.values))
        raise SpaceError(f"{dimension.name!r} is a choice, not a range; list its values: {dimension.name}={listed}")
    values = tuple(_choice(item.strip(), dimension) for item in spec.split(","))
    start = dimension.start if dimension.start in values else None
    return Choice(name=dimension.name, values=values, start=start, when=dimension.when)


def _choice(text: str, dimension: Choice) -> Any:
    for value in dimension.values:
        if text == (str(value).lower() if isinstance(value, bool) else str(value)):
            return value
    kind = _number_type(dimension.values)
    if kind is None:
        raise SpaceError(f"{text!r} is not a choice; {did_you_mean(text, dimension.values)}")
    try:
        number = kind(text)
    except ValueError:
        number = 0
    if not 0 < number < math.inf:
        what = "whole number" if kind is int else "number"
        raise SpaceError(f"{text!r} is not a positive {what}; e.g. {dimension.name}={dimension.values[0]}")
    return number


def _number_type(values: Sequence[Any]) -> type[int] | type[float] | None:
    if any(isinstance(value, bool | str) for value in values):
        return None
    return int if all(isinstance(value, int) for value in values) else float


def _number(text: str, dimension: Float | Int) -> Any:
    whole = isinstance(dimension, Int)
    try:
        number = int(text) if whole else float(text)
        finite = math.isfinite(number)
    except (ValueError, OverflowError):  # the second of a whole number that no float can hold
        finite = False
    if not finite:
        what = "whole number" if whole else "number"
        raise SpaceError(f"{text.strip()!r} is not a {what}; e.g. {dimension.name}={dimension.low}:{dimension.high}")
    return number


def _simplified(dimension: Dimension, earlier: Mapping[str, Dimension], fixed: Mapping[str, object]) -> Dimension:
    """The dimension without conditions, or parts of them, that the space now decides by itself."""
    when: dict[str, tuple[Any, ...]] = {}
    for parent, allowed in (dimension.when or {}).items():
        if parent in fixed:
            continue
        possible = tuple(value for value in allowed if admits(earlier[parent], value))
        points = _points(earlier[parent])
        always = not earlier[parent].when and points and all(point in possible for point in points)
        if not always:
            when[parent] = possible
    return _changed(dimension, when=when or None)


def _points(dimension: Dimension) -> tuple[Any, ...]:
    """All its values where they are listed or there is but one; empty for a range."""
    if isinstance(dimension, Choice):
        return dimension.values
    return (dimension.low,) if dimension.low == dimension.high else ()


def _ruled_out(setting: _Setting, fixed: Mapping[str, object], dimensions: Sequence[Dimension]) -> str:
    now = {**{d.name: range_text(d) for d in dimensions}, **fixed}
    found = " and ".join(f"{parent} is {now[parent]}" for parent in setting.dimension.when or {})
    needs = condition_text(setting.dimension)
    return f"setting {setting.text!r}: {setting.dimension.name!r} needs {needs}, but here {found}; leave it out"


def _changed(dimension: Dimension, **updates: Any) -> Dimension:
    return type(dimension)(**{**dimension.model_dump(), **updates})
