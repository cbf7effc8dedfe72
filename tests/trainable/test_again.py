"""Trials trained again without Ray: the same weights bit for bit, and a refit that is the training it should be."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from trainable import again as module
from trainable import metrics, time_split
from trainable.again import (
    TRAINED_ON,
    Again,
    outcome_text,
    read_again,
    read_trainings,
    refit_weights,
    retrained_weights,
    train_again,
)
from trainable.again_progress import epoch_text
from trainable.checkpoint import save_checkpoint
from trainable.config import TrialConfig
from trainable.data.dataset import open_dataset
from trainable.errors import UsageError, UserError
from trainable.files import MODEL, PREDICTIONS, RECORD, WEIGHTS, read_record
from trainable.training import Training, cpu_weights

CPU = torch.device("cpu")
TIMES = {
    metrics.IMAGES_PER_SECOND,
    metrics.PEAK_MEMORY,
    *time_split.PARTS,
    metrics.SECONDS_TRAIN,
    metrics.SECONDS_EVAL,
}
NAME = "0001-test_vit"


class Searched(NamedTuple):
    """A trial of a search, stopped after 2 of its 3 epochs, and what it had learned at its best one."""

    experiment: Path
    training: Training

    @property
    def trial(self) -> Path:
        return self.experiment / NAME


@pytest.fixture(scope="module")
def original(colour_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """Tests only read it. Whatever can be random in a training is; its weights are deleted, as of most trials."""
    experiment = tmp_path_factory.mktemp("runs") / "colours"
    config = TrialConfig(
        data=colour_folder, arch="test_vit", epochs=3, batch_size=32, lr=1e-3, mix_prob=1.0, drop_rate=0.1,
        attn_drop_rate=0.1, drop_path_rate=0.1, precision="fp32", ema_decay=0.9, seed=5,
    )  # fmt: skip
    dataset = open_dataset(config.data, seed=config.seed, progress=False)
    training = Training(config, dataset, dataset.splits.train, dataset.splits.select, CPU)
    for _ in range(2):
        training.run_step()
    checkpoint = experiment / NAME / "checkpoint_000001"
    checkpoint.mkdir(parents=True)
    save_checkpoint(training, checkpoint)
    for name in WEIGHTS:
        (checkpoint / name).unlink(missing_ok=True)
    (experiment / "experiment.json").write_text(json.dumps({"plan": {"scheduler": "asha"}}))
    return Searched(experiment, training)


@pytest.fixture
def searched(original: Searched, tmp_path: Path) -> Searched:
    """The same, to write to."""
    shutil.copytree(original.experiment, tmp_path / "colours")
    return original._replace(experiment=tmp_path / "colours")


@pytest.fixture
def change_record(searched: Searched) -> Callable[..., None]:
    """`change_record(config={...})` changes what the trial's checkpoint says."""

    def change(config: dict[str, Any] | None = None, **values: Any) -> None:
        path = searched.trial / "checkpoint_000001" / RECORD
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | values | {"config": record["config"] | (config or {})}))

    return change


def train(again: Again) -> list[dict[str, Any]]:
    return list(train_again(again, CPU))


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def test_a_trial_trained_again_has_its_best_epochs_weights_and_predictions_bit_for_bit(searched: Searched) -> None:
    torch.manual_seed(99)  # whatever else happened in the process
    (again,) = read_trainings(searched.experiment, [NAME, NAME], refit=False)
    records = train(again)
    training = searched.training
    assert len(records) == training.best_epoch
    weights = retrained_weights(searched.trial)
    assert weights == searched.trial / "retrained" / MODEL
    assert_same(load_file(weights), training.best_weights)
    with np.load(weights.with_name(PREDICTIONS)) as predictions:
        np.testing.assert_array_equal(predictions["logits"], training.best_logits)
    record = read_record(weights.parent)
    assert record is not None
    assert (record["best_epoch"], record[TRAINED_ON]) == (training.best_epoch, ["train"])
    for mine, first in zip(record["epochs"], training.history[: training.best_epoch], strict=True):
        assert {name: mine[name] for name in mine.keys() - TIMES} == {name: first[name] for name in mine.keys() - TIMES}
    assert f"(in the search {again.best_top1:.2%} at epoch {training.best_epoch})" in outcome_text(again)
    assert "% on select" in epoch_text(again, records[0])


def test_a_refit_is_a_training_on_train_and_select_to_the_end_of_its_length(searched: Searched) -> None:
    again = read_again(searched.trial, refit=True)
    records = train(again)
    assert [record[metrics.EPOCH] for record in records] == [1, 2, 3]
    splits = searched.training.dataset.splits
    rows = np.sort(np.concatenate([splits.train, splits.select]))
    plain = Training(again.config, searched.training.dataset, rows, splits.holdout, CPU)
    while not plain.done:
        plain.run_step()
    weights = refit_weights(searched.trial)
    assert weights is not None
    assert_same(load_file(weights), cpu_weights(plain.machinery.evaluated))
    assert retrained_weights(searched.trial) is None


def test_a_refit_tells_no_figure_of_images_that_it_learned_from(searched: Searched) -> None:
    again = read_again(searched.trial, refit=True)
    records = train(again)
    kept = read_record(again.folder)
    assert kept is not None
    assert kept[TRAINED_ON] == ["train", "select"]
    for record in (*records, *kept["epochs"]):
        assert not [name for name in record if "select" in name or "best" in name]
    assert not (again.folder / PREDICTIONS).exists()
    assert "select" not in epoch_text(again, records[0])
    assert "refit on train and select, 3 epochs" in outcome_text(again)


