import os
import pickle
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainable.config import TrialConfig
from trainable.data.dataset import Dataset, open_dataset
from trainable.data.loader import AugmentedBatches, BatchOrder, choose_workers, dead_workers, in_order, train_loader

SIZES = {"count": st.integers(1, 200), "batch_size": st.integers(1, 64)}
IDLE_S = 0.3
"""After which workers have fetched ahead what they may, and hold no lock that one killed would take along."""
TIMES = {"seed": st.integers(0, 2**31 - 1), "epoch": st.integers(0, 1000)}


@pytest.fixture(scope="module")
def colours(colour_folder: Path) -> Dataset:
    return open_dataset(colour_folder, progress=False)


def config(**values) -> TrialConfig:
    return TrialConfig.model_validate({"data": "colours", "batch_size": 32, "epochs": 4} | values)


def rows_of(order: BatchOrder) -> list[list[int]]:
    return [rows.tolist() for _, rows in order]


@given(**SIZES, **TIMES)
def test_an_epoch_visits_each_row_at_most_once_in_full_batches(
    count: int, batch_size: int, seed: int, epoch: int
) -> None:
    rows = np.arange(count) * 3 + 7
    order = BatchOrder(rows, batch_size, seed, epoch)
    batches = rows_of(order)
    visited = [row for batch in batches for row in batch]
    assert len(batches) == len(order)
    assert len(visited) == len(set(visited))
    assert set(visited) <= set(rows.tolist())
    if count >= batch_size:
        assert {len(batch) for batch in batches} == {batch_size}
        assert len(visited) > count - batch_size  # no more than one batch's worth is left out
    else:
        assert sorted(visited) == rows.tolist()


@given(**SIZES, **TIMES)
def test_seed_and_epoch_fix_the_order(count: int, batch_size: int, seed: int, epoch: int) -> None:
    first, second = (BatchOrder(np.arange(count), batch_size, seed, epoch) for _ in range(2))
    assert rows_of(first) == rows_of(first) == rows_of(second)


