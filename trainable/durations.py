"""Durations as options name them."""

import re

from trainable.errors import UsageError

DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s?)?")


def parse_duration(text: str, flag: str = "--time-budget") -> float:
    """`90`, `90s`, `30m`, `2h` or `1h30m` -> seconds; UsageError, naming `flag`, for anything else and for 0."""
    match = DURATION.fullmatch(text.strip().lower())
    if not text.strip() or match is None:
        raise UsageError(f"{flag} {text}: give a duration such as 30m, 2h or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    total = 3600 * hours + 60 * minutes + seconds
    if total <= 0:
        raise UsageError(f"{flag} {text}: give more than 0 seconds")
    return total
