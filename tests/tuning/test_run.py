"""The main command as a user meets it: real processes, real Ray, real images."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import psutil
import pytest
import timm
import torch
from safetensors.torch import save_file

from tuning.storage import create_experiment, read_records
from tuning.study import journal_storage


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_space) -> Path:
    """An empty working folder with a small space of tiny architectures."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "tiny.toml").write_text(tiny_space)
    return folder


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "tuning.run", *map(str, arguments)]


def run(folder: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def searched(folder, colour_folder) -> subprocess.CompletedProcess[str]:
    """One whole search of six trials, recorded by W&B offline."""
    return run(
        folder, "--space", "tiny.toml", "--data", colour_folder, "--trials", 6, "--epochs", 4, "--name", "whole",
        "--wandb", "offline", "--seed", 3,
    )  # fmt: skip


def test_a_search_ends_with_an_ensemble_and_says_what_next(searched, folder):
    assert searched.returncode == 0, searched.stderr
    out = searched.stdout
    assert re.search(r"Ray dashboard: http://127\.0\.0\.1:\d+", out)
    assert "rungs at 1, 2, 4 epochs" in out
    assert re.search(r"\d{4}-test_(vit|resnet) epoch 1/4: top-1", out)
    assert "holdout" in out
    assert "python -m analysis.predict" in out
    assert "python -m tuning.run --resume whole" in out
    assert (folder / "runs/whole/ensemble/ensemble.json").is_file()


def test_every_trial_leaves_parameters_records_and_predictions(searched, folder):
    trials = sorted((folder / "runs/whole").glob("0*"))
    assert [trial.name[:4] for trial in trials] == [f"{number:04}" for number in range(1, 7)]
    for trial in trials:
        config = json.loads((trial / "params.json").read_text())
        assert ("attn_drop_rate" in config) == (config["arch"] == "test_vit")
        epochs = [json.loads(line)["epoch"] for line in (trial / "result.json").read_text().splitlines()]
        assert epochs == list(range(1, len(epochs) + 1))
        checkpoints = list(trial.glob("checkpoint_*"))
        assert 1 <= len(checkpoints) <= 2
        for checkpoint in checkpoints:
            assert {"predictions.npz", "trial.json"} <= {path.name for path in checkpoint.iterdir()}
        assert not (trial / "failure.txt").exists()


def test_a_warm_start_knows_the_earlier_trials_and_an_epoch_budget_is_kept(searched, folder, colour_folder):
    warm = run(
        folder, "--space", "tiny.toml", "--data", colour_folder, "--epochs", 4, "--epoch-budget", 5, "--warm-start",
        "whole", "--name", "warm", "--seed", 3,
    )  # fmt: skip
    assert warm.returncode == 0, warm.stderr
    assert "warm start: 6 earlier trials" in warm.stdout
    assert "at most 5 epochs" in warm.stdout
    assert "warm start from whole" in warm.stdout
    assert 0 < len(read_records(folder / "runs/warm")) <= 5


def test_the_study_holds_every_trial_with_its_epochs(searched, folder):
    study = optuna.load_study(study_name="whole", storage=journal_storage(folder / "runs/whole"))
    assert len(study.trials) == 6
    assert {trial.state.name for trial in study.trials} == {"COMPLETE", "PRUNED"}
    for trial in study.trials:
        epochs = sorted(trial.intermediate_values)
        assert epochs == list(range(1, len(epochs) + 1))
        assert (trial.state.name == "COMPLETE") == (len(epochs) == 4)


def test_wandb_recorded_one_run_a_trial(searched, folder):
    assert len(list((folder / "runs/whole/wandb").glob("offline-run-*"))) == 6


def test_two_searches_started_at_once_on_the_same_new_images_both_end(folder, tmp_path, colour_folder):
    data = tmp_path / "copy"
    shutil.copytree(colour_folder, data)
    arguments = [
        "--space",
        "tiny.toml",
        "--data",
        data,
        "--trials",
        1,
        "--epochs",
        1,
        "--cache-dir",
        tmp_path / "cache",
    ]
    both = [subprocess.Popen(command(*arguments, "--name", f"twin{number}"), cwd=folder) for number in (1, 2)]
    assert [process.wait(timeout=200) for process in both] == [0, 0]
    assert len(list((tmp_path / "cache").glob("copy-*/manifest.json"))) == 1


def test_a_name_that_exists_is_refused_and_nothing_is_touched(searched, folder, colour_folder):
    before = (folder / "runs/whole/experiment.json").read_bytes()
    again = run(folder, "--space", "tiny.toml", "--data", colour_folder, "--name", "whole")
    assert again.returncode == 2
    assert "go on with it by --resume whole" in again.stderr
    assert (folder / "runs/whole/experiment.json").read_bytes() == before


def listening(pid: int) -> set[str]:
    """Addresses at which the process and those that it started can be reached."""
    process = psutil.Process(pid)
    sockets = [each for part in (process, *process.children(recursive=True)) for each in part.net_connections("inet")]
    addresses = {each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN}
    assert addresses
    return addresses


def test_ctrl_c_stops_cleanly_and_the_search_goes_on_without_repeating_an_epoch(folder, colour_folder):
    arguments = ["--space", "tiny.toml", "--data", colour_folder, "--trials", 20, "--epochs", 8, "--name", "broken-off"]
    usual = {name: value for name, value in os.environ.items() if name != "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"}
    process = subprocess.Popen(command(*arguments), cwd=folder, env=usual, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if "0006-" in line:
            break
    assert listening(process.pid) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    process.send_signal(signal.SIGINT)
    told = time.monotonic()
    rest, _ = process.communicate(timeout=60)
    assert time.monotonic() - told < 15
    assert process.returncode == 130
    assert "go on by: python -m tuning.run --resume broken-off" in rest
    experiment = folder / "runs/broken-off"
    before = {(r["trial_id"], r["epoch"]): r["select_loss"] for r in read_records(experiment)}

    resumed = run(folder, "--resume", "broken-off")
    assert resumed.returncode == 0, resumed.stderr
    after = read_records(experiment)
    assert before.items() <= {(r["trial_id"], r["epoch"]): r["select_loss"] for r in after}.items()
    assert len({r["trial_id"] for r in after}) == 20
    assert len(after) == len({(r["trial_id"], r["epoch"]) for r in after}), "an epoch has one record"


def test_a_finished_search_goes_on_with_more_trials_and_trains_nothing_again(searched, folder):
    experiment = folder / "runs/whole"
    before = {(r["trial_id"], r["epoch"]): r["timestamp"] for r in read_records(experiment)}
    more = run(folder, "--resume", "whole", "--trials", 9)
    assert more.returncode == 0, more.stderr
    after = [(r["trial_id"], r["epoch"]) for r in read_records(experiment)]
    assert len(after) == len(set(after))
    assert before.items() <= {(r["trial_id"], r["epoch"]): r["timestamp"] for r in read_records(experiment)}.items()
    assert len({trial for trial, _ in after}) == 9
    assert [path.name[:4] for path in sorted(experiment.glob("0*"))][-1] == "0009"


def test_a_resumed_search_keeps_its_plan(folder, searched):
    tried = run(folder, "--resume", "whole", "--try", "lr=1e-3")
    assert tried.returncode == 2
    assert "--try: a resumed search keeps its plan" in tried.stderr
    refused = run(folder, "--resume", "whole", "--epochs", "9")
    assert refused.returncode == 2
    assert "--epochs: a resumed search keeps its plan" in refused.stderr
    fewer = run(folder, "--resume", "whole", "--trials", "2")
    assert fewer.returncode == 2
    assert "a resumed search can have more" in fewer.stderr


def test_a_time_budget_is_a_deadline_for_everything_and_sets_the_length(folder, colour_folder):
    budget_s, started = 75, time.monotonic()
    timed = run(
        folder, "--space", "tiny.toml", "--data", colour_folder, "--time-budget", f"{budget_s}s", "--name", "timed"
    )  # fmt: skip
    took = time.monotonic() - started
    assert timed.returncode == 0, timed.stderr
    assert took <= 1.05 * budget_s + 30  # 10 where nothing else runs: here other tests do
    assert "00:00 left" not in timed.stdout
    assert (folder / "runs/timed/ensemble/ensemble.json").exists()
    assert (folder / "runs/timed/report/index.html").exists()
    plan = json.loads((folder / "runs/timed/experiment.json").read_text())["plan"]
    assert plan["first_in_full"]
    assert plan["reserve_s"] > 0
    records = read_records(folder / "runs/timed")
    reached = max(record["step"] for record in records if record["trial_name"].startswith("0001"))
    assert reached == plan["steps"] or took > budget_s - plan["reserve_s"]  # other tests may slow it down
    assert all(record["epoch"] <= plan["epochs"] for record in records)


def test_a_users_space_with_a_stem_for_a_vit_is_refused(folder, tmp_path, colour_folder):
    space = tmp_path / "stem.toml"
    space.write_text('name = "stem"\n[fixed]\narch = "vit_small"\nstem = "small"\n')
    wrong = run(folder, "--space", space, "--data", colour_folder)
    assert wrong.returncode == 2
    assert re.search(r"error: space stem: vit_small has no stem, only resnet18, .* have", wrong.stderr)


def test_a_search_whose_trials_all_fail_says_where_to_look(folder, tmp_path, colour_folder):
    space = tmp_path / "wrong.toml"
    space.write_text('name = "wrong"\n[fixed]\narch = "test_resnet"\nattn_drop_rate = 0.1\n')
    failed = run(folder, "--space", space, "--data", colour_folder, "--trials", 1, "--name", "failing")
    assert failed.returncode == 1
    assert failed.stdout.count("0001-test_resnet broke and is tried again") == 2
    assert "no trial finished an epoch, 1 failed" in failed.stderr
    assert re.search(r"see \S*/runs/failing/\*/failure\.txt", failed.stderr)
    assert "Traceback" not in failed.stderr
    (reason,) = (folder / "runs/failing").glob("0001-*/failure.txt")
    assert "test_resnet has no attn_drop_rate" in reason.read_text().splitlines()[0]


def test_trials_that_fail_alike_end_the_search_which_goes_on_once_that_is_mended(folder, tmp_path, colour_folder):
    weights = tmp_path / "weights.safetensors"
    save_file({"other": torch.zeros(1)}, weights)
    arguments = ["--space", "tiny.toml", "--set", "arch=test_resnet", "--trials", 5, "--epochs", 1, "--retries", 0]
    failed = run(folder, *arguments, "--data", colour_folder, "--pretrained", weights, "--name", "alike")
    assert failed.returncode == 1
    assert "error: three trials in a row failed alike: " in failed.stderr
    assert "mend that, then: python -m tuning.run --resume alike" in failed.stderr
    trials = len(list((folder / "runs/alike").glob("0*")))
    assert 3 <= trials < 5
    assert not list((folder / "runs/alike").glob("*/failure.txt"))
    save_file(timm.create_model("test_resnet").state_dict(), weights)
    resumed = run(folder, "--resume", "alike")
    assert resumed.returncode == 0, resumed.stderr
    assert sorted(record["trial_name"][:4] for record in read_records(folder / "runs/alike")) == [
        f"{number:04}" for number in range(1, 6)
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--space", "swim"], r"unknown.*swin"),
        (["--set", "lrr=1"], r"--set: .*lrr.*lr"),
        (["--set", "lr=1e-2:1e-4"], r"--set: .*lr"),
        (["--set", "arch=resnet"], r"--set: .*arch.*swin_tiny"),
        (["--set", "drop_rate=0:1.5"], r"drop_rate = 1\.5: .*less than 1"),
        (["--trials", "0"], r"'--trials': .*greater than or equal to 1"),
        (["--epochs", "0"], r"'--epochs': .*greater than or equal to 0"),
        (["--epocs", "3"], r"No such option: --epocs"),
        (["--time-budget", "soon"], r"--time-budget soon: give a duration"),
        (["--gpus-per-trial", "1"], r"--gpus-per-trial 1: there is no GPU here"),
        (["--gpus-per-trial", "1.5"], r"--gpus-per-trial 1\.5: above 1"),
        (["--concurrent", "999"], r"--concurrent 999: only"),
        (["--reduction-factor", "1"], r"--reduction-factor 1: must be above 1"),
        (["--first-rung", "9", "--epochs", "3"], r"--first-rung 9: is beyond --epochs 3, which are 3 steps"),
        (["--select-share", "0"], r"--select-share 0: some images have to decide .*between 0 and 1"),
        (["--select-share", "1"], r"--select-share 1: some images have to decide .*between 0 and 1"),
        (["--time-budget", "5s"], r"--time-budget 00:05: start, export and report take .*; give \d\d:\d\d or more"),
        (["--step-updates", "9999"], r"--step-updates 9999: a full training has \d+ updates"),
        (["--space", "vit", "--set", "stem=small"], r"--set: .*does not search 'stem'"),
        (["--first-rung", "2", "--scheduler", "none"], r"--first-rung: --scheduler none doesn't use it"),
        (["--reduction-factor", "3", "--scheduler", "median"], r"--reduction-factor: --scheduler median doesn't"),
        (["--epoch-budget", "3"], r"--epoch-budget 3: is less than one training of --epochs 4"),
        (["--epoch-budget", "9", "--trials", "10"], r"--epoch-budget 9: --trials 10 to the first rung \(1\) take 10"),
        (["--epoch-budget", "50", "--scheduler", "median"], r"--epoch-budget: --scheduler median doesn't use it"),
        (["--search", "freeze-thaw", "--sampler", "gp"], r"--search freeze-thaw: proposes and schedules by itself"),
        (["--search", "halving", "--scheduler", "freeze-thaw"], r"--search freeze-thaw: proposes and schedules"),
        (["--warm-start", "nothing"], r"--warm-start nothing: no experiment of that name"),
        (["--try", "lr=5"], r"--try lr=5: lr = 5 is outside the space; it takes"),
        (["--space", "all", "--scheduler", "pbt"], r"--scheduler pbt: .* needs one architecture; add --set arch=NAME"),
        (["--scheduler", "pbt", "--trials", "1"], r"--scheduler pbt: .* needs 2 --trials and 2 --epochs"),
        (["--data", "nowhere"], r"nowhere"),
        (["--name", "a/b"], r"--name 'a/b': use letters"),
        (["--resume", "nothing"], r"--resume nothing: no experiment"),
        (["--pretrained", "nothing.safetensors"], r"--pretrained nothing\.safetensors: no such file"),
        (["--wandb", "online"], r"wandb login"),
        (["--output", "/proc/none"], r"--output /proc/none: can't be written"),
    ],
)
def test_a_wrong_input_is_one_line_and_exit_code_2(folder, arguments, message, tmp_path):
    wrong = run(folder, *arguments, NETRC=str(tmp_path / "none"))
    assert wrong.returncode == 2
    (line,) = wrong.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line)


