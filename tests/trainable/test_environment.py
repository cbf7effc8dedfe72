import os

import pytest

from trainable.environment import environment


def look_and_fail() -> None:
    with environment({"THERE": None, "NOT_THERE": "for now"}):
        assert ("THERE" in os.environ, os.environ["NOT_THERE"]) == (False, "for now")
        raise KeyError


def test_variables_are_changed_for_a_while_also_where_an_error_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THERE", "before")
    monkeypatch.delenv("NOT_THERE", raising=False)
    with pytest.raises(KeyError):
        look_and_fail()
    assert (os.environ["THERE"], "NOT_THERE" in os.environ) == ("before", False)
