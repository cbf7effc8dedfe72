"""Epoch records are in the experiment's folder at once and survive pauses: Ray's own trials and storage."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.train._internal.storage import StorageContext
from ray.tune.experiment import Trial
from ray.tune.logger import JsonLoggerCallback

from trainable import metrics
from tuning.record_log import RecordLog


@pytest.fixture
def trial(tmp_path, monkeypatch) -> Trial:
    """A trial of the experiment `exp`, as Ray's controller holds it, but with staging in a folder of the test."""
    session = str(tmp_path / "session")
    monkeypatch.setattr("ray.train._internal.storage._get_ray_train_session_dir", lambda: session)
    storage = StorageContext(str(tmp_path), "exp")
    names = {"trial_dirname_creator": lambda _: "0001-vit", "trial_name_creator": lambda _: "0001-vit"}
    trial = Trial("nothing", storage=storage, stub=True, **names)
    trial.init_local_path()
    return trial


def epochs(folder: Path) -> list[int]:
    return [json.loads(line)[metrics.EPOCH] for line in (folder / "exp/0001-vit/result.json").read_text().splitlines()]


def log_a_pause(log: JsonLoggerCallback, trial: Trial) -> None:
    """Two epochs, Ray's copy of the staging folder, another epoch, a pause with a checkpoint, and another epoch."""
    log.log_trial_start(trial)
    for epoch in (1, 2):
        log.log_trial_result(epoch, trial, {metrics.EPOCH: epoch})
    copy_staging(trial)
    log.log_trial_result(3, trial, {metrics.EPOCH: 3})
    trial.run_metadata.checkpoint_manager._latest_checkpoint_result = SimpleNamespace(checkpoint="there is one")
    log.log_trial_end(trial)
    log.log_trial_start(trial)
    log.log_trial_result(4, trial, {metrics.EPOCH: 4})
    log.log_trial_end(trial)


def copy_staging(trial: Trial) -> None:
    """What Ray does every now and then."""
    storage = Path(trial.storage.trial_fs_path)
    storage.mkdir(parents=True, exist_ok=True)
    for file in Path(trial.local_path).iterdir():
        (storage / file.name).write_bytes(file.read_bytes())


def test_no_epoch_is_lost_when_a_trial_goes_on_after_a_pause(trial, tmp_path):
    log_a_pause(RecordLog(tmp_path / "exp"), trial)
    assert epochs(tmp_path) == [1, 2, 3, 4]


def test_rays_own_logger_loses_the_epochs_since_the_last_copy(trial, tmp_path):
    log_a_pause(JsonLoggerCallback(), trial)
    copy_staging(trial)
    assert epochs(tmp_path) == [1, 2, 4], "Ray keeps them now: RecordLog may go"


def test_a_record_is_in_the_experiments_folder_before_any_copy(trial, tmp_path):
    log = RecordLog(tmp_path / "exp")
    log.log_trial_start(trial)
    log.log_trial_result(1, trial, {metrics.EPOCH: 1})
    assert epochs(tmp_path) == [1]
    log.log_trial_end(trial)
    copy_staging(trial)
    assert epochs(tmp_path) == [1]
    assert json.loads((tmp_path / "exp/0001-vit/params.json").read_text()) == {}


def test_each_epoch_is_written_before_the_next_call(trial, tmp_path):
    log = RecordLog(tmp_path / "exp")
    log.log_trial_start(trial)
    for epoch in (1, 2, 3):
        log.log_trial_result(epoch, trial, {metrics.EPOCH: epoch})
        assert epochs(tmp_path) == list(range(1, epoch + 1))
    log.log_trial_end(trial)


def test_the_half_line_of_a_killed_search_is_dropped_when_its_trial_goes_on(trial, tmp_path):
    log = RecordLog(tmp_path / "exp")
    log.log_trial_start(trial)
    log.log_trial_result(1, trial, {metrics.EPOCH: 1})
    with (tmp_path / "exp/0001-vit/result.json").open("a") as file:
        file.write('{"epoch": 2, "select_top1": 0.')
    log.log_trial_end(trial)
    again = RecordLog(tmp_path / "exp")
    again.log_trial_start(trial)
    again.log_trial_result(2, trial, {metrics.EPOCH: 2})
    again.log_trial_end(trial)
    assert epochs(tmp_path) == [1, 2]


def test_an_epoch_that_is_trained_again_takes_the_place_of_the_first_and_of_what_came_after(trial, tmp_path):
    log = RecordLog(tmp_path / "exp")
    log.log_trial_start(trial)
    for epoch in (1, 2, 3):
        log.log_trial_result(epoch, trial, {metrics.EPOCH: epoch, "run": "first"})
    log.log_trial_end(trial)
    again = RecordLog(tmp_path / "exp")
    again.log_trial_start(trial)
    again.log_trial_result(2, trial, {metrics.EPOCH: 2, "run": "second"})
    again.log_trial_result(3, trial, {metrics.EPOCH: 3, "run": "second"})
    again.log_trial_end(trial)
    text = (tmp_path / "exp/0001-vit/result.json").read_text()
    records = [json.loads(line) for line in text.splitlines()]
    assert [(record[metrics.EPOCH], record["run"]) for record in records] == [
        (1, "first"),
        (2, "second"),
        (3, "second"),
    ]


def test_the_file_of_a_trial_that_has_ended_is_closed(trial, tmp_path):
    log = RecordLog(tmp_path / "exp")
    log.log_trial_start(trial)
    file = log._trial_files[trial]
    log.log_trial_end(trial)
    assert file.closed
    log.log_trial_end(trial)


def test_rays_copy_never_meets_the_configuration(trial, tmp_path):
    """A trial that is tried again is read from it just then."""
    log = RecordLog(tmp_path / "exp")
    log.log_trial_start(trial)
    log.log_trial_end(trial)
    assert json.loads((tmp_path / "exp/0001-vit/params.json").read_text()) == trial.config
    assert not (Path(trial.local_path) / "params.json").exists()
