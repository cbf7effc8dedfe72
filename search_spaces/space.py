"""What may vary in a search, as plain data: dimensions with ranges, conditions and a known good start.

    >>> space = Space(name="tiny", dimensions=(
    ...     Choice(name="arch", values=("resnet18", "swin_tiny")),
    ...     Float(name="lr", low=1e-4, high=1e-2, log=True, start=1e-3),
    ...     Float(name="attn_drop_rate", low=0.0, high=0.3, when={"arch": ("swin_tiny",)})))
    >>> Space.model_validate_json(space.model_dump_json()) == space
    True

Everything is checked when it is built; whatever is wrong raises a one-line `SpaceError`.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, model_validator

from search_spaces.errors import SpaceError, did_you_mean, one_line

WHOLE_LIMIT = 2**63
"""Whole numbers stay below it, as in TOML: larger ones have no float, and so no middle and no logarithm."""


def _scalar(value: Any) -> Any:
    if isinstance(value, int) and not -WHOLE_LIMIT <= value < WHOLE_LIMIT:
        raise ValueError("must be below 2^63")
    if isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError("must be a string, a finite number or a boolean")


Scalar = Annotated[bool | int | float | str, PlainValidator(_scalar)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Whole = Annotated[int, Field(strict=True, ge=-WHOLE_LIMIT, lt=WHOLE_LIMIT)]
Name = Annotated[str, Field(strict=True, min_length=1)]
Condition = dict[str, tuple[Scalar, ...]]


class _Record(BaseModel):
    """A frozen model whose every way of being built reports a mistake as a one-line `SpaceError`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            noun = "space" if "dimensions" in type(self).model_fields else "dimension"
            owner = f"{noun} {data.get('name', '(unnamed)')!r}"
            raise SpaceError(one_line(error, owner, type(self).model_fields)) from None

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """As pydantic's, for plain data read from TOML or JSON.

        Raises:
            SpaceError: The data breaks a rule.
        """
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            raise SpaceError(one_line(error, cls.__name__.lower(), cls.model_fields)) from None

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """As pydantic's, for JSON text.

        Raises:
            SpaceError: The text isn't JSON, or the data breaks a rule.
        """
        try:
            return super().model_validate_json(json_data, **options)
        except ValidationError as error:
            raise SpaceError(one_line(error, cls.__name__.lower(), cls.model_fields)) from None


class Choice(_Record):
    """One of several values without an order."""

    kind: Literal["choice"] = "choice"
    name: Name
    """The hyper-parameter that it sets."""
    values: tuple[Scalar, ...]
    """At least one, all different."""
    start: Scalar | None = None
    """The value of the first trial; the first of `values` where None."""
    when: Condition | None = None
    """Applies only if each named earlier dimension (or fixed value) has one of the listed values."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.values:
            raise SpaceError(f"dimension {self.name!r} has no values; list at least one")
        for index, value in enumerate(self.values):
            if value in self.values[:index]:
                raise SpaceError(f"dimension {self.name!r} lists {value!r} twice; keep one of them")
        if self.start is not None and self.start not in self.values:
            hint = did_you_mean(self.start, self.values)
            raise SpaceError(f"dimension {self.name!r}: start {self.start!r} is not among its values; {hint}")
        return self


class Float(_Record):
    """A real number in low..high, both included; low = high is a fixed point."""

    kind: Literal["float"] = "float"
    name: Name
    """The hyper-parameter that it sets."""
    low: Number
    high: Number
    log: bool = False
    """Search the logarithm (needs low > 0): for values such as learning rates whose order of magnitude matters."""
    start: Number | None = None
    """The value of the first trial; the middle where None (the geometric one if `log`)."""
    when: Condition | None = None
    """Applies only if each named earlier dimension (or fixed value) has one of the listed values."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_range(self)
        return self


