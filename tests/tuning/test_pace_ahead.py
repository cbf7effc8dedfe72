"""The measurement of the speed in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from search_spaces import Choice, Space
from tuning.pace_ahead import PaceAhead
from tuning.plan import SearchPlan
from tuning.resources import Slots


@pytest.fixture
def plan(tmp_path: Path, colour_folder: Path) -> SearchPlan:
    arch = Choice(name="arch", values=("test_vit", "test_resnet"))
    space = Space(name="tiny", dimensions=(arch,), fixed={"batch_size": 16})
    return SearchPlan(space=space, trial={"data": str(colour_folder)}, epochs=4, steps=2, name="a", output=tmp_path)


def test_the_first_configuration_is_measured_with_the_cores_of_a_slot(plan):
    pace = PaceAhead(plan, Slots(1, 1, 0, "")).result()
    assert 0 < pace.train < 10
    assert 0 < pace.evaluate < 10


def test_what_cannot_be_measured_is_left_to_the_trials(plan):
    broken = plan.model_copy(update={"trial": {"data": "/nowhere"}})
    assert PaceAhead(broken, Slots(1, 1, 0, "")).result() is None


def test_nothing_is_measured_for_one_who_is_gone():
    command = [sys.executable, "-m", "trainable.pace"]
    left = subprocess.run(command, input="[{}, 1]\n", capture_output=True, text=True, check=True, timeout=100)
    assert left.stdout == ""
