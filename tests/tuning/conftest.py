"""A small plan, as a function of what differs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from search_spaces import get_space
from tuning.plan import SearchPlan


@pytest.fixture(scope="session")
def make_plan() -> Callable[..., SearchPlan]:
    """`make_plan(trials=3)` is a valid plan with that change."""

    def make(**changes) -> SearchPlan:
        values = {
            "space": get_space("swin"),
            "trial": {"data": "images"},
            "trials": 8,
            "epochs": 4,
            "name": "test",
            "output": Path("runs"),
        }
        return SearchPlan(**values | changes)

    return make
