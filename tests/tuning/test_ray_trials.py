"""Trials made of their files, as Ray's own objects."""

import json
from types import SimpleNamespace

import pytest
from ray.tune import CheckpointConfig
from ray.tune.experiment.config_parser import _make_parser

from trainable import metrics
from trainable.files import STATE
from tuning.past import PARAMS, read_trial
from tuning.ray_trials import NewTrial, make_trial, trial_from_files, write_configuration
from tuning.storage import create_experiment, experiment_id

CONFIG = {"arch": "vit", "lr": 0.1, "data": "images", "epochs": 4}


@pytest.fixture
def made(make_plan, tmp_path, ray_spec, leave_trial):
    """`made.new(...)` and `made.old(folder)` make trials; `made.leave(...)` leaves one's folder."""
    plan = make_plan(output=tmp_path)
    create_experiment(plan, {})
    spec, parser = ray_spec(plan) | {"checkpoint_config": CheckpointConfig(num_to_keep=2)}, _make_parser()
    return SimpleNamespace(
        plan=plan,
        new=lambda number, **config: make_trial(spec, parser, NewTrial(f"abc-{number:04}", number, config)),
        old=lambda folder: trial_from_files(spec, parser, read_trial(folder, experiment_id(plan.folder))),
        leave=lambda scores, **more: leave_trial(plan.folder, 7, CONFIG, scores, **more),
    )


def checkpoints(trial) -> list[str]:
    found = [result.checkpoint.path for result in trial.run_metadata.checkpoint_manager._checkpoint_results]
    return [path.rpartition("/")[2] for path in found]


def test_a_new_trial_has_our_id_its_number_in_its_name_and_the_shared_values(made):
    trial = made.new(12, arch="vit", lr=0.1)
    assert (trial.trial_id, str(trial)) == ("abc-0012", "0012-vit")
    assert trial.config == {"data": "images", "epochs": 4, "arch": "vit", "lr": 0.1}
    assert trial.evaluated_params == {"arch": "vit", "lr": 0.1}
    assert trial.checkpoint is None
    trial.init_local_path()
    assert trial.path == str(made.plan.folder / "0012-vit")


def test_a_trial_has_started_once_its_configuration_is_written(made):
    trial = made.new(1, arch="vit")
    folder = write_configuration(trial, made.plan.folder)
    assert folder == made.plan.folder / "0001-vit"
    assert json.loads((folder / PARAMS).read_text()) == trial.config
    assert write_configuration(trial, made.plan.folder) == folder
    assert [path.name for path in folder.iterdir()] == [PARAMS]


def test_a_trial_that_goes_on_has_its_id_name_folder_and_configuration(made):
    folder = made.leave([0.1])
    trial = made.old(folder)
    assert (trial.trial_id, str(trial)) == (f"{experiment_id(made.plan.folder)}-0007", "0007-vit")
    assert trial.config == CONFIG
    trial.init_local_path()
    assert trial.path == str(folder)


def test_its_checkpoints_are_known_oldest_first_and_the_next_one_has_the_next_number(made, leave_checkpoint):
    folder = made.leave([0.1, 0.2, 0.3], saved=0)
    for number, epoch in ((9, 2), (10, 3)):
        leave_checkpoint(folder, number, epoch)
    trial = made.old(folder)
    assert checkpoints(trial) == ["checkpoint_000009", "checkpoint_000010"]
    assert trial.checkpoint.path == str(folder / "checkpoint_000010")
    assert trial.last_result[metrics.SCORE] == 0.3
    trial.storage._update_checkpoint_index({})
    assert trial.storage.checkpoint_dir_name == "checkpoint_000011"


def test_a_trial_without_a_checkpoint_begins_anew(made):
    trial = made.old(made.leave([0.1, 0.2], saved=0))
    assert trial.checkpoint is None
    assert checkpoints(trial) == []
    assert metrics.EPOCH not in trial.last_result
    assert trial.storage.current_checkpoint_index == -1


def test_a_broken_checkpoint_is_not_gone_on_from(made, leave_checkpoint):
    folder = made.leave([0.1, 0.2], saved=1)
    broken = leave_checkpoint(folder, 1, 2)
    (broken / STATE).write_text("")
    trial = made.old(folder)
    assert trial.checkpoint.path == str(folder / "checkpoint_000000")
    assert trial.last_result[metrics.EPOCH] == 1
    assert not broken.exists()
