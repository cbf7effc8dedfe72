"""The package's one exception, and how its messages are worded: one line each, with the nearest known name."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError


class SpaceError(ValueError):
    """A space, a setting or a configuration is wrong. The message is one line that names the thing and the mend."""


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """The list of known names, led by the nearest one: `did you mean 'lr'? Known: arch, lr`."""
    texts = [str(item) for item in known]
    close = difflib.get_close_matches(str(name), texts, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(texts) or '(none)'}"


def one_line(error: ValidationError, owner: str, fields: Iterable[str]) -> str:
    """Turn pydantic's report into one line.

    Args:
        error: What pydantic raised.
        owner: What was being built, such as `dimension 'lr'`: it leads every message that doesn't name it itself.
        fields: The names that the owner knows, for the nearest match to a misspelt one.
    """
    return "; ".join(_sentence(detail, owner, fields) for detail in error.errors(include_url=False))


def _sentence(detail: Mapping[str, Any], owner: str, fields: Iterable[str]) -> str:
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, SpaceError):
        return str(cause)
    place = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{owner} has no field {place!r}; {did_you_mean(place, fields)}"
    if detail["type"] == "missing":
        return f"{owner} lacks the field {place!r}"
    if detail["type"].startswith("union_tag"):
        return f"{owner}, {place} = {_short(detail['input'])}: needs kind = choice, float or int"
    text = str(cause) if cause else detail["msg"]
    return f"{owner}, {place or 'input'} = {_short(detail['input'])}: {text}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
