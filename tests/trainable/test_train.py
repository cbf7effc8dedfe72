import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
import torch

from trainable import metrics, time_split, train
from trainable import training as training_module
from trainable.config import DEFAULT_RATES
from trainable.console import run_app
from trainable.errors import UsageError
from trainable.predictions import COLUMNS
from trainable.training import Training

REPOSITORY = Path(__file__).resolve().parents[2]
EPOCHS = 12
TIMES = {
    metrics.IMAGES_PER_SECOND,
    metrics.PEAK_MEMORY,
    *time_split.PARTS,
    metrics.SECONDS_TRAIN,
    metrics.SECONDS_EVAL,
    metrics.SECONDS_CHECKPOINT,
}
KEYS = {value for name, value in vars(metrics).items() if name.isupper() and name != "SCORE_MODE"}


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    """Start `python -m trainable.train` in `folder`, as a user does."""
    return subprocess.Popen(
        [sys.executable, "-m", "trainable.train", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a process at its end."""
    out, err = process.communicate(timeout=200)
    return process.returncode, out, err


def wait_for(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    """Wait until `condition` holds, while the process lives."""
    deadline = time.monotonic() + 200
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def only_run(folder: Path) -> Path:
    (run,) = (folder / "checkpoints").iterdir()
    return run


def epochs_done(folder: Path) -> int:
    """Epochs in the metrics.csv of the run in `folder`, which is written after the epoch's checkpoint."""
    files = list(folder.glob("checkpoints/*/metrics.csv"))
    return len(files[0].read_text().splitlines()) - 1 if files else 0


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def without_times(records: list[dict]) -> list[dict]:
    return [{key: value for key, value in record.items() if key not in TIMES} for record in records]


def assert_same(left: object, right: object) -> None:
    """Equal in every tensor and value, however nested."""
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    else:
        assert left == right


@pytest.fixture(scope="module")
def options(colour_folder: Path) -> list[str]:
    """A run that uses everything random there is, spelt with underscores here and with dashes there."""
    return (
        f"--data {colour_folder} --arch test_vit --epochs {EPOCHS} --batch_size 32 --lr_base 1e-3 --mix-prob 0.9 "
        "--ema-decay 0.9 --seed 3 --precision fp32 --threads 1"
    ).split()


@pytest.fixture(scope="module")
def undisturbed(options: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a finished run, and what it printed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    code, out, err = finish(start(folder, *options))
    assert (code, err) == (0, "")
    return only_run(folder), out


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path):
    """Runs the command in this process, which spares it the imports; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()

    def run(*arguments: object) -> tuple[object, str, str]:
        monkeypatch.setattr("sys.argv", ["train", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            run_app(train.app)
        out, err = capsys.readouterr()
        return left.value.code, out, err

    yield run
    torch.set_num_threads(threads)


def test_a_run_leaves_its_files_in_a_folder_of_its_date(undisturbed: tuple[Path, str]) -> None:
    run, out = undisturbed
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d:\d\d", run.name)
    assert run.parent.name == "checkpoints"
    assert {file.name for file in run.iterdir()} == {train.LATEST, train.BEST, train.METRICS, train.TEST_PREDICTIONS}
    assert f"best val top-1 {best_top1(run):.2%}" in out
    assert "120 training images at 32 px; best epoch chosen on 30 images of val" in out


def best_top1(run: Path) -> float:
    return max(float(record[metrics.SELECT_TOP1]) for record in read_csv(run / train.METRICS))


def test_a_runs_metrics_have_a_line_an_epoch_and_every_key(undisturbed: tuple[Path, str]) -> None:
    records = read_csv(undisturbed[0] / train.METRICS)
    assert [int(record[metrics.EPOCH]) for record in records] == list(range(1, EPOCHS + 1))
    assert set(records[0]) == KEYS


def test_a_runs_checkpoints_hold_the_last_and_the_best_epoch(undisturbed: tuple[Path, str]) -> None:
    run, _ = undisturbed
    records = read_csv(run / train.METRICS)
    latest, best = (torch.load(run / name, weights_only=True) for name in (train.LATEST, train.BEST))
    assert latest["epoch"] == EPOCHS
    assert best["epoch"] == int(records[-1][metrics.BEST_EPOCH])
    assert best["top1"] == best_top1(run)
    for content in (latest, best):
        record = records[content["epoch"] - 1]
        assert content["top1"] == float(record[metrics.SELECT_TOP1])
        assert content["top5"] == float(record[metrics.SELECT_TOP5])
        assert content["config"]["lr"] == 1e-3
        assert content["config"]["batch_size"] == 32


def test_rates_that_are_not_given_get_their_defaults(undisturbed: tuple[Path, str]) -> None:
    config = torch.load(undisturbed[0] / train.LATEST, weights_only=True)["config"]
    assert {name: config[name] for name in DEFAULT_RATES} == DEFAULT_RATES


def test_a_runs_predictions_name_each_test_image_and_mostly_its_colour(undisturbed: tuple[Path, str]) -> None:
    run, _ = undisturbed
    rows = read_csv(run / train.TEST_PREDICTIONS)
    assert tuple(rows[0]) == COLUMNS
    assert [row["file"] for row in rows] == [f"test{number}.png" for number in range(4)]
    truth = ["blue", "green", "red", "red"]
    assert sum(row["class_id"] == colour for row, colour in zip(rows, truth, strict=True)) >= 3


def test_a_run_that_was_killed_and_one_that_was_interrupted_go_on_as_if_undisturbed(
    undisturbed: tuple[Path, str], options: list[str], run_here, tmp_path: Path
) -> None:
    killed = start(tmp_path, *[option.replace("--lr_base", "--lr-base") for option in options])
    wait_for(lambda: epochs_done(tmp_path) >= 1, killed)
    killed.kill()
    finish(killed)
    run = only_run(tmp_path)
    first_part = epochs_done(tmp_path)
    assert 1 <= first_part < EPOCHS

    interrupted = start(tmp_path, "--resume", str(run), "--threads", "1")
    wait_for(lambda: epochs_done(tmp_path) > first_part, interrupted)
    interrupted.send_signal(signal.SIGINT)
    code, out, err = finish(interrupted)
    assert code == 130
    assert f"continue by: python -m trainable.train --resume {run}" in out
    assert "Traceback" not in err
    assert epochs_done(tmp_path) < EPOCHS

    code, out, err = run_here("--resume", run / train.LATEST, "--threads", 1)
    assert (code, err) == (0, "")
    assert re.search(rf"latest\.pth\.tar: \d+ of {EPOCHS} epochs are done", out)
    expected = undisturbed[0]
    for name in (train.LATEST, train.BEST):
        left, right = (torch.load(folder / name, weights_only=True) for folder in (run, expected))
        for content in (left, right):
            content.get("training", {})["history"] = None  # has times; metrics.csv below says the same without
        assert_same(left, right)
    assert without_times(read_csv(run / train.METRICS)) == without_times(read_csv(expected / train.METRICS))
    assert (run / train.TEST_PREDICTIONS).read_text() == (expected / train.TEST_PREDICTIONS).read_text()


def test_a_searched_configuration_is_trained_again_from_its_params_json(
    undisturbed: tuple[Path, str], run_here, tmp_path: Path
) -> None:
    expected = torch.load(undisturbed[0] / train.LATEST, weights_only=True)
    (tmp_path / "params.json").write_text(json.dumps(expected["config"]))
    code, _, err = run_here("--config", "params.json", "--threads", 1)
    assert (code, err) == (0, "")
    content = torch.load(only_run(tmp_path) / train.LATEST, weights_only=True)
    assert_same(content["state_dict"], expected["state_dict"])
    assert content["config"] == expected["config"]


def test_options_beside_a_params_json_win(colour_folder: Path, run_here, tmp_path: Path) -> None:
    params = {"data": "/nowhere", "arch": "test_resnet", "epochs": 50, "lr": 0.5, "batch_size": 64, "drop_rate": 0.3}
    (tmp_path / "params.json").write_text(json.dumps(params))
    code, _, err = run_here(
        "--config", "params.json", "--data", colour_folder, "--epochs", 1, "--lr_base", "1e-3", "--output", "here"
    )
    assert (code, err) == (0, "")
    (run,) = (tmp_path / "here").iterdir()
    config = torch.load(run / train.LATEST, weights_only=True)["config"]
    assert (config["data"], config["epochs"], config["lr"]) == (str(colour_folder), 1, 1e-3)
    assert (config["arch"], config["batch_size"], config["drop_rate"]) == ("test_resnet", 64, 0.3)
    assert config["drop_path_rate"] is None  # a searched configuration is complete: nothing is filled in


def test_a_data_set_without_test_images_has_no_predictions_and_says_so(
    colour_folder: Path, run_here, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    for part in ("train", "val"):
        (tmp_path / "data" / part).symlink_to(colour_folder / part)
    code, out, _ = run_here("--data", "data", "--arch", "test_resnet", "--epochs", 1)
    assert code == 0
    assert "no test images, so there is no best_test_preds.csv" in out
    assert not (only_run(tmp_path) / train.TEST_PREDICTIONS).exists()


def test_a_run_that_diverges_at_once_is_an_error(colour_folder: Path, run_here, tmp_path: Path) -> None:
    code, _, err = run_here(
        "--data", colour_folder, "--arch", "test_vit", "--epochs", 3, "--lr-base", "1e30", "--warmup-epochs", 0
    )
    assert code == 1
    assert re.fullmatch(r"error: the loss diverged in epoch 1: lower --lr-base; the record is in \S+\n", err)
    assert [record[metrics.DIVERGED] for record in read_csv(only_run(tmp_path) / train.METRICS)] == ["True"]


def test_a_run_that_diverges_later_says_so_and_keeps_its_best_epoch(
    colour_folder: Path, run_here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_step = Training.run_step

    def break_before_the_second_epoch(training: Training) -> dict:
        if training.epoch == 1:
            next(training.machinery.model.parameters()).data.fill_(float("nan"))
        return run_step(training)

    monkeypatch.setattr(Training, "run_step", break_before_the_second_epoch)
    code, out, _ = run_here("--data", colour_folder, "--arch", "test_vit", "--epochs", 5)
    assert code == 0
    assert "the loss diverged in epoch 2" in out
    assert "at epoch 1, in" in out
    assert len(read_csv(only_run(tmp_path) / train.TEST_PREDICTIONS)) == 4


def test_a_run_interrupted_before_its_first_checkpoint_does_not_offer_to_go_on(
    colour_folder: Path, run_here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: Training) -> dict:
        raise KeyboardInterrupt

    monkeypatch.setattr(Training, "run_step", interrupt)
    code, out, _ = run_here("--data", colour_folder, "--arch", "test_resnet")
    assert code == 130
    assert "nothing is saved yet" in out
    assert "--resume" not in out


def test_a_finished_run_can_be_resumed_and_has_nothing_left_to_do(undisturbed: tuple[Path, str], run_here) -> None:
    run, _ = undisturbed
    before = (run / train.LATEST).read_bytes(), (run / train.TEST_PREDICTIONS).read_text()
    code, out, _ = run_here("--resume", run)
    assert code == 0
    assert f"{EPOCHS} of {EPOCHS} epochs are done" in out
    assert ((run / train.LATEST).read_bytes(), (run / train.TEST_PREDICTIONS).read_text()) == before


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch, limit_memory):
    """From now on models take only so many images at once."""

    def limit(images: int) -> None:
        def build(*arguments: object) -> torch.nn.Module:
            model = build_model(*arguments)
            limit_memory(model, images)
            return model

        build_model = training_module.build_model
        monkeypatch.setattr(training_module, "build_model", build)

    return limit


def test_a_run_that_runs_out_of_memory_goes_on_and_says_so_on_a_resume_too(
    colour_folder: Path, run_here, little_memory, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    little_memory(10)
    note = "memory ran out: test_resnet trains batches of 32 in micro-batches of 8, and its batch norm"
    code, _, _ = run_here("--data", colour_folder, "--arch", "test_resnet", "--epochs", 1, "--batch-size", 32)
    assert code == 0
    (told,) = caplog.messages
    assert told.startswith(note)
    run = only_run(tmp_path)
    assert [record[metrics.MICRO_BATCH] for record in read_csv(run / train.METRICS)] == ["8"]
    _, out, _ = run_here("--resume", run)
    assert note in out


def test_a_run_that_memory_does_not_suffice_for_ends_in_one_line(colour_folder: Path, run_here, little_memory) -> None:
    little_memory(0)
    code, _, err = run_here("--data", colour_folder, "--arch", "test_resnet", "--batch-size", 32)
    assert code == 1
    assert re.fullmatch(r"error: test_resnet: out of memory with 1 of a batch's 32 images at a time, .*\n", err)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--arch", "resnet19"], 2, r"architecture 'resnet19' is unknown: did you mean .*resnet18"),
        (["--arch", "test_resnet", "--attn-drop-rate", "0.1"], 1, "test_resnet has no attn_drop_rate: leave it out"),
        (["--arch", "vit_small", "--patch-size", "5"], 1, "patch_size 5 doesn't divide the image size 32"),
        (["--data", "missing"], 2, r"/missing: no such folder; give the folder that holds the images"),
        (["--epochs", "0"], 2, "options: epochs = 0.0: Input should be greater than 0"),
        (["--lr-base", "fast"], 2, "Invalid value for '--lr-base'"),
        (["--augment", "strong"], 2, "Invalid value for '--augment'"),
        (["--threads", "0"], 2, "Invalid value for '--threads'"),
        (["--learning-rate", "1"], 2, "No such option: --learning-rate"),
        (["--device", "gpu"], 2, "--device gpu: unknown"),
        (["--arch", "test_resnet", "--output", "file"], 2, "--output file: .*give (a|another) folder"),
        (["--arch", "test_resnet", "--pretrained", "no.pth"], 1, r"--pretrained \S+/no\.pth: no such file"),
        (["--config", "missing.json"], 1, r"missing\.json: No such file or directory"),
        (["--config", "file"], 1, "file: not JSON"),
        (["--resume", "missing"], 1, "missing: no such file; give the latest.pth.tar of a run, or its folder"),
        (["--resume", "file"], 1, "file: not a readable checkpoint of a single run"),
        (["--resume", "file", "--epochs", "9"], 2, "--resume goes on with the run's own configuration"),
        (["--resume", "file", "--config", "file"], 2, "--resume goes on with the run's own configuration"),
    ],
)
def test_a_mistake_is_one_line_on_stderr(
    colour_folder: Path, run_here, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "file").write_text("here")
    if not {"--data", "--config", "--resume"} & set(arguments):
        arguments = [*arguments, "--data", str(colour_folder)]
    left, _, err = run_here(*arguments)
    assert left == code
    assert re.match(rf"error: .*{message}", err)
    assert err.count("\n") == 1
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--epochs", "0"], 2, "options: epochs = 0.0: Input should be greater than 0"),
        (["--arch"], 2, "Option '--arch' requires an argument."),
        (["--config", "no.json"], 1, "no.json: No such file or directory; give the params.json of a trial"),
    ],
)
def test_a_mistake_is_one_line_in_a_process_of_its_own_too(
    tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    """Those mistakes that are found before torch is imported, for the tests' time."""
    left, _, err = finish(start(tmp_path, *arguments))
    assert (left, err) == (code, f"error: {message}\n")


def test_help_does_not_wait_for_torch(tmp_path: Path) -> None:
    started = time.monotonic()
    code, out, err = finish(start(tmp_path, "--help"))
    assert (code, err) == (0, "")
    for option in ("--arch", "--lr-base", "--attn-drop-rate", "--resume", "--config"):
        assert option in out
    assert "digits" in out
    assert "Undefined" not in out
    assert time.monotonic() - started < 5  # 0.7 s on an idle machine; importing torch and timm takes 9 s on a busy one


def test_importing_the_command_imports_no_heavy_library() -> None:
    heavy = "{'torch', 'timm', 'ray', 'albumentations', 'sklearn', 'pandas'}"
    code = f"import sys, trainable.train; print(sorted({heavy} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_runs_of_one_minute_get_folders_of_their_own(tmp_path: Path) -> None:
    now = datetime(2026, 3, 4, 5, 6, 59)
    folders = [train.new_folder(tmp_path / "runs", now) for _ in range(3)]
    assert [folder.name for folder in folders] == ["2026-03-04_05:06", "2026-03-04_05:06_2", "2026-03-04_05:06_3"]
    assert all(folder.is_dir() for folder in folders)


def test_an_output_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--output .*/file: .*give another folder"):
        train.new_folder(tmp_path / "file", datetime(2026, 3, 4))
