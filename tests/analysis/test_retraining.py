"""Trials trained again for an export: on Ray by the command of the search's part, without it in this process."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from analysis import retraining
from analysis._checkpoints import Checkpoint
from analysis.experiment import load_experiment
from analysis.retraining import has_ray, refit_seconds, train_again
from analysis.verification import verify
from trainable.again import retrained_weights
from trainable.errors import UsageError, UserError
from trainable.files import BEST, MODEL, PREDICTIONS, RECORD, STATE, read_record
from trainable.training import Training

FIRST, SECOND = "0001-test_resnet", "0002-test_convnext"


@pytest.fixture
def pruned(experiment: Path, tmp_path: Path) -> Path:
    """The tiny experiment, to write to, without any weights."""
    folder = shutil.copytree(experiment, tmp_path / "tiny")
    for name in (MODEL, BEST, STATE):
        for path in folder.glob(f"*/checkpoint_*/{name}"):
            path.unlink()
    return folder


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that only predicts."""
    monkeypatch.setattr(retraining, "has_ray", lambda: False)


def break_record(trial: Path) -> None:
    """Let a trial be one whose loss diverges from the start."""
    path = sorted(trial.glob(f"checkpoint_*/{RECORD}"))[-1]
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"config": record["config"] | {"lr": 1e30, "clip_grad": None}}))


def assert_trained_as_before(folder: Path, training: Training) -> None:
    weights = load_file(folder / MODEL)
    assert [name for name in weights if not torch.equal(weights[name], training.best_weights[name])] == []
    with np.load(folder / PREDICTIONS) as predictions:
        np.testing.assert_array_equal(predictions["logits"], training.best_logits)


@pytest.mark.usefixtures("without_ray")
def test_without_ray_trials_are_trained_here_one_after_the_other(
    pruned: Path, trainings: dict[str, Training], capsys: pytest.CaptureFixture[str]
) -> None:
    folders = train_again(pruned, [SECOND, FIRST], refit=False)
    assert folders == [pruned / name / "retrained" for name in (SECOND, FIRST)]
    for folder in folders:
        assert_trained_as_before(folder, trainings[folder.parent.name])
        record = read_record(folder)
        assert record is not None
        assert Checkpoint(folder, record).best_weights == retrained_weights(folder.parent)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if " epoch 1/" in line] == [SECOND, FIRST]
    assert [line.split()[0] for line in lines[-2:]] == [SECOND, FIRST]
    assert train_again(pruned, [SECOND, FIRST], refit=False) == folders
    assert capsys.readouterr().out == ""


def test_with_ray_the_searchs_part_trains_them_in_a_process_of_its_own(
    pruned: Path, trainings: dict[str, Training], capfd: pytest.CaptureFixture[str]
) -> None:
    assert has_ray()
    break_record(pruned / SECOND)
    with pytest.raises(UserError, match=rf"^1 of 2 trainings failed: {SECOND}: trained again, its loss diverged"):
        train_again(pruned, [FIRST, SECOND], refit=False)
    assert "trainings at once" in capfd.readouterr().out
    assert train_again(pruned, [FIRST], refit=False) == [pruned / FIRST / "retrained"]
    assert_trained_as_before(pruned / FIRST / "retrained", trainings[FIRST])


@pytest.mark.usefixtures("without_ray")
def test_one_that_fails_is_named_and_the_others_are_kept(pruned: Path) -> None:
    break_record(pruned / FIRST)
    with pytest.raises(UserError, match=rf"^1 of 2 trainings failed: {FIRST}: trained again, its loss diverged"):
        train_again(pruned, [FIRST, SECOND], refit=True)
    assert train_again(pruned, [SECOND], refit=True) == [pruned / SECOND / "refit"]


@pytest.mark.usefixtures("without_ray")
def test_the_experiments_table_and_its_verification_take_no_notice_of_these_folders(pruned: Path) -> None:
    before = load_experiment(pruned), verify(pruned)
    train_again(pruned, [FIRST], refit=False)
    train_again(pruned, [FIRST], refit=True)
    shutil.copytree(pruned / FIRST / "refit", pruned / FIRST / "refit" / "epoch_000001")
    after = load_experiment(pruned), verify(pruned)
    assert after[0].equals(before[0])
    assert after[1] == before[1]


def test_a_refit_takes_as_long_as_the_trial_would_have_in_full(pruned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = pd.DataFrame({"trial": [SECOND, FIRST], "seconds": [30.0, 8.0], "epochs": [1.5, 2]})
    monkeypatch.setattr(retraining, "has_ray", lambda: False)
    assert refit_seconds(pruned, [FIRST], trials) == pytest.approx(8)
    assert refit_seconds(pruned, [FIRST, SECOND], trials) == pytest.approx(8 + 40)
    monkeypatch.setattr(retraining, "has_ray", lambda: True)
    assert refit_seconds(pruned, [FIRST], trials) == pytest.approx(8 + retraining.RAY_S)


@pytest.mark.usefixtures("without_ray")
def test_what_is_refit_already_takes_no_time(pruned: Path) -> None:
    train_again(pruned, [FIRST], refit=True)
    trials = load_experiment(pruned)
    assert refit_seconds(pruned, [FIRST], trials) == 0
    assert refit_seconds(pruned, [FIRST, SECOND], trials) > 0


@pytest.mark.usefixtures("without_ray")
def test_nothing_is_trained_beside_a_running_search(pruned: Path) -> None:
    with (
        FileLock(pruned / ".lock"),
        pytest.raises(UserError, match=r"a search runs in .*wait until it has ended"),
    ):
        train_again(pruned, [FIRST], refit=False)


def test_what_can_not_be_trained_again_is_told_before_a_process_starts(
    pruned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(UsageError, match="no search is there"):
        train_again(tmp_path / "none", [FIRST], refit=False)
    with pytest.raises(UsageError, match=f"has no trial '0003-vit'; it has {FIRST}, {SECOND}"):
        train_again(pruned, [FIRST, "0003-vit"], refit=True)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print('noise', file=sys.stderr); sys.exit('error: the disk is full')", "^the disk is full$"),
        ("sys.exit(3)", "^tuning.again ended with exit code 3$"),
        ("", f"tiny: {FIRST} can't be trained again"),
    ],
)
def test_a_process_that_fails_is_told_by_its_last_line(
    pruned: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: str, reason: str
) -> None:
    start = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda _, **options: start([sys.executable, "-c", f"import sys; {code}"], **options)
    )
    with pytest.raises(UserError, match=reason):
        train_again(pruned, [FIRST], refit=False)
    assert capsys.readouterr().err == ("noise\n" if "noise" in code else "")
