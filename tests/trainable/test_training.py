import json
import logging
import math
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import trainable.training as training_module
from trainable import metrics, time_split
from trainable.checkpoint import load_checkpoint, save_checkpoint
from trainable.config import TrialConfig
from trainable.data.augmentation import strength_at
from trainable.data.dataset import Dataset, open_dataset
from trainable.data.loader import dead_workers
from trainable.epoch import HeldOutScores, TrainScores
from trainable.errors import UserError
from trainable.files import checksum
from trainable.ranking import TIE, rank_score
from trainable.training import Training, cosine_with_warmup, cpu_weights

CPU = torch.device("cpu")
TIMES = {
    metrics.IMAGES_PER_SECOND,
    metrics.PEAK_MEMORY,
    *time_split.PARTS,
    metrics.SECONDS_TRAIN,
    metrics.SECONDS_EVAL,
    metrics.SECONDS_CHECKPOINT,
}
"""What differs from run to run."""


@pytest.fixture(scope="module")
def colours(colour_folder: Path) -> Dataset:
    return open_dataset(colour_folder, progress=False)


@pytest.fixture
def build(colours: Dataset):
    """Builds a training on the colours; what a test doesn't say is small, quick and uses everything random there is."""

    def build_training(**values) -> Training:
        defaults = {
            "data": "colours",
            "arch": "test_vit",
            "epochs": 3,
            "batch_size": 32,
            "lr": 1e-3,
            "mix_prob": 1.0,
            "drop_rate": 0.1,
            "attn_drop_rate": 0.1,
            "drop_path_rate": 0.1,
            "precision": "fp32",
        }
        config = TrialConfig.model_validate(defaults | values)
        return Training(config, colours, colours.splits.train, colours.splits.holdout, CPU)

    return build_training


@pytest.fixture
def scripted(build, monkeypatch: pytest.MonkeyPatch):
    """A training whose epochs score what the test says: (top-1, loss), or None for a loss that isn't finite."""

    def build_scripted(scores: list[tuple[float, float] | None], **values) -> Training:
        training = build(epochs=len(scores), arch="test_resnet", attn_drop_rate=None, **values)

        def train(*_: object) -> TrainScores:
            finite = scores[training.epoch] is not None
            if finite:
                torch.nn.init.constant_(next(training.machinery.model.parameters()), training.epoch + 1)
            return TrainScores(1.0 if finite else math.nan, 0.5, 1.0, 96, finite, len(training.order))

        monkeypatch.setattr(training_module, "train_epoch", train)
        monkeypatch.setattr(
            training_module,
            "score",
            lambda *_: HeldOutScores(scores[training.epoch - 1][1], scores[training.epoch - 1][0], 1),
        )
        return training

    return build_scripted


def without_times(history: list[dict]) -> list[dict]:
    return [{key: value for key, value in record.items() if key not in TIMES} for record in history]


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert different == []


@pytest.mark.parametrize("pause_after", [1, 2])
@pytest.mark.parametrize(
    "values", [{}, {"ema_decay": 0.9}, {"arch": "test_resnet", "attn_drop_rate": None, "ema_decay": 0.9}]
)
def test_a_training_continued_from_a_checkpoint_equals_an_undisturbed_one_bit_for_bit(
    build, tmp_path: Path, values: dict, pause_after: int
) -> None:
    undisturbed, paused, continued = build(**values), build(**values), build(**values)
    for _ in range(3):
        undisturbed.run_step()
    for _ in range(pause_after):
        paused.run_step()
    save_checkpoint(paused, tmp_path)
    torch.manual_seed(99)  # whatever else happened in the process
    load_checkpoint(continued, tmp_path)
    while not continued.done:
        continued.run_step()
    assert_same(cpu_weights(continued.machinery.model), cpu_weights(undisturbed.machinery.model))
    assert_same(cpu_weights(continued.machinery.evaluated), cpu_weights(undisturbed.machinery.evaluated))
    assert_same(continued.best_weights, undisturbed.best_weights)
    assert without_times(continued.history) == without_times(undisturbed.history)
    assert (continued.best, continued.best_epoch) == (undisturbed.best, undisturbed.best_epoch)
    np.testing.assert_array_equal(continued.best_logits, undisturbed.best_logits)