def test_another_epoch_and_another_seed_have_another_order() -> None:
    rows = np.arange(64)
    orders = {str(rows_of(BatchOrder(rows, 8, seed, epoch))) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_fewer_images_than_a_batch_make_one_batch(colours: Dataset) -> None:
    order = BatchOrder(colours.splits.train[:5], 32, seed=0)
    (batch,) = train_loader(colours.cache, order, config(), workers=0, pin=False)
    assert batch[0].shape == (5, 32, 32, 3)
    assert batch[1].shape == (5,)


def test_a_loader_gives_uint8_images_with_their_labels(colours: Dataset) -> None:
    order = BatchOrder(colours.splits.train, 32, seed=0)
    loader = train_loader(colours.cache, order, config(augment="none"), workers=0, pin=False)
    for (images, labels), (_, rows) in zip(loader, order, strict=True):
        assert images.dtype == torch.uint8
        assert labels.dtype == torch.int64
        np.testing.assert_array_equal(images, colours.cache.images[rows])
        np.testing.assert_array_equal(labels, colours.cache.labels[rows])


@pytest.mark.parametrize("augment", ["light", "full"])
def test_any_number_of_workers_gives_the_same_batches(colours: Dataset, augment: str) -> None:
    epochs = []
    for workers in (0, 2):
        order = BatchOrder(colours.splits.train, 32, seed=1)
        loader = train_loader(colours.cache, order, config(seed=1, augment=augment), workers, pin=False)
        batches = []
        for epoch in (1, 3):
            order.epoch = epoch
            batches += list(loader)
        epochs.append(batches)
    for (images, labels), (other_images, other_labels) in zip(*epochs, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


def test_iterating_leaves_torchs_generator_alone(colours: Dataset) -> None:
    """Mixing and dropout draw from it, and workers that live on would draw less often than new ones."""
    loader = train_loader(colours.cache, BatchOrder(colours.splits.train, 32, seed=0), config(), workers=0, pin=False)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    list(loader)
    assert torch.equal(torch.get_rng_state(), state)


def test_images_of_an_epoch_are_augmented_with_that_epochs_strength(colours: Dataset) -> None:
    batches = AugmentedBatches(colours.cache, config(augment="light"))
    rows = colours.splits.train[:16]
    first, later = batches[0, rows][0].numpy(), batches[3, rows][0].numpy()
    np.testing.assert_array_equal(first, colours.cache.images[rows])
    assert not np.array_equal(later, first)
    np.testing.assert_array_equal(batches[0, rows][0], first)


def test_another_seed_augments_otherwise(colours: Dataset) -> None:
    rows = colours.splits.train[:16]
    one, other = (AugmentedBatches(colours.cache, config(seed=seed))[3, rows][0] for seed in (0, 1))
    assert not torch.equal(one, other)


def test_a_loaders_data_set_travels_to_a_worker_as_a_path_not_as_pixels(colours: Dataset) -> None:
    batches = AugmentedBatches(colours.cache, config())
    assert len(pickle.dumps(batches)) < 10_000
    rows = colours.splits.train[:4]
    copy = pickle.loads(pickle.dumps(batches))
    assert torch.equal(copy[3, rows][0], batches[3, rows][0])


def test_a_worker_that_is_killed_is_named_and_living_ones_are_not(colours: Dataset) -> None:
    loader = train_loader(colours.cache, BatchOrder(colours.splits.train, 2, seed=0), config(), workers=2, pin=False)
    assert dead_workers(loader) is None
    batches = iter(loader)
    assert dead_workers(loader) is None
    killed, _ = batches._workers
    time.sleep(IDLE_S)
    with pytest.raises((RuntimeError, OSError, EOFError)):  # noqa: PT012 the next test says what it becomes
        os.kill(killed.pid, signal.SIGBUS)
        list(batches)
    told = dead_workers(loader)
    assert told.startswith(f"data worker with pid {killed.pid} was killed by SIGBUS: ")
    assert "--cpus-per-trial" in told
    assert told.count("pid") == 1


def test_without_workers_none_can_die(colours: Dataset) -> None:
    loader = train_loader(colours.cache, BatchOrder(colours.splits.train, 32, seed=0), config(), workers=0, pin=False)
    list(loader)
    assert dead_workers(loader) is None


@given(count=st.integers(1, 40), batch_size=st.integers(1, 50))
def test_in_order_gives_every_row_once_in_its_order(colours: Dataset, count: int, batch_size: int) -> None:
    rows = colours.splits.train[:count][::-1]
    batches = list(in_order(colours.cache, rows, batch_size))
    assert max(len(batch) for batch in batches) <= batch_size
    np.testing.assert_array_equal(torch.cat(batches), colours.cache.images[rows])


@pytest.mark.parametrize(
    ("device", "cores", "augment", "workers", "reason"),
    [
        ("cpu", 8, "full", 0, "CPU"),
        ("cuda", 8, "none", 0, "needs no worker"),
        ("cuda", 1, "full", 0, "one core"),
        ("cuda", 2, "light", 1, "other 1 core"),
        ("cuda", 8, "full", 7, "other 7 cores"),
    ],
)
def test_the_number_of_workers_comes_with_its_reason(device, cores, augment, workers, reason) -> None:
    chosen, why = choose_workers(torch.device(device), cores, augment)
    assert chosen == workers
    assert reason in why


@pytest.mark.parametrize("augment", ["none", "light", "full"])
def test_images_grow_with_the_epochs_where_asked_for(colours: Dataset, augment: str) -> None:
    batches = AugmentedBatches(colours.cache, config(augment=augment, progressive_resize=True))
    sides = [batches[epoch, colours.splits.train[:2]][0].shape[1:3] for epoch in range(4)]
    full = colours.image_size
    assert sides == [(side, side) for side in (full // 2, full // 2, full * 3 // 4, full)]
