"""Training batches without a loader: gathered where the images lie, and augmented there as a whole batch."""

from collections.abc import Iterator
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch

from trainable.config import DataOn, TrialConfig
from trainable.data.augmentation import strength_at, training_size
from trainable.data.batch_augmentation import Draws, apply_draws, draw
from trainable.data.cache import CachedImages
from trainable.data.loader import BatchOrder

DEVICE_SHARE = 0.25
"""Of a GPU's memory that this process may take: as much the decoded images may fill."""

_resident: WeakKeyDictionary[CachedImages, torch.Tensor] = WeakKeyDictionary()


class Place(NamedTuple):
    """Whether batches are gathered and augmented on the training's device, and why."""

    on_device: bool
    reason: str


def choose_place(asked: DataOn, device: torch.device, images_bytes: int) -> Place:
    """Resolve `auto`: on a GPU where the images fit; on a CPU it wasn't measured to be faster (docs/log.md)."""
    if asked != "auto":
        return Place(asked == "device", f"data on the {asked} as asked")
    if device.type == "cpu":
        return Place(False, "images are augmented one by one: on a CPU an epoch takes as long either way")
    room = DEVICE_SHARE * usable_bytes(device)
    if images_bytes <= room:
        return Place(True, f"the images' {images_bytes / 1e9:.2f} GB lie on the GPU")
    return Place(False, f"the images' {images_bytes / 1e9:.2f} GB would take over {room / 1e9:.2f} GB of the GPU")


def usable_bytes(device: torch.device) -> float:
    """Memory of a GPU that this process may take."""
    index = torch.cuda.current_device() if device.index is None else device.index
    return torch.cuda.get_per_process_memory_fraction(index) * torch.cuda.get_device_properties(index).total_memory


def on_gpu(cache: CachedImages, device: torch.device) -> torch.Tensor:
    """uint8 (N, H, W, 3): all decoded images, which lie on the GPU once a process, as long as the cache is open."""
    if cache not in _resident:
        _resident[cache] = torch.from_numpy(np.array(cache.images)).to(device)
    return _resident[cache]


def resident_in_order(cache: CachedImages, rows: np.ndarray, batch_size: int) -> Iterator[torch.Tensor]:
    """As `loader.in_order`, of the images that lie on the GPU already."""
    images = _resident[cache]
    places = torch.from_numpy(rows).to(images.device)
    for start in range(0, len(rows), batch_size):
        yield images[places[start : start + batch_size]]


class ResidentBatches:
    """The batches that `order` names, as normalised floats (batch, 3, H, W) and labels (batch,) on `device`.

    The epoch's random numbers follow from the seed and the epoch alone. On a CPU the images stay in the memory-mapped
    cache, which all trials share.
    """

    def __init__(
        self,
        cache: CachedImages,
        order: BatchOrder,
        config: TrialConfig,
        offset: torch.Tensor,
        scale: torch.Tensor,
        device: torch.device,
    ) -> None:
        self.cache, self.order, self.config, self.device = cache, order, config, device
        self.offset, self.scale = offset, scale
        self.labels = torch.from_numpy(cache.labels).to(device)
        self.images = on_gpu(cache, device) if device.type == "cuda" else None
        self.drawn: tuple[int, Draws, torch.Tensor] | None = None
        """The latest epoch, what was drawn for its images, and their rows, both on the device."""

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        draws, places = self._draw()
        side = self.cache.images.shape[1]
        start = self.order.start * self.order.batch_size
        for done, rows in self.order:
            stop, size = start + len(rows), training_size(self.config, done, side)
            images = (
                torch.from_numpy(self.cache.images[rows]) if self.images is None else self.images[places[start:stop]]
            )
            part = draws.part(start, stop)
            yield apply_draws(part, images, size, self.offset, self.scale), self.labels[places[start:stop]]
            start = stop

    def _draw(self) -> tuple[Draws, torch.Tensor]:
        """The epoch's draws and rows, of all its batches: a part of an epoch gets what it has in the whole."""
        config, epoch = self.config, self.order.epoch
        if self.drawn is None or self.drawn[0] != epoch:
            places = torch.from_numpy(np.concatenate(self.order.whole()))
            rng = np.random.default_rng((config.seed, epoch, 1))  # the order's is (seed, epoch)
            strength = strength_at(epoch, config.epochs)
            draws = draw(config.augment, strength, config.flip, self.cache.images.shape[1], len(places), rng)
            self.drawn = epoch, draws.on(self.device), places.to(self.device)
        return self.drawn[1], self.drawn[2]