def test_the_moving_average_is_what_is_evaluated_and_differs_from_the_trained_weights(build) -> None:
    training = build(ema_decay=0.9)
    training.run_step()
    assert training.machinery.evaluated is training.machinery.ema.module
    average, trained = cpu_weights(training.machinery.evaluated), cpu_weights(training.machinery.model)
    assert any(not torch.equal(average[name], trained[name]) for name in trained)
    assert_same(training.best_weights, average)


def test_two_trainings_of_one_seed_are_equal_and_of_another_seed_not(build) -> None:
    first, second, other = build(seed=3), build(seed=3), build(seed=4)
    for training in (first, second, other):
        torch.manual_seed(training.config.seed + id(training) % 1000)
        np.random.seed(0)
        training.run_step()
    assert_same(cpu_weights(first.machinery.model), cpu_weights(second.machinery.model))
    assert without_times(first.history) == without_times(second.history)
    assert first.history[0][metrics.TRAIN_LOSS] != other.history[0][metrics.TRAIN_LOSS]


def test_the_number_of_loader_workers_changes_nothing(build, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = []
    for workers in (0, 2):
        monkeypatch.setattr(training_module, "choose_workers", lambda *_, count=workers: (count, "the test says so"))
        training = build(data_on="host")
        assert training.loader.num_workers == workers
        training.run_step()
        training.run_step()
        weights.append(cpu_weights(training.machinery.model))
    assert_same(*weights)


def test_a_training_with_workers_continues_like_an_undisturbed_one(
    build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(training_module, "choose_workers", lambda *_: (1, "the test says so"))
    undisturbed, continued = build(data_on="host", epochs=2), build(data_on="host", epochs=2)
    undisturbed.run_step()
    save_checkpoint(undisturbed, tmp_path)
    undisturbed.run_step()
    load_checkpoint(continued, tmp_path)
    continued.run_step()
    assert_same(cpu_weights(continued.machinery.model), cpu_weights(undisturbed.machinery.model))


def test_a_record_has_every_key_of_metrics_and_no_other(build) -> None:
    keys = {value for name, value in vars(metrics).items() if name.isupper() and name != "SCORE_MODE"}
    training = build()
    record = training.run_step()
    assert set(record) == keys
    assert training.history == [record]
    assert record[metrics.EPOCH] == 1
    assert record[metrics.DIVERGED] is False
    assert record[metrics.SELECT_TOP5] == 1  # three classes
    assert all(record[name] > 0 for name in TIMES - {metrics.SECONDS_CHECKPOINT})


def test_a_record_holds_plain_values_only(build) -> None:
    assert {type(value) for value in build().run_step().values()} <= {int, float, bool}


def test_the_strength_in_a_record_is_the_one_that_the_epoch_was_trained_with(build) -> None:
    training = build(epochs=3)
    assert [training.run_step()[metrics.STRENGTH] for _ in range(3)] == [strength_at(epoch, 3) for epoch in range(3)]


def test_a_record_says_how_long_the_checkpoint_before_it_took(build, tmp_path: Path) -> None:
    training = build(epochs=2)
    assert training.run_step()[metrics.SECONDS_CHECKPOINT] == 0
    save_checkpoint(training, tmp_path)
    assert training.run_step()[metrics.SECONDS_CHECKPOINT] > 0


def test_a_training_is_done_at_its_full_length(build) -> None:
    training = build(epochs=2)
    assert not training.done
    training.run_step()
    assert not training.done
    training.run_step()
    assert training.done


@pytest.mark.parametrize(
    ("scores", "best_epoch"),
    [
        ([(0.5, 1.0), (0.7, 1.0), (0.6, 0.5)], 2),
        ([(0.5, 1.0), (0.5, 0.9), (0.5, 0.95)], 2),
        ([(0.5, 1.0), (0.5, 1.0)], 1),
        ([(0.2, 1.0), (0.3, 9.0)], 2),
    ],
    ids=["highest top-1", "equal top-1: lowest loss", "all equal: the first", "top-1 comes before loss"],
)
def test_the_best_epoch_is_kept_with_its_weights(scripted, scores: list, best_epoch: int) -> None:
    training = scripted(scores)
    while not training.done:
        training.run_step()
    assert training.best_epoch == best_epoch
    assert training.best == (scores[best_epoch - 1][0], -scores[best_epoch - 1][1])
    assert next(iter(training.best_weights.values())).unique().tolist() == [best_epoch]
    assert training.history[-1][metrics.BEST_EPOCH] == best_epoch
    assert training.history[-1][metrics.BEST_TOP1] == scores[best_epoch - 1][0]


def test_the_logits_of_the_best_epoch_are_those_of_its_weights(build) -> None:
    training = build(epochs=3)
    while not training.done:
        training.run_step()
    training.machinery.evaluated.load_state_dict(training.best_weights)
    logits = training.predict(training.held_out_rows).numpy().astype(np.float16)
    np.testing.assert_array_equal(training.best_logits, logits)


def test_a_diverged_training_is_done_with_the_worst_score_and_keeps_the_best_epoch_before(scripted) -> None:
    training = scripted([(0.5, 1.0), None, (0.9, 0.1)])
    training.run_step()
    record = training.run_step()
    assert training.done
    assert record[metrics.DIVERGED] is True
    assert (record[metrics.SELECT_TOP1], record[metrics.SELECT_LOSS]) == (0, math.inf)
    assert (record[metrics.BEST_TOP1], record[metrics.BEST_EPOCH]) == (0.5, 1)


def test_a_training_that_diverges_in_its_first_epoch_has_no_best_epoch_and_can_be_saved(
    scripted, build, tmp_path: Path
) -> None:
    training = scripted([None, (0.5, 1.0)])
    training.run_step()
    save_checkpoint(training, tmp_path)
    continued = build(arch="test_resnet", attn_drop_rate=None, epochs=2)
    load_checkpoint(continued, tmp_path)
    for side in (training, continued):
        assert side.done
        assert side.best is None
        assert side.best_weights == {}
        assert side.best_logits.shape == (0, 3)


def test_a_training_whose_last_update_broke_the_weights_has_diverged(scripted) -> None:
    training = scripted([(1 / 3, math.nan), (0.5, 1.0)])
    record = training.run_step()
    assert record[metrics.DIVERGED] is True
    assert record[metrics.SCORE] == 0
    assert training.best is None


@pytest.mark.parametrize(("batch_size", "images"), [(32, 32), (500, 120)], ids=["full batches", "too few images"])
def test_the_micro_batch_is_the_batch_where_memory_suffices(build, caplog, batch_size: int, images: int) -> None:
    training = build(batch_size=batch_size)
    images = min(images, len(training.order.rows))
    assert training.run_step()[metrics.MICRO_BATCH] == images
    assert training.micro_batch_note is None
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("arch", "told"),
    [
        ("test_vit", "whose gradients add up to the batch's"),
        ("test_resnet", "its batch norm takes the statistics of a micro-batch, not of the batch"),
    ],
)
def test_a_training_that_runs_out_of_memory_goes_on_in_micro_batches_and_says_so_once(
    build, limit_memory, caplog: pytest.LogCaptureFixture, arch: str, told: str
) -> None:
    training = build(arch=arch, attn_drop_rate=None)
    limit_memory(training.machinery.model, 10)
    with caplog.at_level(logging.WARNING):
        records = [training.run_step() for _ in range(3)]
    assert [record[metrics.MICRO_BATCH] for record in records] == [8, 8, 8]
    assert records[-1][metrics.TRAIN_LOSS] < records[0][metrics.TRAIN_LOSS]
    assert training.micro_batch_note.startswith(f"memory ran out: {arch} trains batches of 32 in micro-batches of 8")
    assert told in training.micro_batch_note
    assert caplog.messages == [training.micro_batch_note]


def test_an_epoch_in_micro_batches_is_close_to_one_in_whole_batches(build, limit_memory) -> None:
    """Dropout is off: its masks differ. Mixing is on: it is done once a batch, before the batch is split."""
    values = {"drop_rate": 0.0, "attn_drop_rate": 0.0, "drop_path_rate": 0.0, "ema_decay": 0.9}
    whole, short = build(**values), build(**values)
    limit_memory(short.machinery.model, 10)
    for _ in range(3):
        expected, record = whole.run_step(), short.run_step()
        assert record[metrics.MICRO_BATCH] == 8
        for name in (metrics.TRAIN_LOSS, metrics.TRAIN_TOP1, metrics.SELECT_LOSS):
            assert record[name] == pytest.approx(expected[name], rel=1e-3)


@pytest.mark.parametrize("arch", ["test_vit", "test_resnet"])
def test_a_continued_training_remembers_its_micro_batch_and_equals_an_undisturbed_one(
    build, limit_memory, tmp_path: Path, caplog: pytest.LogCaptureFixture, arch: str
) -> None:
    undisturbed, continued = (build(arch=arch, attn_drop_rate=None) for _ in range(2))
    limit_memory(undisturbed.machinery.model, 10)
    undisturbed.run_step()
    save_checkpoint(undisturbed, tmp_path)
    while not undisturbed.done:
        undisturbed.run_step()
    caplog.clear()
    load_checkpoint(continued, tmp_path)  # into a model that takes any batch
    assert continued.micro_batch_note == undisturbed.micro_batch_note
    tried = limit_memory(continued.machinery.model, 1000)
    while not continued.done:
        continued.run_step()
    assert tried[:4] == [8] * 4
    assert_same(cpu_weights(continued.machinery.model), cpu_weights(undisturbed.machinery.model))
    # scoring meets other batches where it isn't limited, which on some processors changes the last bit of a loss
    for record, other in zip(without_times(continued.history), without_times(undisturbed.history), strict=True):
        assert record == pytest.approx(other, rel=1e-6)
    assert caplog.messages == []


def test_a_training_whose_records_are_older_than_micro_batches_continues_in_whole_batches(build) -> None:
    training = build()
    del training.run_step()[metrics.MICRO_BATCH]
    assert training.micro_batch_note is None
    assert training.run_step()[metrics.MICRO_BATCH] == 32


def test_one_image_that_does_not_fit_is_an_error_that_says_what_helps(build, limit_memory) -> None:
    training = build()
    limit_memory(training.machinery.model, 0)
    message = (
        r"^test_vit: out of memory with 1 of a batch's 32 images at a time, at 32 px, and fewer wouldn't help; "
        r"give a larger --gpus-per-trial, a smaller --image-size or smaller batches \(--set batch_size=N.*\)$"
    )
    with pytest.raises(UserError, match=message) as raised:
        training.run_step()
    assert isinstance(raised.value.__cause__, torch.OutOfMemoryError)
    assert (training.epoch, training.history) == (0, [])


def test_an_optimiser_that_runs_out_of_memory_is_such_an_error_too(build, monkeypatch: pytest.MonkeyPatch) -> None:
    training = build()

    def run_out(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(training.machinery.optimizer, "step", run_out)
    with pytest.raises(UserError, match="out of memory with 32 of a batch's 32 images at a time"):
        training.run_step()


@pytest.mark.parametrize("noticed", ["by its signal", "by the loader", "by a late signal"])
def test_a_data_worker_that_is_killed_is_named(build, monkeypatch: pytest.MonkeyPatch, noticed: str) -> None:
    """Torch handles SIGCHLD where the training runs in the main thread; elsewhere its loader asks every 5 s."""
    monkeypatch.setattr(training_module, "choose_workers", lambda *_: (2, "the test says so"))
    training = build(data_on="host", batch_size=8)
    killed = []

    def kill_one(loader: torch.utils.data.DataLoader) -> Iterator:
        batches = iter(loader)
        yield next(batches)
        time.sleep(0.3)  # until the workers have fetched ahead, and hold no lock that a killed one takes along
        killed.append(batches._workers[1].pid)
        os.kill(killed[0], signal.SIGKILL)
        yield from batches

    training.run_step()
    handler = signal.getsignal(signal.SIGCHLD)
    if noticed == "by the loader":
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if noticed == "by a late signal":
        late = iter([RuntimeError(f"DataLoader worker (pid {os.getpid()}) is killed by signal: Killed.")])

        def interrupted(loader: torch.utils.data.DataLoader) -> str | None:
            for error in late:
                raise error
            return dead_workers(loader)

        monkeypatch.setattr(training_module, "dead_workers", interrupted)
    training.watch = kill_one
    try:
        with pytest.raises(UserError, match=r"^data worker with pid \d+ was killed by SIGKILL: .*--cpus") as raised:
            training.run_step()
    finally:
        signal.signal(signal.SIGCHLD, handler)
    assert f"pid {killed[0]} " in str(raised.value)
    assert "\n" not in str(raised.value)
    assert training.epoch == 1


def test_an_error_that_is_no_workers_death_stays_what_it_is(build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_module, "choose_workers", lambda *_: (1, "the test says so"))
    training = build(data_on="host")

    def fail(*_: object) -> None:
        raise RuntimeError("shapes differ")

    training.run_step()
    training.machinery.model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        training.run_step()


def rates_of(epochs: int, updates: int, **values) -> list[float]:
    """The learning rate of each update."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=1.0)
    schedule = cosine_with_warmup(optimizer, TrialConfig(data="x", epochs=epochs, lr=1.0, **values), updates)
    rates = []
    for update in range(epochs * updates + 1):
        schedule.step_update(update)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_the_learning_rate_rises_from_a_hundredth_and_falls_along_a_cosine_to_zero() -> None:
    rates = rates_of(epochs=10, updates=4, warmup_epochs=1)
    np.testing.assert_allclose(rates[:4], [0.01 + 0.99 * update / 4 for update in range(4)])
    np.testing.assert_allclose(rates[4:], [(1 + math.cos(math.pi * update / 36)) / 2 for update in range(37)])
    assert rates[4] == 1
    assert rates[-1] == pytest.approx(0)


@pytest.mark.parametrize(("epochs", "warmup_epochs", "updates_of_warmup"), [(10, 9, 20), (2, 0.5, 4), (1, 0.5, 2)])
def test_the_warm_up_takes_at_most_a_fifth_of_the_training(epochs, warmup_epochs, updates_of_warmup) -> None:
    rates = rates_of(epochs=epochs, updates=10, warmup_epochs=warmup_epochs)
    n = updates_of_warmup
    assert rates[n - 1] == pytest.approx(0.01 + 0.99 * (n - 1) / n)
    assert rates[n] == 1


def test_without_warm_up_the_first_update_has_the_peak_rate() -> None:
    assert rates_of(epochs=2, updates=3, warmup_epochs=0)[0] == 1


def test_norms_biases_and_position_embeddings_have_no_weight_decay(build) -> None:
    machinery = build(weight_decay=0.3).machinery
    decay = {id(p): group["weight_decay"] for group in machinery.optimizer.param_groups for p in group["params"]}
    for name, parameter in machinery.model.named_parameters():
        plain = parameter.ndim < 2 or "pos_embed" in name or "cls_token" in name
        assert decay[id(parameter)] == (0 if plain else 0.3), name


def test_layer_decay_gives_lower_layers_a_lower_rate_and_the_record_the_highest(build) -> None:
    training = build(layer_decay=0.5, warmup_epochs=0)
    record = training.run_step()
    rates = [group["lr"] for group in training.machinery.optimizer.param_groups]
    assert len(set(rates)) > 3
    assert record[metrics.LEARNING_RATE] == max(rates)


@pytest.mark.parametrize("data_on", ["host", "device"])
@pytest.mark.parametrize("steps", [1, 2, 4, 7])
def test_the_same_images_give_the_same_bits_in_whatever_steps_they_are_trained(build, steps: int, data_on: str) -> None:
    values = {"batch_size": 16, "data_on": data_on, "augment": "full"}
    whole, parts = build(**values), build(steps=steps, **values)
    for training in (whole, parts):
        while not training.done:
            training.run_step()
            torch.manual_seed(99)  # whatever else happens in the process between two steps
    assert_same(cpu_weights(parts.machinery.model), cpu_weights(whole.machinery.model))
    assert [record[metrics.STEP] for record in parts.history] == list(range(1, steps + 1))
    assert parts.history[-1][metrics.UPDATES] == whole.history[-1][metrics.UPDATES] == whole.total_updates
    assert parts.history[-1][metrics.EPOCH] == 3


def test_a_training_continued_within_an_epoch_equals_an_undisturbed_one(build, tmp_path: Path) -> None:
    values = {"batch_size": 16, "steps": 7}
    undisturbed, paused, continued = build(**values), build(**values), build(**values)
    while not undisturbed.done:
        undisturbed.run_step()
    paused.run_step()
    assert paused.epoch != int(paused.epoch)
    save_checkpoint(paused, tmp_path)
    torch.manual_seed(99)
    load_checkpoint(continued, tmp_path)
    while not continued.done:
        continued.run_step()
    assert_same(cpu_weights(continued.machinery.model), cpu_weights(undisturbed.machinery.model))
    assert without_times(continued.history) == without_times(undisturbed.history)


def test_a_length_in_parts_of_an_epoch_ends_its_schedule_there(build) -> None:
    training = build(epochs=1.5, steps=3, batch_size=16)
    while not training.done:
        training.run_step()
    per_epoch = len(training.order)
    assert training.updates == training.total_updates == round(1.5 * per_epoch)
    assert training.history[-1][metrics.EPOCH] == pytest.approx(1.5, abs=0.5 / per_epoch)
    peak = training.config.lr
    assert training.history[-1][metrics.LEARNING_RATE] < 0.2 * peak
    assert metrics.is_complete(training.history[-1], training.config.model_dump())
    assert not metrics.is_complete(training.history[-2], training.config.model_dump())


def test_past_the_deadline_a_step_ends_with_its_update_and_is_scored_and_can_be_continued(
    build, tmp_path: Path
) -> None:
    values = {"batch_size": 8, "steps": 2}
    undisturbed, cut, continued = build(**values), build(**values), build(**values)
    cut.run_step()
    cut.deadline = time.time()
    record = cut.run_step()
    assert record[metrics.STEP] == pytest.approx(1 + 1 / (cut.total_updates - cut.total_updates // 2))
    assert record[metrics.UPDATES] == cut.total_updates // 2 + 1
    assert 0 <= record[metrics.SELECT_TOP1] <= 1
    assert not cut.done
    save_checkpoint(cut, tmp_path)
    load_checkpoint(continued, tmp_path)
    record = continued.run_step()
    assert (record[metrics.STEP], continued.done) == (2, True)
    while not undisturbed.done:
        undisturbed.run_step()
    assert_same(cpu_weights(continued.machinery.model), cpu_weights(undisturbed.machinery.model))


def test_more_steps_than_updates_are_refused(build) -> None:
    with pytest.raises(UserError, match=r"test_vit: 1000 steps, but its 3 epochs are only \d+ updates of 32 images"):
        build(steps=1000)


def test_a_checkpoint_of_a_version_that_saved_whole_epochs_only_continues(build, tmp_path: Path) -> None:
    undisturbed, old, continued = build(), build(), build()
    old.run_step()
    save_checkpoint(old, tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    state["epoch"] = state.pop("updates") // len(old.order)
    del state["generators"]
    for record in state["history"]:
        del record[metrics.STEP], record[metrics.UPDATES]
    torch.save(state, tmp_path / "state.pt")
    record = json.loads((tmp_path / "trial.json").read_text())
    record["crc32"]["state.pt"] = checksum(tmp_path / "state.pt")
    (tmp_path / "trial.json").write_text(json.dumps(record))
    load_checkpoint(continued, tmp_path)
    while not continued.done:
        continued.run_step()
    while not undisturbed.done:
        undisturbed.run_step()
    assert_same(cpu_weights(continued.machinery.model), cpu_weights(undisturbed.machinery.model))
    assert metrics.step_of(continued.history[0]) == 1


def test_ties_of_top1_are_decided_by_the_loss_and_nothing_else_is() -> None:
    def score(top1: float, loss: float) -> float:
        return rank_score({metrics.SCORE: top1, metrics.SELECT_LOSS: loss})

    assert score(0.5, 1.0) > score(0.5, 1.1) > score(0.5, math.inf)
    assert score(0.5, math.inf) > score(0.4999 - TIE, 0.0)
    assert math.isnan(rank_score({}))
