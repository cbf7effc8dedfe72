"""Reading an experiment's folder: what trials reached, whatever a crash left of their files."""

import io
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from analysis import _checkpoints, tables
from analysis.experiment import load_experiment, main
from trainable import files, metrics
from trainable.errors import UsageError, UserError
from trainable.training import Training

Record = Callable[..., dict[str, Any]]
WriteTrial = Callable[..., Path]


def test_a_row_says_what_the_training_said(experiment: Path, trainings: dict[str, Training]) -> None:
    trials = load_experiment(experiment).set_index("trial")
    assert set(trials.index) == set(trainings)
    for name, training in trainings.items():
        row, best = trials.loc[name], training.history[training.best_epoch - 1]
        assert (row["state"], row["epochs"], row["best_epoch"]) == ("finished", 2, training.best_epoch)
        assert row["best_select_top1"] == best["select_top1"] == training.best[0]
        assert (row["select_loss"], row["select_top5"]) == (best["select_loss"], best["select_top5"])
        assert row["has_weights"]
        assert row["checkpoint"] == str(experiment / name / "checkpoint_000001")
        assert row["seconds"] == pytest.approx(
            sum(record["seconds_train"] + record["seconds_eval"] for record in training.history)
        )


def test_configuration_values_have_a_column_where_they_vary(experiment: Path) -> None:
    trials = load_experiment(experiment)
    assert list(trials.columns[list(trials.columns).index("checkpoint") + 1 :]) == ["arch", "lr"]


def test_a_varying_length_does_not_take_the_place_of_the_epochs_done(write_trial: WriteTrial, record: Record) -> None:
    write_trial("a", [record(1)], epochs=3)
    folder = write_trial("b", [record(1)], epochs=5).parent
    trials = load_experiment(folder)
    assert list(trials["epochs"]) == [1, 1]
    assert list(trials["full_epochs"]) == [3, 5]


def test_trials_are_sorted_by_top1_then_loss_then_name(write_trial: WriteTrial, record: Record) -> None:
    write_trial("not_scored", [])
    write_trial("low", [record(1, 0.4)])
    write_trial("late", [record(1, 0.6, select_loss=0.9)])
    write_trial("early", [record(1, 0.6, select_loss=0.9)])
    folder = write_trial("sure", [record(1, 0.6, select_loss=0.2)]).parent
    assert list(load_experiment(folder)["trial"]) == ["sure", "early", "late", "low", "not_scored"]


def test_the_best_epoch_is_the_first_with_the_highest_top1_and_lowest_loss(
    write_trial: WriteTrial, record: Record
) -> None:
    records = [record(1, 0.7, select_loss=0.9), record(2, 0.7, select_loss=0.8), record(3, 0.7, select_loss=0.8)]
    row = load_experiment(write_trial("a", records).parent).iloc[0]
    assert (row["best_epoch"], row["select_loss"]) == (2, 0.8)


@pytest.mark.parametrize(
    ("last", "state"),
    [
        ({"epoch": 4, "done": True}, "finished"),
        ({"epoch": 4, "done": False}, "finished"),
        ({"epoch": 2, "done": True}, "stopped"),
        ({"epoch": 2, "done": False}, "unfinished"),
        ({"epoch": 2, "done": True, "diverged": True, "select_loss": math.inf}, "diverged"),
    ],
)
def test_a_trial_has_the_state_that_its_last_record_tells(
    write_trial: WriteTrial, record: Record, last: dict[str, Any], state: str
) -> None:
    folder = write_trial("a", [record(1), record(**last)]).parent
    assert load_experiment(folder).iloc[0]["state"] == state


@pytest.mark.parametrize(
    ("last", "state"),
    [
        ({"epoch": 2.5, "step": 10, "done": True}, "finished"),
        ({"epoch": 2.25, "step": 9, "done": True}, "stopped"),
        ({"epoch": 2.4, "step": 9.6, "done": False}, "unfinished"),
    ],
)
def test_a_trial_of_steps_is_finished_at_the_last_one(
    write_trial: WriteTrial, record: Record, last: dict[str, Any], state: str
) -> None:
    records = [record(0.25, step=1), record(**last)]
    row = load_experiment(write_trial("a", records, epochs=2.5, steps=10).parent).iloc[0]
    assert (row["state"], row["epochs"]) == (state, last["epoch"])


