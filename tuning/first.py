"""The first configurations of a search: those that the user wants tried, then the published start of each architecture.

All functions are pure; a configuration is without the space's fixed values, as Optuna's `enqueue_trial` takes it.
"""

import math
from collections.abc import Sequence
from typing import Any

from search_spaces import (
    MODELS,
    Choice,
    Dimension,
    Int,
    Space,
    admits,
    condition_text,
    did_you_mean,
    fill,
    get_space,
    names,
    probe_of,
    range_text,
    start_point,
    start_value,
)
from trainable.errors import UsageError
from tuning.plan import architectures_of


def first_configurations(space: Space, wanted: Sequence[str], trials: int | None) -> list[dict[str, Any]]:
    """The configurations to try before anything is proposed: those of `wanted`, then the published ones.

    UsageError where one of `wanted` is wrong, or where they are more than `trials`.

    Args:
        space: What may vary, narrowed.
        wanted: The texts of `--try`.
        trials: How many configurations the search tries; None for as many as a budget buys.
    """
    first = wanted_configurations(space, wanted, trials)
    # The published ones are good guesses, not findings: the sampler keeps at least half of the trials.
    for configuration in published_configurations(space)[: None if trials is None else max(1, trials // 2)]:
        first = _with(first, configuration)
    return [configuration for configuration in first[:trials] if configuration]


def wanted_configurations(space: Space, wanted: Sequence[str], trials: int | None) -> list[dict[str, Any]]:
    """Those of `--try`, each once; see `first_configurations`."""
    first: list[dict[str, Any]] = []
    for text in wanted:
        first = _with(first, read_configuration(space, text))
    if trials is not None and len(first) > trials:
        raise UsageError(f"--try: {len(first)} configurations, but --trials {trials}; give more trials or fewer --try")
    return first


def fine_tuning_starts(space: Space) -> list[dict[str, Any]]:
    """Where the fine-tuning of each architecture starts."""
    if "arch" in space.fixed:
        return [start_point(space)]
    return [published_start(space, arch, None) for arch in architectures_of(space)]


def probes(space: Space) -> list[dict[str, Any]]:
    """The probe of each architecture of a space that has them, the cheapest first; without the fixed values."""
    if not any(d.name == "freeze" and isinstance(d, Choice) and admits(d, "all") for d in space.dimensions):
        return []
    if "arch" in space.fixed:
        return [probe_of(None)]
    known = [arch for arch in architectures_of(space) if arch in MODELS]
    others = [arch for arch in architectures_of(space) if arch not in MODELS]
    return [probe_of(arch) for arch in [*sorted(known, key=lambda arch: MODELS[arch].gmacs), *others]]


def read_configuration(space: Space, text: str) -> dict[str, Any]:
    """`lr=2e-5,arch=swin_tiny` as a configuration; a name that isn't given gets the space's start value.

    UsageError where it is malformed, or names what the space doesn't have or what doesn't apply.
    """
    given = _read_values(space, text)
    values = fill(space, lambda dimension: given.get(dimension.name, start_value(dimension)))
    for dimension in space.dimensions:
        if dimension.name in given and dimension.name not in values:
            needs = condition_text(dimension)
            raise UsageError(f"--try {text}: {dimension.name} does not apply here, it needs {needs}; leave it out")
    return values


def published_configurations(space: Space) -> list[dict[str, Any]]:
    """The space's starting point, then the start of each architecture as its family recommends it, each once.

    A family's values are cut to the space's ranges; a space of the user's own keeps the starts that it states. One
    architecture of each family comes first, so that a short list holds different ones.
    """
    families = [get_space(name) for name in names() if name != "all"]
    ranked = []
    for arch in architectures_of(space):
        family = next((family for family in families if arch in architectures_of(family)), None)
        place = architectures_of(family).index(arch) if family else 0
        ranked.append((place, published_start(space, arch, family)))
    configurations = [start_point(space)]
    for _, configuration in sorted(ranked, key=lambda entry: entry[0]):
        configurations = _with(configurations, configuration)
    return configurations


def published_start(space: Space, arch: str, family: Space | None) -> dict[str, Any]:
    """The configuration that `space` starts `arch` with: the family's start values, where they lie in the space."""
    recommended = {dimension.name: start_value(dimension) for dimension in family.dimensions} if family else {}
    if space.name not in names():
        recommended = {
            dimension.name: recommended[dimension.name]
            for dimension in space.dimensions
            if dimension.start is None and dimension.name in recommended
        }
    recommended["arch"] = arch
    return fill(space, lambda dimension: _cut(dimension, recommended.get(dimension.name)))


def _cut(dimension: Dimension, value: Any) -> Any:
    """The value, moved into a number's range; the dimension's own start where it has no such value."""
    if not isinstance(dimension, Choice) and isinstance(value, int | float):
        value = min(max(value, dimension.low), dimension.high)
    return value if admits(dimension, value) else start_value(dimension)


def _read_values(space: Space, text: str) -> dict[str, Any]:
    dimensions = {dimension.name: dimension for dimension in space.dimensions}
    given: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and equals and value):
            raise UsageError(f"--try {text}: {part.strip()!r} is not NAME=VALUE; write lr=2e-5,arch=swin_tiny")
        if name in given:
            raise UsageError(f"--try {text}: {name} is given twice; keep one")
        if name in dimensions:
            given[name] = _read_value(dimensions[name], value, text)
        elif name not in space.fixed:
            hint = did_you_mean(name, [*space.fixed, *dimensions])
            raise UsageError(f"--try {text}: space {space.name} has no {name!r}; {hint}")
        elif value != _spelled(space.fixed[name]):
            raise UsageError(f"--try {text}: {name} is fixed to {_spelled(space.fixed[name])}; leave it out")
    return given


def _read_value(dimension: Dimension, value: str, text: str) -> Any:
    if isinstance(dimension, Choice):
        found = [known for known in dimension.values if value == _spelled(known) or _number(value) == known]
    else:
        number = _number(value)
        if isinstance(dimension, Int) and number.is_integer():
            number = int(number)
        found = [number] if admits(dimension, number) else []
    if not found:
        raise UsageError(
            f"--try {text}: {dimension.name} = {value} is outside the space; it takes {range_text(dimension)}"
        )
    return found[0]


def _spelled(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _with(configurations: list[dict[str, Any]], further: dict[str, Any]) -> list[dict[str, Any]]:
    return configurations if further in configurations else [*configurations, further]
