"""An experiment as the page reads it, also while its search runs, and of other versions."""

import json
import math

import pytest
from filelock import FileLock

from analysis.pages.records import read_search
from trainable.errors import UsageError, UserError


def test_a_trial_that_waits_is_told_from_one_that_runs_or_was_interrupted(write_trial, record):
    for name in ("0001-a", "0002-b", "0003-c"):
        folder = write_trial(name, [record(1)]).parent
    decisions = [("pause", 1), ("start", 2), ("pause", 3), ("stop", 3)]
    lines = [json.dumps({"kind": kind, "trial": f"abc-{number:04}"}) for kind, number in decisions]
    (folder / "decisions.jsonl").write_text("\n".join(lines) + '\n{"kind": "pau')
    (folder / ".lock").touch()
    states = {"0001-a": "paused", "0002-b": "interrupted", "0003-c": "stopped"}
    assert read_search(folder).trials.set_index("trial")["state"].to_dict() == states
    with FileLock(folder / ".lock"):
        search = read_search(folder)
    assert search.running
    assert search.trials.set_index("trial")["state"].to_dict() == states | {"0002-b": "running"}


def test_there_is_a_row_for_each_epoch_and_those_that_diverged_have_no_score(write_trial, record):
    write_trial("0001-a", [record(1, seconds_checkpoint=0.5), record(2, diverged=True, select_loss=math.inf)])
    folder = write_trial("0002-b", [record(1)]).parent
    search = read_search(folder)
    assert list(search.epochs["trial"]) == ["0001-a", "0001-a", "0002-b"]
    assert list(search.epochs["seconds"]) == [3.5, 3.0, 3.0]
    assert search.epochs["timestamp"].isna().all()
    assert list(search.scored["trial"]) == ["0001-a", "0002-b"]


def test_the_full_length_is_the_plans_or_the_longest_trials(write_trial, record):
    folder = write_trial("0001-a", [record(1), record(2)]).parent
    assert read_search(folder).full_epochs == 2
    (folder / "experiment.json").write_text('{"plan": {"epochs": 9}}')
    assert read_search(folder).full_epochs == 9


def test_an_ensemble_of_another_version_is_told_and_no_ensemble_is_no_problem(write_trial, record):
    folder = write_trial("0001-a", [record(1)]).parent
    assert read_search(folder)[4:6] == (None, "")
    (folder / "ensemble").mkdir()
    (folder / "ensemble" / "ensemble.json").write_text('{"schema_version": 1}')
    manifest, problem = read_search(folder)[4:6]
    assert manifest is None
    assert "schema version 1, but this program reads 2; export it again" in problem


def test_a_lost_configuration_leaves_an_unknown_architecture(write_trial, record):
    trial = write_trial("0001-a", [record(1)])
    (trial / "params.json").write_text("[1]")
    search = read_search(trial.parent)
    assert list(search.trials["arch"]) == list(search.epochs["arch"]) == ["unknown"]


def test_what_is_no_experiment_or_of_another_version_fails_in_one_line(write_trial, record, tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        read_search(tmp_path / "none")
    trial = write_trial("0001-a", [record(1)])
    (trial / "result.json").write_text('{"epoch": 1}\n')
    with pytest.raises(UserError, match="an epoch's record has no 'diverged'; read it with the version that made it"):
        read_search(trial.parent)
    (trial.parent / "experiment.json").write_text('{"plan": {"epochs": "six"}}')
    with pytest.raises(UserError, match=r"experiment.json: plan.epochs: Input should be a valid integer"):
        read_search(trial.parent)
    (trial.parent / "experiment.json").write_text("[]")
    with pytest.raises(UserError, match=r"experiment.json: Input should be a valid dictionary"):
        read_search(trial.parent)
