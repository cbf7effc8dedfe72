"""Durations as people write them."""

import pytest

from trainable.durations import parse_duration
from trainable.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1.5h", 5400)]
)
def test_durations_are_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5m", "2d", "h"])
def test_durations_that_cannot_be_meant_are_refused(text):
    with pytest.raises(UsageError, match=r"--time-budget .*: give"):
        parse_duration(text)


def test_a_duration_of_nothing_is_refused():
    with pytest.raises(UsageError, match="more than 0"):
        parse_duration("0m")
