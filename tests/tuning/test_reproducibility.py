"""One seed, one slot, a CPU: two searches are the same bit for bit, also where one of them was killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainable import metrics

KEY = "c0ffee" * 6 + "beef"
"""An API key of W&B's length, which must not be written anywhere."""
KILLED_AFTER = 4
"""Epochs."""
SAME = (metrics.EPOCH, metrics.TRAIN_LOSS, metrics.SELECT_LOSS, metrics.SELECT_TOP1, metrics.LEARNING_RATE, "config")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_space) -> Path:
    """Where both searches run."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "tiny.toml").write_text(tiny_space)
    return folder


def start(folder: Path, *arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "tuning.run", *map(str, arguments)]
    with (folder / "log.txt").open("a") as log:
        return subprocess.Popen(command, cwd=folder, env=os.environ | {"WANDB_API_KEY": KEY}, stdout=log, stderr=log)


def epochs_done(experiment: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in experiment.glob("*/result.json"))


@pytest.fixture(scope="module")
def both(folder, colour_folder) -> tuple[Path, Path]:
    """The folders of an undisturbed search, and of one that was killed and resumed."""
    arguments = ["--space", "tiny.toml", "--data", colour_folder, "--trials", 4, "--epochs", 4, "--seed", 9]
    arguments += ["--concurrent", 1, "--wandb"]
    assert start(folder, *arguments, "offline", "--name", "whole").wait(200) == 0, (folder / "log.txt").read_text()
    killed = start(folder, *arguments, "off", "--name", "killed")
    while epochs_done(folder / "runs/killed") < KILLED_AFTER:
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait(30)
    assert not (folder / "runs/killed/ensemble").exists()
    assert start(folder, "--resume", "killed", "--concurrent", 1).wait(200) == 0, (folder / "log.txt").read_text()
    return folder / "runs/whole", folder / "runs/killed"


def test_proposals_and_metrics_are_the_same(both):
    whole, killed = ({path.parent.name: records(path) for path in each.glob("*/result.json")} for each in both)
    assert len(whole) == 4
    assert killed == whole


def records(path: Path) -> list[dict]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: values[name] for name in SAME} for values in lines]


def test_the_ensemble_is_the_same(both):
    whole, killed = (each / "ensemble" for each in both)
    members = sorted(path.name for path in (whole / "members").iterdir())
    assert members == sorted(path.name for path in (killed / "members").iterdir())
    for name in members:
        assert (whole / "members" / name).read_bytes() == (killed / "members" / name).read_bytes()
    one, other = (json.loads((each / "ensemble.json").read_text()) for each in (whole, killed))
    for name in ("created", "experiment"):
        assert one.pop(name) != other.pop(name)
    for point in (*one["front"], *other["front"]):
        assert point.pop("latency_ms") > 0  # a measurement
    assert one == other


def test_the_experiment_names_all_that_is_needed_to_repeat_it(both):
    facts = json.loads((both[1] / "experiment.json").read_text())
    assert facts["plan"]["seed"] == 9
    assert facts["command"][0] == "run.py"
    assert {"dataset", "git_commit", "versions"} <= facts.keys()
    assert {"torch", "timm", "ray", "optuna"} <= facts["versions"].keys()
    (resumed,) = facts["resumed"]
    assert "--resume" in resumed["command"]


def test_all_files_are_as_they_were_written(both):
    for experiment in both:
        command = [sys.executable, "-m", "analysis.experiment", str(experiment), "--verify"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert "all is as it was written" in answer.stdout


def test_no_api_key_is_in_any_file_or_output(both, folder):
    assert any((both[0] / "wandb").iterdir())
    for path in [*both[0].rglob("*"), folder / "log.txt"]:
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path
