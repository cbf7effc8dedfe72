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


def test_there_is_a_row_for_each_step_and_those_that_diverged_have_no_score(write_trial, record):
    write_trial("0001-a", [record(1, seconds_checkpoint=0.5), record(2, diverged=True, select_loss=math.inf)])
    folder = write_trial("0002-b", [record(1)]).parent
    search = read_search(folder)
    assert list(search.steps["trial"]) == ["0001-a", "0001-a", "0002-b"]
    assert list(search.steps["seconds"]) == [3.5, 3.0, 3.0]
    assert search.steps["timestamp"].isna().all()
    assert list(search.scored["trial"]) == ["0001-a", "0002-b"]


def test_the_full_length_is_the_plans_or_the_longest_trials(write_trial, record):
    folder = write_trial("0001-a", [record(1), record(2)]).parent
    assert read_search(folder).full_epochs == 2
    (folder / "experiment.json").write_text('{"plan": {"epochs": 9}}')
    assert read_search(folder).full_epochs == 9


def test_a_step_is_an_epoch_unless_the_plan_says_otherwise(write_trial, record):
    write_trial("0001-a", [record(1), record(2)])
    folder = write_trial("0002-b", [record(1)]).parent
    search = read_search(folder)
    assert (search.step_epochs, search.passes, list(search.steps["passes"])) == (1, 3, [1, 1, 1])


@pytest.mark.parametrize(
    ("plan", "epochs", "a_step"),
    [
        ({"epochs": 2.5, "steps": 10}, (0.25, 0.5, 0.6), 0.25),
        ({"epochs": 12, "steps": 3}, (4, 8, 12), 4),
        ({"epochs": 2.25}, (0.75, 1.5, 2.25), 0.75),
    ],
)
def test_steps_may_be_parts_of_an_epoch_or_several(write_trial, record, plan, epochs, a_step):
    write_trial("0001-a", [record(epoch, step=step) for step, epoch in enumerate(epochs, 1)])
    folder = write_trial("0002-b", [record(epochs[0], step=1)]).parent
    (folder / "experiment.json").write_text(json.dumps({"plan": plan}))
    search = read_search(folder)
    assert (search.full_epochs, search.step_epochs) == (plan["epochs"], a_step)
    assert search.passes == epochs[-1] + epochs[0]
    assert list(search.steps["passes"]) == pytest.approx([a_step, a_step, epochs[2] - epochs[1], a_step])


def test_without_a_record_there_are_no_steps(write_trial):
    search = read_search(write_trial("0001-a", []).parent)
    assert (len(search.steps), search.passes, search.seconds) == (0, 0, 0)


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
    assert list(search.trials["arch"]) == list(search.steps["arch"]) == ["unknown"]


def test_what_is_no_experiment_or_of_another_version_fails_in_one_line(write_trial, record, tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        read_search(tmp_path / "none")
    trial = write_trial("0001-a", [record(1)])
    (trial / "result.json").write_text('{"epoch": 1}\n')
    with pytest.raises(UserError, match="a record has no 'diverged'; read it with the version that made it"):
        read_search(trial.parent)
    (trial.parent / "experiment.json").write_text('{"plan": {"epochs": "six"}}')
    with pytest.raises(UserError, match=r"experiment.json: plan.epochs: Input should be a valid number"):
        read_search(trial.parent)
    (trial.parent / "experiment.json").write_text("[]")
    with pytest.raises(UserError, match=r"experiment.json: Input should be a valid dictionary"):
        read_search(trial.parent)
