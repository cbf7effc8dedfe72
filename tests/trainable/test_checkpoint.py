import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from trainable import checkpoint, metrics
from trainable.checkpoint import (
    BEST,
    MODEL,
    PREDICTIONS,
    RECORD,
    STATE,
    best_weights_file,
    continue_single_run,
    load_checkpoint,
    read_single_run,
    save_checkpoint,
    save_single_run,
    write_atomically,
)
from trainable.config import TrialConfig, load_config
from trainable.data.dataset import open_dataset
from trainable.errors import UserError
from trainable.training import Training, cpu_weights


@pytest.fixture
def build(colour_folder: Path):
    """Builds a small training on the colours."""
    dataset = open_dataset(colour_folder, progress=False)

    def build_training(**values) -> Training:
        defaults = {"data": str(colour_folder), "arch": "test_resnet", "epochs": 3, "batch_size": 32, "lr": 1e-3}
        config = TrialConfig.model_validate(defaults | values)
        splits = dataset.splits
        return Training(config, dataset, splits.train, splits.select, torch.device("cpu"))

    return build_training


@pytest.fixture
def trained(build) -> Training:
    """A training with two epochs behind it."""
    training = build()
    training.run_step()
    training.run_step()
    return training


def pretend_best(training: Training, epoch: int) -> None:
    """Make `epoch` the best one, whose weights are all 7."""
    training.best = (0.5, -1.0)
    training.best_epoch = epoch
    training.best_weights = {name: torch.full_like(value, 7) for name, value in training.best_weights.items()}