def test_an_unknown_architecture_in_a_users_space_lists_near_names(folder, tmp_path, colour_folder):
    space = tmp_path / "unknown.toml"
    space.write_text('name = "unknown"\n[fixed]\narch = "resnet19"\n')
    wrong = run(folder, "--space", space, "--data", colour_folder, "--name", "unknown")
    assert wrong.returncode == 2
    assert re.search(r"error: architecture 'resnet19' is unknown: did you mean .*resnet1", wrong.stderr)
    assert not (folder / "runs/unknown").exists()


@pytest.mark.parametrize("arguments", [["--help"], ["--space", "swin", "--dry-run"]])
def test_help_and_dry_run_take_less_than_two_seconds(folder, arguments):
    started = time.monotonic()
    answer = run(folder, *arguments)
    assert time.monotonic() - started < 2
    assert answer.returncode == 0
    assert "space" in answer.stdout


def test_help_says_what_is_meant_where_an_option_is_left_out(folder):
    text = run(folder, "--help", COLUMNS="300").stdout
    for default in ("[8 on the digits", "[starts Ray here]", "[space and time]", "[freeze-thaw, unless"):
        assert default in text


def test_a_dry_run_shows_the_plan_starts_nothing_and_imports_neither_torch_nor_ray(tmp_path):
    code = (
        "import sys; sys.argv = ['run', '--space', 'all', '--set', 'lr=1e-4:1e-3', '--dry-run']\n"
        "import tuning.run as run\n"
        "assert run.app(standalone_mode=False) == 0\n"
        "print('heavy:', sorted({'torch', 'ray', 'timm', 'optuna'} & set(sys.modules)))\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "heavy: []" in answer.stdout
    for fact in ("embedded digits", "attn_drop_rate", "8 trials", "rungs at", "trials at once", "very roughly"):
        assert fact in answer.stdout
    assert not list(tmp_path.iterdir())


def test_a_dry_run_says_what_comes_first_and_that_a_small_space_cuts_the_trials(folder, colour_folder):
    settings = [text for name in ("lr=2e-3", "attn_drop_rate=0.1") for text in ("--set", name)]
    arguments = ["--space", "tiny.toml", "--data", colour_folder, *settings, "--try", "arch=test_resnet", "--dry-run"]
    answer = run(folder, *arguments)
    assert answer.returncode == 0, answer.stderr
    assert "note the space has only 2 configurations; " in answer.stdout
    assert "first 2 configurations: arch test_resnet; arch test_vit, attn_drop_rate 0.1" in answer.stdout
    assert "plan 2 trials" in answer.stdout


def test_an_interrupted_search_that_ray_cannot_take_up_is_refused(folder, make_plan):
    plan = make_plan(scheduler="hyperband", name="in-brackets", output=folder / "runs")
    create_experiment(plan, {"dataset": "x"})
    refused = run(folder, "--resume", "in-brackets")
    assert refused.returncode == 2
    assert "Ray can't take up an interrupted --scheduler hyperband" in refused.stderr
