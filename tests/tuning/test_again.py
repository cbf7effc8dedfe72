"""Trials trained again in slots on a real Ray, with a logical GPU; and what a search makes of their folders."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from ray.exceptions import WorkerCrashedError
from rich.console import Console
from safetensors.torch import load_file

from trainable.again import REFIT, RETRAINED, read_again, refit_weights, retrained_weights
from trainable.again_progress import AgainProgress
from trainable.checkpoint import save_checkpoint
from trainable.config import TrialConfig
from trainable.data.dataset import open_dataset
from trainable.errors import UserError
from trainable.experiment_lock import hold_experiment
from trainable.files import MODEL, RECORD, read_record
from trainable.training import Training
from tuning.again import failure_reason
from tuning.past import mend, read_past
from tuning.plan import Limits, SearchPlan
from tuning.storage import create_experiment, experiment_id
from tuning.weights import WeightKeeper

GOOD, OTHER, DIVERGING = "0001-test_resnet", "0002-test_resnet", "0003-test_resnet"

IN_SLOTS = """
import json, sys
from pathlib import Path
import ray
from ray.exceptions import WorkerCrashedError
from rich.console import Console
import trainable.memory
from trainable.again import read_trainings
from tuning.again import free_slots, train_in_slots

ray.init("local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
trainable.memory.measure_peak_bytes = lambda configurations: (6 * 2**30, 16 * 2**30)  # the GPU that isn't here
todo = read_trainings(Path(sys.argv[1]), sys.argv[2:], refit=False)
slots = free_slots(todo, None, None, None)
failures = train_in_slots(todo, slots, Console(stderr=True, width=200))
print(json.dumps({"slots": slots._asdict(), "failures": {failure.again.name: failure.reason for failure in failures}}))
"""


@pytest.fixture(scope="module")
def searched(colour_folder: Path, tmp_path_factory, make_plan: Callable[..., SearchPlan]) -> Path:
    """An experiment of three trials of one epoch each, one of which diverges when it is trained again."""
    plan = make_plan(trial={"data": str(colour_folder)}, output=tmp_path_factory.mktemp("runs"), epochs=3)
    dataset = open_dataset(colour_folder, progress=False)
    create_experiment(plan, {"dataset": dataset.cache.fingerprint})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a slot
    for name, lr in ((GOOD, 1e-3), (OTHER, 2e-3), (DIVERGING, 1e-3)):
        config = TrialConfig(data=colour_folder, arch="test_resnet", epochs=3, batch_size=32, lr=lr)
        training = Training(config, dataset, dataset.splits.train, dataset.splits.select, torch.device("cpu"))
        training.run_step()
        checkpoint = plan.folder / name / "checkpoint_000000"
        checkpoint.mkdir(parents=True)
        save_checkpoint(training, checkpoint)
        (plan.folder / name / "params.json").write_text(config.model_dump_json())
    torch.set_num_threads(threads)
    path = plan.folder / DIVERGING / "checkpoint_000000" / RECORD
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"config": record["config"] | {"lr": 1e30, "clip_grad": None}}))
    return plan.folder


def test_slots_share_a_gpu_and_the_weights_are_those_of_the_search_also_where_another_trial_fails(searched, tmp_path):
    folder = shutil.copytree(searched, tmp_path / "test")
    command = [sys.executable, "-c", IN_SLOTS, str(folder), GOOD, DIVERGING]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["slots"]["concurrent"], told["slots"]["gpus_per_trial"]) == (2, 0.5)
    assert told["failures"].keys() == {DIVERGING}
    assert told["failures"][DIVERGING].startswith(f"{DIVERGING}: trained again, its loss diverged in epoch 1 of 1")
    weights = retrained_weights(folder / GOOD)
    assert weights is not None
    again, before = load_file(weights), load_file(folder / GOOD / "checkpoint_000000" / MODEL)
    assert [key for key in before if not torch.equal(again[key], before[key])] == []
    assert f"{GOOD} epoch 1/1: train loss" in done.stderr
    assert f"{DIVERGING} failed: " in done.stderr
    assert retrained_weights(folder / DIVERGING) is None


def test_ctrl_c_ends_the_command_cleanly_and_keeps_what_is_finished(searched, tmp_path):
    folder = shutil.copytree(searched, tmp_path / "test")
    path = folder / OTHER / "checkpoint_000000" / RECORD
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"config": record["config"] | {"epochs": 1000}}))
    command = [sys.executable, "-m", "tuning.again", str(folder), GOOD, OTHER, "--refit", "--concurrent", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if f"{OTHER} epoch 2/1000" in line:
                break
        with pytest.raises(UserError, match="a search runs in"):
            hold_experiment(folder)
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        lines += process.stdout.readlines()
    assert process.returncode == 130
    assert "stopped: 1 of 2 are finished and kept; the same command goes on" in lines[-1]
    assert [f"{GOOD} epoch {epoch}/3" in "".join(lines) for epoch in (1, 2, 3)] == [True] * 3
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    assert refit_weights(folder / GOOD) == folder / GOOD / REFIT / MODEL
    assert refit_weights(folder / OTHER) is None
    hold_experiment(folder).release()


def test_a_search_that_goes_on_takes_no_notice_of_these_folders(searched, tmp_path):
    folder = shutil.copytree(searched, tmp_path / "test")
    for name in (RETRAINED, REFIT):
        shutil.copytree(folder / GOOD / "checkpoint_000000", folder / GOOD / name)
        shutil.copytree(folder / GOOD / "checkpoint_000000", folder / GOOD / name / "epoch_000001")
    experiment = experiment_id(folder)
    key = f"{experiment}-0001"
    before, after = ({trial.key: trial for trial in read_past(each, experiment)} for each in (searched, folder))
    assert before.keys() == after.keys()
    assert [trial.saved for trial in before.values()] == [trial.saved for trial in after.values()]
    assert list(after[key].records) == [1]
    assert mend(folder / GOOD, experiment) == []
    sizes = [WeightKeeper(each, Limits(1, 10**9, 0), print).sizes for each in (searched, folder)]
    assert sizes[0] == sizes[1]
    (folder / GOOD / RETRAINED / MODEL).write_text("broken")
    assert mend(folder / GOOD, experiment) == []
    assert read_record(folder / GOOD / RETRAINED) is not None


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("none", GOOD), 2, "error: none: no search is there (no experiment.json); give its folder: runs/NAME\n"),
        (("test", "0009-vit"), 2, "error: test: has no trial '0009-vit'; it has 0001-test_resnet, "),
        (("test", GOOD, "--gpus-per-trial", "1.5"), 2, "error: --gpus-per-trial 1.5: above 1 it must be a whole"),
    ],
)
def test_a_mistake_is_told_in_a_line_before_ray_starts(searched, arguments, code, error):
    command = [sys.executable, "-m", "tuning.again", *arguments]
    done = subprocess.run(command, cwd=searched.parent, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(error)
    assert done.stderr.count("\n") == 1


def test_the_reason_of_a_failure_is_one_line_that_says_what_helps():
    assert failure_reason(UserError("lower the rate")) == "lower the rate"
    assert failure_reason(OSError(28, "No space left on device")) == (
        "the disk is full; make room, then the same command goes on"
    )
    assert failure_reason(ValueError("wrong\nand more")) == "ValueError: wrong"
    assert failure_reason(WorkerCrashedError()).startswith("its process was killed, perhaps since memory ran out; ")


def test_on_a_terminal_bars_take_the_place_of_lines(searched, capsys):
    todo = [read_again(searched / name, refit=True) for name in (GOOD, OTHER)]
    console = Console(force_terminal=True, width=80)
    with AgainProgress(todo, console) as progress:
        progress.epoch(todo[0], {"epoch": 2, "train_loss": 0.1, "images_per_second": 10.0})
        progress.bars.refresh()
        progress.epoch(todo[1], {"epoch": 1, "train_loss": 0.1, "images_per_second": 10.0})
        progress.end(todo[0])
        progress.end(todo[1], "its \x1b[31mdisk")
        progress.bars.refresh()
    out = capsys.readouterr().out
    assert "all epochs" in out
    assert "2/6" in out
    assert "6/6" in out
    assert f"{OTHER} failed: its \\x1b[31mdisk" in out
    assert "train loss" not in out