def test_fractions_of_epochs_are_shown_short_and_whole_ones_as_whole(
    write_trial: WriteTrial, record: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trial("a", [record(1 / 3, 0.9, step=1)])
    folder = write_trial("b", [record(4, 0.5, step=12)]).parent
    main(folder, csv=None, top=None)
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split()[2] == "0.333"
    assert second.split()[2] == "4"


def test_a_trial_has_failed_once_the_search_has_given_it_up(write_trial: WriteTrial, record: Record) -> None:
    trial = write_trial("a", [record(1)])
    (trial / "error.txt").write_text("Ray's traceback, which a trial that was tried again has too")
    assert load_experiment(trial.parent).iloc[0]["state"] == "unfinished"
    (trial / "failure.txt").write_text("ValueError")
    assert load_experiment(trial.parent).iloc[0]["state"] == "failed"


def test_an_epoch_that_was_run_again_counts_as_the_last_time(write_trial: WriteTrial, record: Record) -> None:
    records = [record(1, 0.3), record(2, 0.9), record(2, 0.5), record(3, 0.4)]
    row = load_experiment(write_trial("a", records).parent).iloc[0]
    assert (row["epochs"], row["best_epoch"], row["best_select_top1"], row["seconds"]) == (3, 2, 0.5, 9.0)


def test_a_half_written_last_line_is_ignored(write_trial: WriteTrial, record: Record) -> None:
    trial = write_trial("a", [record(1), record(2)])
    with (trial / "result.json").open("a") as results:
        results.write('{"epoch": 3, "select_top1": 0.')
    assert load_experiment(trial.parent).iloc[0]["epochs"] == 2


def test_a_record_behind_half_a_line_is_taken_from_the_checkpoint(experiment: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(experiment, tmp_path / "tiny")
    before = load_experiment(folder)
    for results in folder.glob("*/result.json"):
        first, second = results.read_text().splitlines()
        results.write_text(f"{first}\n{first[:40]}{second}\n")
    compared = ["trial", "epochs", "best_epoch", "best_select_top1", "seconds"]
    pd.testing.assert_frame_equal(load_experiment(folder)[compared], before[compared])


def test_a_trial_that_has_just_started_is_unfinished(write_trial: WriteTrial) -> None:
    trial = write_trial("a", [])
    (trial / "result.json").unlink()
    (trial / "params.json").write_text('{"arch": "resn')
    (trial / "result.json").write_text("")
    row = load_experiment(trial.parent).iloc[0]
    assert (row["state"], row["epochs"], row["has_weights"], row["checkpoint"]) == ("unfinished", 0, False, None)


def test_a_checkpoint_without_its_record_is_not_complete(experiment: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(experiment, tmp_path / "tiny")
    for path in folder.glob("*/checkpoint_000001/trial.json"):
        path.unlink()
    assert {Path(path).name for path in load_experiment(folder)["checkpoint"]} == {"checkpoint_000000"}


def test_deleted_weights_are_seen(experiment: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(experiment, tmp_path / "tiny")
    for name in files.WEIGHTS:
        for path in folder.glob(f"0001*/checkpoint_*/{name}"):
            path.unlink()
    assert dict(load_experiment(folder).set_index("trial")["has_weights"]) == {
        "0001-test_resnet": False,
        "0002-test_convnext": True,
    }


def test_the_latest_weights_do_not_stand_in_for_deleted_best_ones(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    latest_is_best = {"best_epoch": 2, "epochs": [{"epoch": 1}, {"epoch": 2}]}
    assert _checkpoints.Checkpoint(tmp_path, latest_is_best).best_weights == tmp_path / "model.safetensors"
    assert _checkpoints.Checkpoint(tmp_path, latest_is_best | {"best_epoch": 1}).best_weights is None
    assert _checkpoints.Checkpoint(tmp_path, latest_is_best | {"best_epoch": 0}).best_weights is None


def test_a_missing_folder_is_an_error_that_names_the_experiments_there_are(experiment: Path) -> None:
    with pytest.raises(UsageError, match=rf"none: no such folder; there are {experiment}"):
        load_experiment(experiment.parent / "none")


def test_a_folder_of_experiments_is_none_itself(experiment: Path) -> None:
    with pytest.raises(UsageError, match=rf"is no experiment \(no experiment.json in it\); there are {experiment}"):
        load_experiment(experiment.parent)


def test_an_experiment_without_trials_says_so(tmp_path: Path) -> None:
    (tmp_path / "experiment.json").write_text("{}")
    with pytest.raises(UserError, match="no trial has started yet"):
        load_experiment(tmp_path)


def test_a_broken_experiment_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "experiment.json").write_text('{"plan"')
    with pytest.raises(UserError, match=r"experiment.json: not JSON"):
        load_experiment(tmp_path)


def test_the_csv_holds_the_table(experiment: Path, tmp_path: Path) -> None:
    main(experiment, csv=str(tmp_path / "trials.csv"), top=1)
    written = pd.read_csv(tmp_path / "trials.csv")
    pd.testing.assert_frame_equal(written, load_experiment(experiment).head(1), check_dtype=False)


def test_a_csv_that_cannot_be_written_is_an_error(experiment: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--csv .*none/trials\.csv: can't be written"):
        main(experiment, csv=str(tmp_path / "none" / "trials.csv"), top=None)


def test_the_csv_goes_to_stdout_for_a_dash(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(experiment, csv="-", top=None)
    assert len(pd.read_csv(io.StringIO(capsys.readouterr().out))) == 2


def test_the_table_is_neither_wrapped_nor_shortened_in_a_pipe(
    write_trial: WriteTrial, record: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "0001-" + "a_very_long_name_of_an_architecture" * 5
    folder = write_trial(
        long, [record(1, 0.5), record(2, 0.625)], arch=long[5:], **dict.fromkeys("abcdefgh", 0.5)
    ).parent
    write_trial("other", [record(1, 0.5)], **dict.fromkeys("abcdefgh", 0.25))
    main(folder, csv=None, top=1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith(long)
    assert "62.50%" in lines[1]
    assert lines[2] == "the best 1 of 2 trials"


def test_a_narrow_terminal_shows_whole_columns_and_names_the_others(
    experiment: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "wide_console", lambda: Console(width=60))
    main(experiment, csv=None, top=None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["trial", "state", "epochs", "select", "top-1", "loss"]
    assert all(len(line) <= 60 and "…" not in line for line in lines[:3])
    assert lines[3].startswith("without arch, lr, best_epoch, select_top5, seconds, has_weights: for these use a wider")


def test_a_value_that_a_trial_lacks_is_a_dash(
    write_trial: WriteTrial, record: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trial("a", [record(1, 0.9)], attn_drop_rate=0.25, batch_size=1024)
    folder = write_trial("b", [record(1, 0.5)]).parent
    main(folder, csv=None, top=None)
    _, first, second = capsys.readouterr().out.splitlines()
    assert {"0.25", "1024"} <= set(first.split())
    assert second.split().count("-") == 2


def test_result_lines_are_those_of_metrics(experiment: Path) -> None:
    line = json.loads(next(experiment.glob("*/result.json")).read_text().splitlines()[0])
    assert {metrics.EPOCH, metrics.SELECT_TOP1, metrics.SELECT_LOSS, metrics.DIVERGED} <= set(line)


def test_names_that_a_spreadsheet_would_run_get_an_apostrophe_in_the_csv(
    write_trial: WriteTrial, record: Record, tmp_path: Path
) -> None:
    write_trial("=1+1", [record(1)], arch="@a", lr=-0.1)
    folder = write_trial("b", [record(1)], **{"arch": "b", "=x": 1}).parent
    main(folder, csv=str(tmp_path / "trials.csv"), top=None)
    table = pd.read_csv(tmp_path / "trials.csv").set_index("trial")
    assert table.loc["'=1+1", "arch"] == "'@a"
    assert table.loc["'=1+1", "lr"] == -0.1
    assert "'=x" in table.columns


def test_markup_and_control_characters_in_names_are_shown(write_trial: WriteTrial, record: Record) -> None:
    folder = write_trial("a[red]x", [record(1)], **{"arch": "[bold]\x1b[2J[/nothing]", "[k]\a": 1}).parent
    write_trial("b", [record(1)])
    trials = load_experiment(folder)
    console = Console(file=io.StringIO(), width=300, force_terminal=True)
    console.print(tables.trials_table(trials, ["trial", "arch", "[k]\a"]))
    shown = console.file.getvalue()
    assert "a[red]x" in shown
    assert r"[bold]\x1b[2J[/nothing]" in shown
    assert r"[k]\x07" in shown
    assert "\x1b[2J" not in shown
