"""Broken files and options, 200 of each: refused in one of our errors, or taken. The benchmark does more of them."""

import json
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from benchmarks import fuzz


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_no_input_crashes_a_reader(name, tmp_path):
    target, seen = fuzz.TARGETS[name], []

    @settings(
        max_examples=200,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(target.inputs())
    def read(content):
        seen.append(fuzz.outcome(target, content, tmp_path))

    read()
    assert len(seen) >= 200
    assert set(seen) == {"accepted", "refused"}


def test_another_error_counts_as_a_crash_and_is_shown_with_its_input():
    def check(content, folder):
        if content:
            raise KeyError(content)

    outcomes = fuzz.try_inputs(fuzz.Target(fuzz.TARGETS["words.txt"].inputs, check), 20)
    assert outcomes.counts["crash"] == sum(outcomes.counts.values()) - outcomes.counts["accepted"] > 0
    assert all(kind.startswith("KeyError: ") for kind in outcomes.crashes)


def test_the_command_prints_and_writes_a_row_for_each_reader(tmp_path):
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.fuzz", "--inputs", "20", "--target", "--set", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "clean errors" in done.stdout
    (row,) = json.loads(file.read_text())["rows"]
    assert (row["target"], row["inputs"], row["crashes"]) == ("--set", "20", "0")