class Int(_Record):
    """A whole number in low..high, both included; low = high is a fixed point."""

    kind: Literal["int"] = "int"
    name: Name
    """The hyper-parameter that it sets."""
    low: Whole
    high: Whole
    log: bool = False
    """Search the logarithm; needs low > 0."""
    start: Whole | None = None
    """The value of the first trial; the middle where None (the geometric one if `log`)."""
    when: Condition | None = None
    """Applies only if each named earlier dimension (or fixed value) has one of the listed values."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_range(self)
        return self


Dimension = Annotated[Choice | Float | Int, Field(discriminator="kind")]


class Space(_Record):
    """Dimensions in the order in which they are asked, and values that never vary."""

    name: Name
    dimensions: tuple[Dimension, ...] = ()
    """A condition may look only at earlier dimensions and at `fixed`."""
    fixed: dict[str, Scalar] = {}
    """Values that every configuration has; a name is either here or a dimension."""
    description: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        earlier: dict[str, Choice | Float | Int] = {}
        for dimension in self.dimensions:
            if dimension.name in earlier:
                raise SpaceError(f"dimension {dimension.name!r} is there twice; keep one of them")
            if dimension.name in self.fixed:
                value = self.fixed[dimension.name]
                raise SpaceError(f"dimension {dimension.name!r} is also fixed to {value!r}; keep one of the two")
            for parent, allowed in (dimension.when or {}).items():
                _check_condition(dimension.name, parent, allowed, earlier, self.fixed)
            earlier[dimension.name] = dimension
        return self


def admits(dimension: Dimension, value: object) -> bool:
    """Whether the dimension can take the value (its condition aside)."""
    if isinstance(dimension, Choice):
        return value in dimension.values
    if isinstance(value, bool) or not isinstance(value, int if isinstance(dimension, Int) else int | float):
        return False
    return dimension.low <= value <= dimension.high


def applies(dimension: Dimension, values: Mapping[str, object]) -> bool:
    """Whether the dimension's condition holds, given the fixed and the earlier values."""
    return all(parent in values and values[parent] in allowed for parent, allowed in (dimension.when or {}).items())


def _check_range(dimension: Float | Int) -> None:
    owner, low, high = f"dimension {dimension.name!r}", dimension.low, dimension.high
    if low > high:
        raise SpaceError(f"{owner}: low {low!r} is above high {high!r}; swap them")
    if dimension.log and low <= 0:
        raise SpaceError(f"{owner}: low {low!r} has no logarithm; give a low above 0, or log = false")
    if dimension.start is not None and not low <= dimension.start <= high:
        raise SpaceError(f"{owner}: start {dimension.start!r} is outside {low!r}..{high!r}; move it inside")


def _check_condition(
    name: str, parent: str, allowed: tuple[Any, ...], earlier: Mapping[str, Dimension], fixed: Mapping[str, object]
) -> None:
    owner = f"dimension {name!r}: its condition on {parent!r}"
    if not allowed:
        raise SpaceError(f"{owner} lists no values; list at least one, or leave the condition out")
    if parent in fixed:
        if fixed[parent] not in allowed:
            listed = ", ".join(map(repr, allowed))
            raise SpaceError(f"{owner} needs {listed}, but it is fixed to {fixed[parent]!r}; remove the dimension")
        return
    if parent not in earlier:
        hint = did_you_mean(parent, [*fixed, *earlier])
        raise SpaceError(f"{owner} looks at no fixed value or earlier dimension; put that first; {hint}")
    # A misspelt value would otherwise make the dimension silently absent.
    for value in allowed:
        if not admits(earlier[parent], value):
            raise SpaceError(
                f"{owner} lists {value!r}, which {parent!r} can't take; {_options(earlier[parent], value)}"
            )


def _options(dimension: Dimension, value: object) -> str:
    if isinstance(dimension, Choice):
        return did_you_mean(value, dimension.values)
    return f"its range is {dimension.low!r}..{dimension.high!r}"