def test_a_checkpoint_is_the_five_files_where_the_best_epoch_is_another(trained: Training, tmp_path: Path) -> None:
    pretend_best(trained, 1)
    save_checkpoint(trained, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {MODEL, BEST, STATE, PREDICTIONS, RECORD}
    assert best_weights_file(tmp_path) == tmp_path / BEST
    assert {value.unique().item() for value in load_file(tmp_path / BEST).values()} == {7}


def test_best_weights_are_not_written_twice_where_the_latest_epoch_is_the_best(
    trained: Training, tmp_path: Path
) -> None:
    pretend_best(trained, 2)
    save_checkpoint(trained, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {MODEL, STATE, PREDICTIONS, RECORD}
    assert best_weights_file(tmp_path) == tmp_path / MODEL


def test_a_second_checkpoint_in_the_same_folder_leaves_no_best_weights_of_the_first(
    trained: Training, tmp_path: Path
) -> None:
    pretend_best(trained, 1)
    save_checkpoint(trained, tmp_path)
    pretend_best(trained, 2)
    save_checkpoint(trained, tmp_path)
    assert best_weights_file(tmp_path) == tmp_path / MODEL


def test_the_files_hold_the_evaluated_weights_and_the_logits_of_the_best_epoch(
    trained: Training, tmp_path: Path
) -> None:
    save_checkpoint(trained, tmp_path)
    weights, expected = load_file(tmp_path / MODEL), cpu_weights(trained.machinery.evaluated)
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    with np.load(tmp_path / PREDICTIONS, allow_pickle=False) as predictions:
        assert predictions["logits"].dtype == np.float16
        assert predictions["logits"].shape == (len(trained.held_out_rows), 3)
        np.testing.assert_array_equal(predictions["logits"], trained.best_logits)
        assert predictions["epoch"] == trained.best_epoch


def test_a_checkpoint_goes_on_with_the_numbers_of_another_configuration(build, trained: Training, tmp_path) -> None:
    save_checkpoint(trained, tmp_path)
    other = build(lr=5e-4, weight_decay=0.2, drop_rate=0.3, label_smoothing=0.05, mix_prob=0.1)
    load_checkpoint(other, tmp_path)
    assert {group["weight_decay"] for group in other.machinery.optimizer.param_groups} == {0.0, 0.2}
    expected = cpu_weights(trained.machinery.evaluated)
    assert all(torch.equal(value, expected[name]) for name, value in cpu_weights(other.machinery.evaluated).items())
    fresh = build(lr=5e-4)
    fresh.updates = 2 * len(fresh.order)
    assert other.run_step()[metrics.LEARNING_RATE] == fresh.run_step()[metrics.LEARNING_RATE]
    assert [record[metrics.EPOCH] for record in other.history] == [1, 2, 3]


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_the_state_is_loadable_with_weights_only(build, tmp_path: Path, ema_decay: float | None) -> None:
    training = build(ema_decay=ema_decay)
    training.run_step()
    save_checkpoint(training, tmp_path)
    state = torch.load(tmp_path / STATE, weights_only=True)
    assert state["updates"] == len(training.order)
    assert state["generators"] == {}
    assert (state["raw_weights"] is None) == (ema_decay is None)
    assert state["history"] == training.history


def test_the_record_tells_what_was_trained_on_what_with_which_result(trained: Training, tmp_path: Path) -> None:
    save_checkpoint(trained, tmp_path)
    record = json.loads((tmp_path / RECORD).read_text())
    assert record["epochs"] == trained.history
    assert record["best_epoch"] == trained.best_epoch
    assert (record["classes"], record["image_size"], record["seed"]) == (3, 32, 0)
    assert record["dataset"] == trained.dataset.cache.fingerprint
    assert record["arithmetic"] == trained.machinery.arithmetic.reason
    assert record["workers"] == trained.workers_reason
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    assert load_config(tmp_path / RECORD) == trained.config


def test_the_record_is_written_last(trained: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[set[str]] = []

    def spy(path: Path, write) -> None:
        written.append({file.name for file in tmp_path.iterdir()})
        write_atomically(path, write)

    monkeypatch.setattr(checkpoint, "write_atomically", spy)
    pretend_best(trained, 1)
    save_checkpoint(trained, tmp_path)
    assert written == [{MODEL, BEST, STATE, PREDICTIONS}]
    assert (tmp_path / RECORD).exists()


def test_a_checkpoint_that_could_not_be_written_whole_has_no_record(
    trained: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(trained, tmp_path)
    assert not (tmp_path / RECORD).exists()


def test_loading_gives_back_all_that_was_saved(trained: Training, build, tmp_path: Path) -> None:
    save_checkpoint(trained, tmp_path)
    other = build()
    load_checkpoint(other, tmp_path)
    assert (other.epoch, other.history) == (trained.epoch, trained.history)
    assert (other.best, other.best_epoch) == (trained.best, trained.best_epoch)
    np.testing.assert_array_equal(other.best_logits, trained.best_logits)
    for name, tensor in trained.best_weights.items():
        assert torch.equal(other.best_weights[name], tensor)
    for name, tensor in cpu_weights(trained.machinery.model).items():
        assert torch.equal(cpu_weights(other.machinery.model)[name], tensor)


def test_saving_again_after_loading_writes_the_same_weights(trained: Training, build, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    pretend_best(trained, 1)
    save_checkpoint(trained, first)
    other = build()
    load_checkpoint(other, first)
    save_checkpoint(other, second)
    for name in (MODEL, BEST):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_a_diverged_training_leaves_a_record_that_can_be_read(build, tmp_path: Path) -> None:
    training = build(lr=1e30, clip_grad=None, warmup_epochs=0)
    training.run_step()
    save_checkpoint(training, tmp_path)
    (record,) = json.loads((tmp_path / RECORD).read_text())["epochs"]
    assert record[metrics.DIVERGED] is True
    assert record[metrics.SELECT_LOSS] == math.inf


def test_the_single_runs_files_hold_what_their_names_say(trained: Training, tmp_path: Path) -> None:
    pretend_best(trained, 1)
    save_single_run(trained, tmp_path / "latest.pth.tar", best=False)
    save_single_run(trained, tmp_path / "best.pth.tar", best=True)
    latest = torch.load(tmp_path / "latest.pth.tar", weights_only=True)
    best = torch.load(tmp_path / "best.pth.tar", weights_only=True)
    for content, epoch in ((latest, 2), (best, 1)):
        assert {"state_dict", "optimizer", "epoch", "top1", "top5"} <= content.keys()
        record = trained.history[epoch - 1]
        assert content["epoch"] == epoch
        assert (content["top1"], content["top5"]) == (record[metrics.SELECT_TOP1], record[metrics.SELECT_TOP5])
    assert {value.unique().item() for value in best["state_dict"].values()} == {7}
    for name, tensor in cpu_weights(trained.machinery.model).items():
        assert torch.equal(latest["state_dict"][name], tensor)


def test_a_single_run_is_read_back(trained: Training, build, tmp_path: Path) -> None:
    save_single_run(trained, tmp_path / "latest.pth.tar", best=False)
    config, content = read_single_run(tmp_path / "latest.pth.tar")
    assert config == trained.config
    other = build()
    continue_single_run(other, content)
    assert (other.epoch, other.best, other.history) == (2, trained.best, trained.history)


def test_a_best_file_is_no_checkpoint_to_go_on_from(trained: Training, build, tmp_path: Path) -> None:
    save_single_run(trained, tmp_path / "best.pth.tar", best=True)
    _, content = read_single_run(tmp_path / "best.pth.tar")
    with pytest.raises(UserError, match=r"can't be continued; give latest\.pth\.tar instead of best\.pth\.tar"):
        continue_single_run(build(), content)


def test_a_missing_single_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{tmp_path}/no\.pth\.tar: no such file; give the latest\.pth\.tar of a run"):
        read_single_run(tmp_path / "no.pth.tar")


def write_bytes(path: Path) -> None:
    path.write_bytes(b"garbage")


def write_nothing(path: Path) -> None:
    path.touch()


def write_other(path: Path) -> None:
    torch.save({"weights": torch.zeros(1)}, path)


def write_bad_config(path: Path) -> None:
    torch.save({"config": {"data": "x", "epochs": 0}}, path)


def write_pickle(path: Path) -> None:
    torch.save({"config": Path("code could hide here")}, path)


@pytest.mark.parametrize("write", [write_bytes, write_nothing, write_other, write_bad_config, write_pickle, Path.mkdir])
def test_what_is_no_single_run_is_one_line_that_names_the_file(tmp_path: Path, write) -> None:
    path = tmp_path / "latest.pth.tar"
    write(path)
    with pytest.raises(UserError, match=rf"^{path}: not a readable checkpoint of a single run \(.+\)$") as error:
        read_single_run(path)
    assert "\n" not in str(error.value)


def test_a_file_is_replaced_only_by_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("old")

    def write_half(temporary: Path) -> None:
        temporary.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, write_half)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_writer_never_sees_the_final_name(tmp_path: Path) -> None:
    path = tmp_path / "latest.pth.tar"
    seen = []

    def write(temporary: Path) -> None:
        seen.append((temporary != path, temporary.parent == tmp_path, path.exists()))
        temporary.touch()

    write_atomically(path, write)
    assert seen == [(True, True, False)]
