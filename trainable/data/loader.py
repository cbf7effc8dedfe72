"""Batches for an epoch: gathered from the memory-mapped cache, augmented, the same for any number of workers."""

import math
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import albumentations as A
import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from trainable.config import TrialConfig
from trainable.data.augmentation import augment, build_policy, resized, strength_at, training_size
from trainable.data.cache import CachedImages

DEATH_S = 1.0
"""How long all workers together are waited for, to see whether one of them is dying."""

EpochRows = tuple[float, np.ndarray]
"""What names a batch: the epochs before it, with the share of its own, and the rows of the cache. Workers hold no other
state."""


@dataclass
class BatchOrder(Sampler[EpochRows]):
    """The batches of one epoch: a permutation of `rows` fixed by seed and epoch. Set `epoch` before iterating.

    A last batch that isn't full is dropped, unless it is the only one. Iterating gives those from `start` to `stop`.
    """

    rows: np.ndarray
    batch_size: int
    seed: int
    epoch: int = 0
    start: int = 0
    stop: int | None = None

    def __len__(self) -> int:
        return max(1, len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[EpochRows]:
        for index, rows in list(enumerate(self.whole()))[self.start : self.stop]:
            yield self.epoch + index / len(self), rows

    def whole(self) -> list[np.ndarray]:
        """The rows of each batch of the epoch, whichever are iterated."""
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.rows)
        return [order[index * self.batch_size : (index + 1) * self.batch_size] for index in range(len(self))]


class AugmentedBatches(TorchDataset[tuple[torch.Tensor, torch.Tensor]]):
    """Maps an epoch and rows to uint8 images (batch, H, W, 3) and labels (batch,), augmented for that epoch."""

    def __init__(self, cache: CachedImages, config: TrialConfig) -> None:
        self.cache = cache
        self.config = config
        self._policy: tuple[tuple[int, int], A.Compose] | None = None

    def __getitem__(self, batch: EpochRows) -> tuple[torch.Tensor, torch.Tensor]:
        done, rows = batch
        epoch, size = math.floor(done), training_size(self.config, done, self.cache.images.shape[1])
        seeds = rows + (self.config.seed << 32)
        images = augment(self.policy(epoch, size), resized(self.cache.images[rows], size), seeds, epoch)
        return torch.from_numpy(images), torch.from_numpy(self.cache.labels[rows])

    def policy(self, epoch: int, size: int) -> A.Compose:
        """The policy of an epoch at a size, built once for each."""
        if self._policy is None or self._policy[0] != (epoch, size):
            config = self.config
            strength = strength_at(epoch, config.epochs)
            self._policy = (epoch, size), build_policy(config.augment, strength, size, config.flip)
        return self._policy[1]


def train_loader(
    cache: CachedImages, order: BatchOrder, config: TrialConfig, workers: int, pin: bool
) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    """Loader of the batches that `order` names; its worker processes live as long as it does."""
    return DataLoader(
        AugmentedBatches(cache, config),
        sampler=order,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=_one_thread,
        pin_memory=pin,
        collate_fn=_channels_first if pin else None,
        generator=torch.Generator(),  # else each iterator draws from the global one, which dropout and mixing use
    )


def _channels_first(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """As timm's PrefetchLoader takes images: (batch, 3, H, W), still channels-last in memory."""
    images, labels = batch
    return images.permute(0, 3, 1, 2), labels


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)  # a forked worker has OpenCV's thread pool in name only


def choose_workers(device: torch.device, cores: int, augment: str) -> tuple[int, str]:
    """Worker processes beside the training process, and why."""
    if device.type == "cpu":
        return 0, "on a CPU, workers would take the cores that train"
    if augment == "none":
        return 0, "gathering from the cache needs no worker"
    if cores < 2:
        return 0, "the trial has one core"
    return cores - 1, f"augmentation takes the trial's other {cores - 1} cores"


def dead_workers(loader: DataLoader) -> str | None:
    """One line that names the worker processes of `loader` that died, says how, and what helps; None if none did.

    To be asked after any error in an epoch: torch's has the pid at best, and may be a connection that broke off.
    """
    workers = getattr(loader._iterator, "_workers", [])
    with suppress(RuntimeError):  # of torch's handler of SIGCHLD, which raises wherever the main thread is
        for worker in workers:
            worker.join(DEATH_S / len(workers))  # its connections break off before it counts as dead
    deaths = [f"with pid {worker.pid} {_end(worker.exitcode)}" for worker in workers if worker.exitcode]
    if not deaths:
        return None
    return (
        f"data worker {', data worker '.join(deaths)}: the machine may have run out of memory or of /dev/shm; "
        "give fewer --cpus-per-trial (a single run: --threads), all but one of which are workers, or a larger /dev/shm"
    )


def _end(exit_code: int) -> str:
    return f"was killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"ended with exit code {exit_code}"


def in_order(cache: CachedImages, rows: np.ndarray, batch_size: int) -> Iterator[torch.Tensor]:
    """Unaugmented uint8 images (batch, H, W, 3) of `rows`, in their order."""
    for start in range(0, len(rows), batch_size):
        yield torch.from_numpy(cache.images[rows[start : start + batch_size]])
