import re
from pathlib import Path

import numpy as np
import pytest
import torch

from trainable.config import TrialConfig
from trainable.data import resident
from trainable.data.dataset import Dataset, open_dataset
from trainable.data.loader import BatchOrder
from trainable.data.resident import ResidentBatches, choose_place

CPU, GPU = torch.device("cpu"), torch.device("cuda")
OFFSET, SCALE = torch.zeros(3), torch.ones(3)


@pytest.fixture(scope="module")
def colours(colour_folder: Path) -> Dataset:
    return open_dataset(colour_folder, progress=False)


def batches_of(colours, epoch: int = 2, batch_size: int = 8, **values) -> ResidentBatches:
    config = TrialConfig.model_validate({"data": Path("colours"), "epochs": 4, "batch_size": batch_size} | values)
    order = BatchOrder(colours.splits.train, batch_size, config.seed, epoch)
    return ResidentBatches(colours.cache, order, config, OFFSET, SCALE, CPU)


def test_without_augmentation_batches_are_the_images_that_the_order_names(colours) -> None:
    batches = batches_of(colours, augment="none")
    expected = [rows for _, rows in batches.order]
    assert len(batches) == len(expected)
    for (images, labels), rows in zip(batches, expected, strict=True):
        np.testing.assert_allclose(images.permute(0, 2, 3, 1), colours.cache.images[rows], atol=1e-3)
        np.testing.assert_array_equal(labels, colours.cache.labels[rows])


def test_an_epoch_follows_from_the_seed_and_its_number(colours) -> None:
    def first_images(**values) -> torch.Tensor:
        return next(iter(batches_of(colours, **values)))[0]

    assert torch.equal(first_images(), first_images())
    assert not torch.equal(first_images(), first_images(seed=1))
    assert not torch.equal(first_images(), first_images(epoch=3))


def test_images_grow_with_the_epochs_where_asked_for(colours) -> None:
    side = colours.image_size
    sizes = [
        next(iter(batches_of(colours, epoch, augment="full", progressive_resize=True)))[0].shape[2:]
        for epoch in range(4)
    ]
    assert sizes == [(size, size) for size in (side // 2, side // 2, side * 3 // 4, side)]


@pytest.mark.parametrize(
    ("asked", "device", "gigabytes", "on_device", "reason"),
    [
        ("auto", CPU, 1, False, "one by one"),
        ("device", CPU, 1, True, "as asked"),
        ("host", GPU, 1, False, "as asked"),
        ("auto", GPU, 1, True, r"1\.00 GB lie on the GPU"),
        ("auto", GPU, 3, False, r"3\.00 GB would take over 2\.00 GB"),
    ],
)
def test_the_place_of_the_data_comes_with_its_reason(
    asked, device, gigabytes, on_device, reason, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident, "usable_bytes", lambda _: 8e9)
    place = choose_place(asked, device, int(gigabytes * 1e9))
    assert place.on_device == on_device
    assert re.search(reason, place.reason)
