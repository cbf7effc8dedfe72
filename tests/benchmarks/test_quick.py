"""Each benchmark runs as a user starts it, and its JSON has all sides and a ratio. Speed is not tested."""

import json
import math
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def run(name: str, folder: Path, *options: str) -> dict[str, Any]:
    """The JSON of `python -m benchmarks.NAME --quick`, started in a folder of its own."""
    file = folder / "figures.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(file), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "÷" in done.stdout or "share" in done.stdout
    return json.loads(file.read_text())


def assert_ratio(ratio: dict[str, float]) -> None:
    """A median within its spread, positive and finite."""
    assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"] < math.inf


@pytest.mark.parametrize("policy", ["light", "full"])
def test_the_input_pipeline_is_compared_with_both_peers(input_pipeline, policy):
    figures = input_pipeline[policy]
    assert set(figures["images_per_second"]) == {"ours", "imagefolder", "timm"}
    assert set(figures["ratio"]) == {"imagefolder", "timm"}
    for ratio in figures["ratio"].values():
        assert_ratio(ratio)


@pytest.fixture(scope="module")
def input_pipeline(tmp_path_factory) -> dict[str, Any]:
    return run("input_pipeline", tmp_path_factory.mktemp("input_pipeline"), "--quick")


def test_an_epoch_is_compared_with_a_plain_loop(tmp_path):
    figures = run("epoch_time", tmp_path, "--quick", "--arch", "resnet18")
    assert {name: len(values) for name, values in figures["seconds"].items()} == {"ours": 1, "plain": 1}
    assert_ratio(figures["ratio"])


def test_trainings_made_faster_are_compared_with_plain_ones(tmp_path):
    figures = run("accuracy_kept", tmp_path, "--quick", "--arch", "resnet18")
    assert {name: len(curves) for name, curves in figures["curves"].items()} == {"plain": 2, "device": 2, "growing": 2}
    for curve in figures["curves"]["growing"]:
        assert curve["seconds"][0] > 0
        assert 0 <= curve["top1"][0] <= 1
    assert figures["time_ratio"]["plain"] <= 1


def test_a_search_is_compared_with_one_written_by_hand(tmp_path):
    figures = run("trial_overhead", tmp_path, "--quick")
    assert set(figures["wall_s"]) == set(figures["lost_s_per_trial"]) == {"stock", "ours"}
    for ratio in figures["ratio"].values():
        assert_ratio(ratio)


def test_the_share_of_slot_time_is_read_from_an_experiment(tmp_path):
    record = {"seconds_train": 2.5, "seconds_eval": 0.5, "time_this_iter_s": 3.0}
    experiment = tmp_path / "runs" / "two"
    trials = (("0001-a", 7, (1_000_010,)), ("0003-c", 7, (1_000_014,)), ("0002-b", 8, (1_000_012, 1_000_020)))
    for trial, process, ends in trials:
        (experiment / trial).mkdir(parents=True)
        lines = [json.dumps(record | {"pid": process, "timestamp": end}) for end in ends]
        (experiment / trial / "result.json").write_text("\n".join(lines) + "\n")
    began = f"{datetime.fromtimestamp(1_000_000):%Y-%m-%d_%H-%M-%S}"
    (experiment / f"experiment_state-{began}.json").write_text("{}")
    figures = run("trial_overhead", tmp_path, "--share", str(experiment), "--slots", "2")
    assert figures["since_start"] == pytest.approx(12 / (2 * 20))
    assert figures["since_first_step"] == pytest.approx(12 / (2 * 13))
    assert figures["between_trials_s"] == [pytest.approx(1)]