def test_what_is_complete_is_not_trained_twice(searched: Searched) -> None:
    again = read_again(searched.trial, refit=False)
    train(again)
    written = (again.folder / MODEL).stat().st_mtime_ns
    assert train(again) == []
    assert (again.folder / MODEL).stat().st_mtime_ns == written


@pytest.mark.parametrize("damage", [None, MODEL])
def test_an_interrupted_refit_goes_on_from_its_newest_whole_checkpoint(
    searched: Searched, monkeypatch: pytest.MonkeyPatch, damage: str | None
) -> None:
    undisturbed = read_again(shutil.copytree(searched.trial, searched.experiment / "0002-test_vit"), refit=True)
    train(undisturbed)
    monkeypatch.setattr(module, "CHECKPOINT_EVERY_S", 0.0)
    again = read_again(searched.trial, refit=True)
    interrupted = train_again(again, CPU)
    next(interrupted), next(interrupted)
    interrupted.close()  # in the second epoch's end: the first one's checkpoint is there
    (checkpoint,) = again.folder.glob("epoch_*")
    if damage is not None:
        with (checkpoint / damage).open("r+b") as file:
            file.write(b"\xff" * 16)
    assert refit_weights(searched.trial) is None
    assert [record[metrics.EPOCH] for record in train(again)] == ([2, 3] if damage is None else [1, 2, 3])
    assert not list(again.folder.glob("epoch_*"))
    assert undisturbed.weights is not None
    assert again.weights is not None
    assert_same(load_file(again.weights), load_file(undisturbed.weights))


def test_weights_count_only_while_they_are_whole_and_of_the_same_configuration(
    searched: Searched, change_record: Callable[..., None]
) -> None:
    assert retrained_weights(searched.trial) is None
    weights = read_again(searched.trial, refit=False).folder / MODEL
    train(read_again(searched.trial, refit=False))
    assert retrained_weights(searched.trial) == weights
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4] + b"\0\0\0\1")
    assert retrained_weights(searched.trial) is None
    weights.write_bytes(whole)
    change_record(config={"lr": 2e-3})
    assert retrained_weights(searched.trial) is None
    change_record(config={"lr": 1e-3}, dataset="other images")
    assert retrained_weights(searched.trial) is None


def test_a_folder_without_a_search_and_an_unknown_trial_are_told(searched: Searched, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no search is there \(no whole experiment.json\)"):
        read_trainings(tmp_path, [NAME], refit=False)
    with pytest.raises(UsageError, match="has no trial '0001-test'; it has 0001-test_vit"):
        read_trainings(searched.experiment, ["0001-test"], refit=False)
    for number in range(2, 20):
        (searched.experiment / f"{number:04}-resnet18").mkdir()
    with pytest.raises(UsageError, match=r"did you mean 0001-test_vit.* It has 19, from 0001-test_vit to 0019-"):
        read_trainings(searched.experiment, ["0001-test"], refit=False)
    with pytest.raises(UsageError, match="has no trial"):
        read_trainings(searched.experiment, ["../colours/0001-test_vit"], refit=False)


def test_a_trial_that_failed_before_it_scored_can_not_be_repeated(searched: Searched) -> None:
    failed = searched.experiment / "0002-test_vit"
    failed.mkdir()
    with pytest.raises(UserError, match=r"0002-test_vit: left no epoch that was scored; choose"):
        read_trainings(searched.experiment, [failed.name], refit=True)
    (failed / "failure.txt").write_text("OutOfMemoryError")
    with pytest.raises(UserError, match=r"0002-test_vit: left no epoch that was scored, see its failure.txt; choose"):
        read_trainings(searched.experiment, [failed.name], refit=True)


def test_a_populations_trial_can_be_refit_but_not_repeated(searched: Searched) -> None:
    (searched.experiment / "experiment.json").write_text(json.dumps({"plan": {"scheduler": "pbt"}}))
    with pytest.raises(UserError, match="went on from copies of each other"):
        read_trainings(searched.experiment, [NAME], refit=False)
    assert [again.epochs for again in read_trainings(searched.experiment, [NAME], refit=True)] == [3]


def test_images_that_are_gone_or_others_are_told_before_anything_is_trained(
    searched: Searched, change_record: Callable[..., None], tmp_path: Path
) -> None:
    change_record(dataset="0123")
    with pytest.raises(UserError, match="the images have changed since the search; restore them"):
        train(read_again(searched.trial, refit=False))
    change_record(config={"data": str(tmp_path / "gone")})
    with pytest.raises(UserError, match="gone: the search's images are no longer there; put them back"):
        train(read_again(searched.trial, refit=False))
    assert not (searched.trial / "retrained").exists()


def test_a_loss_that_diverges_leaves_nothing_that_counts(
    searched: Searched, change_record: Callable[..., None]
) -> None:
    change_record(config={"lr": 1e30, "clip_grad": None})
    with pytest.raises(UserError, match=r"0001-test_vit: trained again, its loss diverged in epoch \d of 3"):
        train(read_again(searched.trial, refit=True))
    assert refit_weights(searched.trial) is None


def test_reading_what_is_there_needs_no_torch(original: Searched) -> None:
    code = (
        "import sys; from pathlib import Path; from trainable.again import retrained_weights, read_trainings; "
        f"path = Path(sys.argv[1]); read_trainings(path, ['{NAME}'], True); retrained_weights(path / '{NAME}'); "
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(original.experiment)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
