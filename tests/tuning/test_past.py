"""What a trial's folder tells of it, whatever ended the search."""

import json
from pathlib import Path

import pytest
from optuna.trial import TrialState

from trainable import metrics
from trainable.address import open_place
from trainable.files import MODEL, RECORD, STATE, WEIGHTS
from tuning.past import FAILURE, PARAMS, drop_broken, mend, read_past, read_trial, whole_checkpoints
from tuning.storage import RESULTS, create_experiment, experiment_id, prune_weights

CONFIG = {"arch": "vit", "lr": 0.1}


@pytest.fixture
def plan(make_plan, tmp_path):
    """Of an experiment whose folder is there."""
    plan = make_plan(output=tmp_path)
    create_experiment(plan, {})
    return plan


@pytest.fixture
def leave(plan, leave_trial):
    """`leave(3, [0.1, 0.2])`: a trial of the experiment; returns its folder."""
    return lambda number, scores, **more: leave_trial(plan.folder, number, CONFIG, scores, **more)


def past(plan):
    return read_past(plan.folder, experiment_id(plan.folder))


def test_trials_come_in_the_order_of_their_proposal_with_what_they_reached(plan, leave):
    for number, scores in ((10000, []), (2, [0.1, 0.2]), (1, [0.3])):
        leave(number, scores)
    (plan.folder / "ensemble").mkdir()
    (plan.folder / "0-not-a-trial").write_text("")
    trials = past(plan)
    assert [trial.number for trial in trials] == [1, 2, 10000]
    assert [trial.curve for trial in trials] == [{1: 0.3}, {1: 0.1, 2: 0.2}, {}]
    assert [trial.key for trial in trials] == [f"{experiment_id(plan.folder)}-{n}" for n in ("0001", "0002", "10000")]
    assert trials[0].config == CONFIG


def test_a_search_that_has_no_trial_yet_has_no_past(plan):
    assert past(plan) == []


@pytest.mark.parametrize("content", [None, "", '{"arch": "vi'])
def test_a_trial_whose_configuration_was_not_written_had_not_started(plan, leave, content):
    path = leave(1, []) / PARAMS
    path.unlink()
    if content is not None:
        path.write_text(content)
    assert past(plan) == []


def test_a_broken_configuration_is_taken_from_the_records_and_written_again(plan, leave):
    folder = leave(1, [0.5])
    (folder / PARAMS).write_text('{"arch": "vi')
    mend(folder, "abc")
    assert json.loads((folder / PARAMS).read_text()) == CONFIG


def test_of_an_epoch_that_was_trained_twice_the_last_counts_and_broken_lines_are_left_out(plan, leave):
    folder = leave(1, [0.1, 0.2])
    first, second = (folder / RESULTS).read_text().splitlines()
    again = json.dumps(json.loads(first) | {metrics.SCORE: 0.9})
    (folder / RESULTS).write_text(f'{second}\n{first}\n[]\n{{"no": "epoch"}}\n{again}\n{{"epoch": 3, "selec')
    (trial,) = past(plan)
    assert trial.curve == {1: 0.9, 2: 0.2}
    assert list(trial.records) == [1, 2]


@pytest.mark.parametrize("score", [None, float("nan"), float("inf")])
def test_a_record_without_a_score_counts_as_the_worst(plan, leave, score):
    folder = leave(1, [0.1])
    record = json.loads((folder / RESULTS).read_text())
    del record[metrics.SCORE]
    (folder / RESULTS).write_text(json.dumps(record if score is None else record | {metrics.SCORE: score}) + "\n")
    assert past(plan)[0].curve == {1: 0.0}


def saved(plan) -> int | None:
    (trial,) = past(plan)
    return trial.saved


def test_without_a_checkpoint_a_trial_goes_on_from_its_start(plan, leave):
    leave(1, [0.1, 0.2], saved=0)
    assert saved(plan) == 0


def test_a_trial_goes_on_from_its_newest_whole_checkpoint(plan, leave, leave_checkpoint):
    folder = leave(1, [0.1, 0.2, 0.3], saved=1)
    assert saved(plan) == 1
    unfinished = leave_checkpoint(folder, 7, 3)
    assert saved(plan) == 3
    (unfinished / RECORD).unlink()
    assert saved(plan) == 1
    (unfinished / RECORD).write_text('{"epochs": [')
    assert saved(plan) == 1


def test_a_trial_whose_weights_were_deleted_cannot_go_on(plan, leave):
    folder = leave(1, [0.1])
    prune_weights(folder.glob("checkpoint_*"), WEIGHTS)
    assert saved(plan) is None


def test_a_checkpoint_with_a_truncated_file_is_deleted_and_the_one_before_is_left(plan, leave, leave_checkpoint):
    folder = leave(1, [0.1, 0.2, 0.3], saved=2)
    broken = leave_checkpoint(folder, 2, 3)
    (broken / STATE).write_bytes((broken / STATE).read_bytes()[:-1])
    drop_broken(folder)
    assert [path.name for path in folder.glob("checkpoint_*")] == ["checkpoint_000001"]
    assert saved(plan) == 2


