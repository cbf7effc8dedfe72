"""The warm-start benchmark: what is known of the earlier task, and the figures that come out."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.warm_start import earlier_trials, misleading


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """Forty configurations of one hyper-parameter over eight steps, the best in the middle."""
    rng = np.random.default_rng(0)
    hp = np.exp(rng.uniform(np.log(1e-4), np.log(1e-1), size=(40, 1)))
    losses = (0.2 + np.square(np.log(hp) - np.log(3e-3))) * (1 + 1 / np.arange(1, 9))
    file = tmp_path_factory.mktemp("tables") / "toy.npz"
    np.savez(file, hp=hp, hp_names=["lr"], valid_loss=losses.astype(np.float32))
    return file


def test_misleading_trials_have_the_same_curves_on_other_configurations(table):
    earlier = earlier_trials(table, seed=0, slots=2, budget=4)
    wrong = misleading(earlier, seed=0)
    assert len(earlier) > 5
    assert [trial.config for trial in wrong] == [trial.config for trial in earlier]
    assert [trial.curve for trial in wrong] != [trial.curve for trial in earlier]
    assert sorted(str(trial.curve) for trial in wrong) == sorted(str(trial.curve) for trial in earlier)
    assert not any(trial.compares for trial in earlier)


def test_the_command_compares_cold_warm_and_misled(table, tmp_path):
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.warm_start", "--earlier", str(table), "--new", str(table)]
    options = ["--seeds", "2", "--budget", "3", "--json", str(file)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    regret = json.loads(file.read_text())["regret"]
    assert set(regret) == {"cold", "warm", "misled"}
    assert np.shape(regret["warm"]) == (2, 4)
