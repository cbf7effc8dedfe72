"""A trial's latest epoch as a member of its own."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from analysis.candidates import LATEST_EPOCH, find_candidates
from analysis.experiment import load_experiment, read_facts
from analysis.inference import empty_module, predict_rows
from analysis.snapshots import snapshots
from trainable.checkpoint import save_checkpoint
from trainable.data.dataset import Dataset
from trainable.training import Training

CPU = torch.device("cpu")


@pytest.fixture
def past_its_best(experiment: Path, trainings: dict[str, Training], dataset: Dataset, tmp_path: Path) -> Path:
    """The experiment, with a trial whose best epoch is its first and whose latest is another."""
    folder = shutil.copytree(experiment, tmp_path / "tiny")
    shutil.rmtree(folder / "0002-test_convnext")
    splits = dataset.splits
    config = trainings["0001-test_resnet"].config
    training = Training(config, dataset, splits.train, splits.select, CPU)
    training.run_step()
    first = training.best_logits
    training.run_step()
    training.best_epoch, training.best_logits = 1, first
    training.best_weights = {name: value + 0.01 for name, value in training.best_weights.items()}
    for path in (folder / "0001-test_resnet").glob("checkpoint_*"):
        shutil.rmtree(path)
    checkpoint = folder / "0001-test_resnet" / "checkpoint_000001"
    checkpoint.mkdir()
    save_checkpoint(training, checkpoint)
    return folder


def test_the_latest_epoch_is_a_candidate_with_its_own_weights_and_logits(past_its_best: Path, dataset: Dataset) -> None:
    trials = find_candidates(past_its_best, load_experiment(past_its_best), read_facts(past_its_best))
    (found,), left_out = snapshots(trials, dataset, CPU)
    assert left_out == []
    assert found.trained == trials[0].trained == 2
    assert (found.trial, found.source) == ("0001-test_resnet-latest", LATEST_EPOCH)
    assert found.weights != trials[0].weights
    assert found.weights.name == "model.safetensors"
    module = empty_module(found.config, dataset.num_classes, 32)
    module.model.load_state_dict(load_file(found.weights))
    expected = predict_rows(module, dataset.cache, dataset.splits.select, CPU, "")
    np.testing.assert_allclose(found.logits.astype(np.float32), expected, atol=0.02)


def test_a_trial_whose_latest_epoch_is_its_best_gives_no_other(past_its_best: Path, dataset: Dataset) -> None:
    path = past_its_best / "0001-test_resnet" / "checkpoint_000001" / "trial.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"best_epoch": 2}))
    (trial,) = find_candidates(past_its_best, load_experiment(past_its_best), read_facts(past_its_best))
    assert trial.weights is not None
    assert trial.weights.name == "model.safetensors"
    assert trial.later is None
    assert snapshots([trial], dataset, CPU) == ([], [])


def test_latest_epochs_that_there_is_no_time_for_are_left_out(past_its_best: Path, dataset: Dataset) -> None:
    (trial,) = find_candidates(past_its_best, load_experiment(past_its_best), read_facts(past_its_best))
    trials = [trial, trial._replace(trial="0009-best", later=None), trial._replace(trial="0002-other")]
    found, left_out = snapshots(trials, dataset, CPU, lambda each: each is trial)
    assert [each.trial for each in found] == ["0001-test_resnet-latest"]
    assert [each.trial for each in left_out] == ["0002-other"]