@pytest.mark.parametrize("name", [MODEL, STATE, RECORD])
def test_where_both_checkpoints_are_broken_a_trial_begins_anew(plan, leave, leave_checkpoint, name):
    folder = leave(1, [0.1, 0.2], saved=1)
    leave_checkpoint(folder, 1, 2)
    for checkpoint in folder.glob("checkpoint_*"):
        (checkpoint / name).write_bytes(b"\0" * (checkpoint / name).stat().st_size)
    drop_broken(folder)
    assert not list(folder.glob("checkpoint_*"))
    assert saved(plan) == 0


def test_good_checkpoints_and_those_without_weights_are_left(plan, leave, leave_checkpoint):
    folder = leave(1, [0.1, 0.2], saved=1)
    newest = leave_checkpoint(folder, 1, 2)
    prune_weights([newest], WEIGHTS)
    drop_broken(folder)
    assert len(list(folder.glob("checkpoint_*"))) == 2


def test_mending_leaves_whole_files_as_they_are(plan, leave):
    folder = leave(1, [0.1, 0.2])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    mend(folder, "abc")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_epochs_that_a_power_cut_took_from_the_records_come_from_the_checkpoint(plan, leave):
    folder = leave(1, [0.1, 0.2, 0.3])
    first, second, _ = (folder / RESULTS).read_text().splitlines()
    checkpoint = next(folder.glob("checkpoint_*")) / RECORD
    scored = json.loads(checkpoint.read_text())
    for epoch, record in enumerate(scored["epochs"], 1):
        record[metrics.SCORE] = epoch / 10
    checkpoint.write_text(json.dumps(scored))
    (folder / RESULTS).write_text(f"{first}\n{second[:20]}")
    assert past(plan)[0].curve == {1: 0.1, 2: 0.2, 3: 0.3}
    mend(folder, "abc")
    records = [json.loads(line) for line in (folder / RESULTS).read_text().splitlines()]
    assert [record[metrics.EPOCH] for record in records] == [1, 2, 3]
    assert {record["trial_id"] for record in records} == {json.loads(first)["trial_id"]}


def test_mending_a_folder_in_which_no_trial_had_started_does_nothing(tmp_path):
    folder = tmp_path / "0001-vit"
    folder.mkdir()
    mend(folder, "abc")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("last", "ended", "diverged", "state"),
    [
        ({}, False, False, TrialState.PRUNED),
        ({"done": True}, True, False, TrialState.PRUNED),
        ({"done": True, metrics.DIVERGED: True}, True, True, TrialState.PRUNED),
    ],
)
def test_how_a_trial_stands_is_in_its_last_record(plan, leave, last, ended, diverged, state):
    leave(1, [0.1, 0.2], **last)
    (trial,) = past(plan)
    assert (trial.ended, trial.diverged, trial.failed) == (ended, diverged, False)
    assert trial.state_in_study(steps=4) is state
    assert trial.state_in_study(steps=2) is TrialState.COMPLETE


def test_a_trial_has_failed_if_the_search_left_the_reason(plan, leave):
    folder = leave(1, [])
    assert not past(plan)[0].ended
    (folder / "error.txt").write_text("Ray's, which a trial that was tried again has too")
    assert not past(plan)[0].failed
    (folder / FAILURE).write_text("ValueError")
    (trial,) = past(plan)
    assert (trial.failed, trial.ended, trial.state_in_study(4)) == (True, True, TrialState.FAIL)


def test_what_all_trials_share_is_no_value_of_the_space(plan, leave):
    folder = leave(1, [])
    (folder / PARAMS).write_text(json.dumps({"lr": 0.1, "epochs": 4, "data": "images"}))
    trial = read_trial(folder, "abc")
    assert trial.key == "abc-0001"
    assert trial.own_values(plan) == {"lr": 0.1}


def test_a_trial_of_an_older_version_keeps_rays_id(plan, leave):
    folder: Path = leave(1, [0.5], trial_id="8f3a2_00000")
    assert read_trial(folder, "abc").key == "8f3a2_00000"


def test_elsewhere_too_a_checkpoint_without_its_record_is_none(s3):
    trial = open_place(s3.make_bucket(), "--storage") / "test" / "0001-vit"
    for name in (f"checkpoint_000000/{STATE}", f"checkpoint_000000/{RECORD}", f"checkpoint_000001/{STATE}"):
        (trial / name).write_text("{}")
    assert [path.name for path in whole_checkpoints(trial)] == ["checkpoint_000000"]
    assert drop_broken(trial) == []
    assert [path.name for path in trial.iterdir()] == ["checkpoint_000000"]


def test_a_storage_that_cant_be_read_is_no_reason_to_delete(s3, monkeypatch):
    trial = open_place(s3.make_bucket(), "--storage") / "test" / "0001-vit"
    (trial / f"checkpoint_000000/{RECORD}").write_text("{}")
    monkeypatch.setattr(type(trial), "read_bytes", raise_denied)
    with pytest.raises(PermissionError):
        drop_broken(trial)
    assert [path.name for path in trial.iterdir()] == ["checkpoint_000000"]


def raise_denied(path) -> bytes:
    raise PermissionError("Access Denied")
