"""An epoch, or a part of one, as plain functions on modules and tensors: train, predict, score."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import torch
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3, accuracy
from torch import nn
from torch.nn import functional

from trainable import metrics
from trainable.data.mixing import BatchMixer
from trainable.device import Arithmetic
from trainable.time_split import TimeSplit

Result = TypeVar("Result")


class Normalise(nn.Module):
    """uint8 images (batch, H, W, 3) -> floats (batch, 3, H, W) with the given mean and standard deviation."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.offset: torch.Tensor
        self.scale: torch.Tensor
        self.register_buffer("offset", 255 * torch.tensor(mean))
        self.register_buffer("scale", 1 / (255 * torch.tensor(std)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise one batch; the result is channels-last in memory, as the cache is."""
        width = images.shape[2]
        rows = images.float().flatten(2)  # whole rows of 3 x W, since torch is slow on an inner dimension of 3
        rows.sub_(self.offset.repeat(width)).mul_(self.scale.repeat(width))
        return rows.view(images.shape).permute(0, 3, 1, 2)


@dataclass
class MicroBatch:
    """How many images pass through the model at once: all of a batch, until memory runs out."""

    images: int

    def halve(self, batch: int) -> None:
        """Go on with half of what a batch of `batch` images was tried with, rounded up."""
        self.images = (min(self.images, batch) + 1) // 2


@dataclass
class Machinery:
    """What an epoch works with: the model, its optimiser and schedule, and how numbers are treated."""

    model: nn.Module
    normalise: Normalise
    optimizer: torch.optim.Optimizer
    schedule: CosineLRScheduler
    scaler: torch.amp.GradScaler
    arithmetic: Arithmetic
    ema: ModelEmaV3 | None
    device: torch.device
    micro_batch: MicroBatch
    eval_micro_batch: MicroBatch
    frozen: list[nn.Module] = field(default_factory=list)
    """Modules that stay as in evaluation while the others train."""
    split: TimeSplit = field(init=False)
    """Of the latest step."""

    def __post_init__(self) -> None:
        self.split = TimeSplit(self.device)

    def autocast(self) -> torch.autocast:
        """The forward pass's arithmetic as a context."""
        dtype = self.arithmetic.dtype
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def train_mode(self) -> None:
        """Make the model ready for updates."""
        self.model.train()
        for module in self.frozen:
            module.eval()

    @property
    def evaluated(self) -> nn.Module:
        """The module that is evaluated and kept: the moving average where there is one."""
        return self.ema.module if self.ema else self.model


class TrainScores(NamedTuple):
    """Means over training images; `finite` is False if the loss stopped being a number."""

    loss: float
    top1: float
    top5: float
    images: int
    finite: bool
    updates: int


def together(parts: Sequence[TrainScores]) -> TrainScores:
    """The scores of one part after the other, at least one."""
    if len(parts) == 1:
        return parts[0]
    images = sum(part.images for part in parts)
    loss, top1, top5 = (sum(part[column] * part.images for part in parts) / images for column in range(3))
    finite, updates = parts[-1].finite, sum(part.updates for part in parts)
    return TrainScores(loss, top1, top5, images, finite, updates)


class HeldOutScores(NamedTuple):
    """Mean cross-entropy in nats, and accuracies in 0..1."""

    loss: float
    top1: float
    top5: float


def train_epoch(
    machinery: Machinery,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    mixer: BatchMixer,
    label_smoothing: float,
    clip_grad: float | None,
    first_update: int,
    is_over: Callable[[], bool] = lambda: False,
) -> TrainScores:
    """One pass over `batches` of images and labels (batch,); ends where the loss diverges, on a GPU soon after, and
    after the update at which `is_over`.

    Images are bytes (batch, H, W, 3), or floats (batch, 3, H, W) that are normalised already. Nothing in the loop waits
    for the device: the sums of loss and hits are copied to the host beside it, and looked at as they arrive.
    """
    machinery.train_mode()
    split = machinery.split
    sums = torch.zeros(3, device=machinery.device)
    arrived = torch.zeros(3, pin_memory=machinery.device.type == "cuda")
    look = arrived.numpy()
    images_seen, index = 0, -1
    for index, (images, labels) in enumerate(split.updates_of(batches)):
        machinery.schedule.step_update(first_update + index)
        if images.dtype == torch.uint8:
            images = machinery.normalise(images.to(machinery.device, non_blocking=True))
        labels = labels.to(machinery.device, non_blocking=True)
        split.mark(metrics.SECONDS_DATA)
        images, targets = mixer(images, labels)
        loss, logits = gradients(machinery, images, targets, label_smoothing)
        step(machinery, clip_grad, first_update + index)
        split.mark(metrics.SECONDS_UPDATE)
        with torch.no_grad():
            sums += len(labels) * torch.stack([loss.float(), *top_accuracies(logits, targets.argmax(1))])
        images_seen += len(labels)
        arrived.copy_(sums, non_blocking=True)
        if not math.isfinite(look[0]) or is_over():
            break
    loss, top1, top5 = (sums / images_seen).tolist()
    return TrainScores(loss, top1, top5, images_seen, math.isfinite(loss), index + 1)


def gradients(
    machinery: Machinery, images: torch.Tensor, targets: torch.Tensor, label_smoothing: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Leave the gradients of a batch's mean loss in the model; returns that loss and the logits (batch, classes).

    Gradients of micro-batches add up to the whole batch's, but for batch norm, which sees one micro-batch at a time.
    After a failed attempt dropout draws anew, and batch norm's running statistics have seen some images twice.
    """

    def attempt(size: int) -> tuple[torch.Tensor, torch.Tensor]:
        machinery.optimizer.zero_grad(set_to_none=True)
        if size >= len(images):
            return backward(machinery, images, targets, label_smoothing)
        parts = [
            backward(machinery, part, wanted, label_smoothing, share=len(part) / len(images))
            for part, wanted in zip(images.split(size), targets.split(size), strict=True)
        ]
        losses, logits = zip(*parts, strict=True)
        return torch.stack(losses).sum(), torch.cat(logits)

    return fitting(machinery, machinery.micro_batch, len(images), attempt)


def backward(
    machinery: Machinery, images: torch.Tensor, targets: torch.Tensor, label_smoothing: float, share: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add the gradients of `share` times the mean loss to those in the model; returns that loss and the logits."""
    with machinery.autocast():
        logits = machinery.model(images)
        loss = functional.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    if share != 1:
        loss = loss * share
    machinery.split.mark(metrics.SECONDS_FORWARD)
    machinery.scaler.scale(loss).backward()
    machinery.split.mark(metrics.SECONDS_BACKWARD)
    return loss.detach(), logits.detach()


def fitting(machinery: Machinery, micro_batch: MicroBatch, batch: int, attempt: Callable[[int], Result]) -> Result:
    """What `attempt` returns for the first micro-batch that fits into memory; a micro-batch of 1 that doesn't, raises.

    Only passes through the model are attempted again. By the optimiser's step their memory is free again, so that one
    that runs out there can't be helped, and would leave weights half updated.
    """
    while True:
        try:
            return attempt(micro_batch.images)
        except torch.OutOfMemoryError:
            if micro_batch.images == 1 or batch == 1:
                raise
        micro_batch.halve(batch)
        release(machinery)  # not in the except clause: there the traceback still holds the failed attempt's tensors


def release(machinery: Machinery) -> None:
    """Give back what a failed attempt left: gradients, and on a GPU the blocks that torch's allocator keeps."""
    machinery.optimizer.zero_grad(set_to_none=True)
    if machinery.device.type == "cuda":
        torch.cuda.empty_cache()


def step(machinery: Machinery, clip_grad: float | None, number: int) -> None:
    """One step of the optimiser along the gradients in the model, unscaled and clipped as configured."""
    if clip_grad is not None:
        machinery.scaler.unscale_(machinery.optimizer)
        torch.nn.utils.clip_grad_norm_(machinery.model.parameters(), clip_grad)
    machinery.scaler.step(machinery.optimizer)
    machinery.scaler.update()
    if machinery.ema:
        machinery.ema.update(machinery.model, step=number)


@torch.inference_mode()
def predict_logits(machinery: Machinery, batches: Iterable[torch.Tensor]) -> torch.Tensor:
    """float32 logits (images, classes) on the CPU for batches of uint8 images (batch, H, W, 3)."""
    machinery.evaluated.eval()
    return torch.cat([part for images in batches for part in batch_logits(machinery, images)]).cpu()


def batch_logits(machinery: Machinery, images: torch.Tensor) -> list[torch.Tensor]:
    """The logits of one batch, in as many parts as memory makes necessary."""

    def attempt(size: int) -> list[torch.Tensor]:
        outputs = []
        for part in images.split(size):
            with machinery.autocast():
                outputs.append(machinery.evaluated(machinery.normalise(part.to(machinery.device))).float())
        return outputs

    return fitting(machinery, machinery.eval_micro_batch, len(images), attempt)


def score(logits: torch.Tensor, labels: torch.Tensor) -> HeldOutScores:
    """Loss, top-1 and top-5 of logits (images, classes) against labels (images,)."""
    loss = functional.cross_entropy(logits, labels).item()
    top1, top5 = (share.item() for share in top_accuracies(logits, labels))
    return HeldOutScores(loss, top1, top5)


def top_accuracies(logits: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
    """Top-1 and top-5 accuracy in 0..1; with fewer than five classes top-5 is 1."""
    return [percent / 100 for percent in accuracy(logits, labels, topk=(1, 5))]
