"""How long the search thinks: the figures that come out, not how large they are."""

import json
import subprocess
import sys

import pytest

from benchmarks.decision_time import filled_engine, measure
from tuning.engine import Status


@pytest.mark.parametrize("scheduler", ["freeze-thaw", "asha"])
def test_an_engine_is_filled_with_trials_that_wait_at_all_rungs(scheduler):
    engine = filled_engine(200, scheduler)
    waiting = [trial.steps for trial in engine.trials.values() if trial.status is Status.PAUSED]
    assert len(engine.trials) == 200
    assert set(waiting) == set(engine.rungs[:-1])
    measured = measure(engine, 200, slots=3, epoch_seconds=10, decisions=12)
    assert len(measured.decision_ms) == 12
    assert all(milliseconds > 0 for milliseconds in measured.decision_ms)
    assert 0.5 < measured.busy <= 1
    assert engine.running == 3


def test_the_command_prints_and_writes_a_row_for_each_number_of_trials(tmp_path):
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.decision_time", "--trials", "30,60", "--slots", "2"]
    done = subprocess.run(
        [*command, "--decisions", "5", "--json", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "slots busy" in done.stdout
    assert [row["trials"] for row in json.loads(file.read_text())["rows"]] == ["30", "60"]
