"""The other sides of `benchmarks.train_step`: each trains for ever and yields after an update how many images it took.

`limit` and `defaults` go over one batch in memory, `timm_loop` and `imagefolder_loop` over JPEG files.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import AverageMeter, dispatch_clip_grad
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks._peer_transforms import ERASED_P, peer_bytes, peer_transform, timm_batches
from trainable.architectures import build_model, normalisation
from trainable.config import TrialConfig
from trainable.data.dataset import Dataset
from trainable.data.mixing import CUTMIX_ALPHA, MIXUP_ALPHA
from trainable.device import Arithmetic
from trainable.training import build_machinery

UPDATES = 1_000_000
"""Length of the schedules, which no measurement reaches."""
Updates = Iterator[int]


@dataclass(frozen=True)
class Common:
    """What all sides have in common: configuration, images, device, type of autocast, and loader processes."""

    config: TrialConfig
    dataset: Dataset
    device: torch.device
    arithmetic: Arithmetic
    workers: int

    def model(self) -> nn.Module:
        """A model in torch's default memory format, that is contiguous, on the device."""
        return build_model(self.config, self.dataset.num_classes, self.dataset.image_size).to(self.device).train()


@dataclass(frozen=True)
class Step:
    """Forward, backward and the optimiser's step of one model."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    arithmetic: Arithmetic
    device: torch.device
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    clip: Callable[[Iterable[nn.Parameter]], Any] | None = None

    def run(self, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> Iterator[torch.Tensor]:
        """One update a batch; yields its loss."""
        dtype = self.arithmetic.dtype
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.arithmetic.scale_gradients)
        for images, targets in batches:
            with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
                loss = self.loss(self.model(images), targets)
            scaler.scale(loss).backward()
            if self.clip is not None:
                scaler.unscale_(self.optimizer)
                self.clip(self.model.parameters())
            scaler.step(self.optimizer)
            scaler.update()
            self.optimizer.zero_grad()  # at the end, so that no memory is held while other sides are measured
            yield loss.detach()


def limit(common: Common) -> Updates:
    """Our model, optimiser, precision and memory format on one batch that lies on the device: nothing else is done."""
    machinery = build_machinery(common.config, common.dataset, common.device, UPDATES)
    machinery.model.train()
    step = Step(machinery.model, machinery.optimizer, common.arithmetic, common.device, smoothed(common))
    images, targets = one_batch(common)
    images = images.contiguous(memory_format=torch.channels_last)
    return (len(images) for _ in step.run(for_ever([(images, targets)])))


def defaults(common: Common, arithmetic: Arithmetic) -> Updates:
    """The same in `arithmetic` with what plain PyTorch does unasked: contiguous memory, AdamW as it is constructed."""
    model = common.model()
    step = Step(model, AdamW(model.parameters()), arithmetic, common.device, smoothed(common))
    images, targets = one_batch(common)
    return (len(images) for _ in step.run(for_ever([(images, targets)])))


def timm_loop(common: Common) -> Updates:
    """Loader, mixing, loss, optimiser, clipping and loop as timm's train script has them; the prefetcher on a GPU only.

    The loss is read after every update, as there.
    """
    config, model = common.config, common.model()
    mixup = Mixup(
        mixup_alpha=MIXUP_ALPHA,
        cutmix_alpha=CUTMIX_ALPHA,
        prob=config.mix_prob,
        label_smoothing=config.label_smoothing,
        num_classes=common.dataset.num_classes,
    )
    optimizer = create_optimizer_v2(
        model, opt="adamw", lr=config.lr, weight_decay=config.weight_decay, layer_decay=config.layer_decay
    )
    schedule = CosineLRScheduler(optimizer, t_initial=UPDATES, t_in_epochs=False)
    mixed = (
        mixup(images.to(common.device), labels.to(common.device))
        for images, labels in for_ever(timm_loader(common, model))
    )

    def clip(parameters: Iterable[nn.Parameter]) -> None:
        if config.clip_grad is not None:
            dispatch_clip_grad(parameters, value=config.clip_grad, mode="norm")

    step = Step(model, optimizer, common.arithmetic, common.device, SoftTargetCrossEntropy(), clip)
    losses = AverageMeter()
    for number, loss in enumerate(step.run(mixed)):
        losses.update(loss.item(), config.batch_size)
        schedule.step_update(num_updates=number, metric=losses.avg)
        yield config.batch_size


def timm_loader(common: Common, model: nn.Module) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    """timm's data set and loader with our policy's counterpart in torchvision."""
    config, size, on_gpu = common.config, common.dataset.image_size, common.device.type == "cuda"
    mean, std = normalisation(model)
    transform = peer_bytes(config.augment, size) if on_gpu else peer_transform(config.augment, size, mean, std)
    return timm_batches(
        config,
        size,
        transform,
        mean=mean,
        std=std,
        re_prob=ERASED_P if config.augment == "full" else 0.0,
        use_prefetcher=on_gpu,
        num_workers=common.workers,
        persistent_workers=common.workers > 0,
        pin_memory=on_gpu,
        device=common.device,
    )


def imagefolder_loop(common: Common) -> Updates:
    """A plain loop with what the configuration asks for: ImageFolder, DataLoader, AdamW, CutMix and MixUp."""
    config, model, on_gpu = common.config, common.model(), common.device.type == "cuda"
    folder = ImageFolder(
        f"{config.data}/train", peer_transform(config.augment, common.dataset.image_size, *normalisation(model))
    )
    loader = DataLoader(
        folder,
        config.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=common.workers,
        pin_memory=on_gpu,
        persistent_workers=common.workers > 0,
    )
    optimizer = AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    schedule = CosineAnnealingLR(optimizer, UPDATES)
    mix = v2.RandomApply([mixing(common)], p=config.mix_prob)
    mixed = (
        mix(images.to(common.device, non_blocking=True), labels.to(common.device, non_blocking=True))
        for images, labels in for_ever(loader)
    )

    def clip(parameters: Iterable[nn.Parameter]) -> None:
        if config.clip_grad is not None:
            torch.nn.utils.clip_grad_norm_(parameters, config.clip_grad)

    for loss in Step(model, optimizer, common.arithmetic, common.device, smoothed(common), clip).run(mixed):
        schedule.step()
        loss.item()
        yield config.batch_size


def mixing(common: Common) -> nn.Module:
    """CutMix or MixUp of torchvision, which make labels (batch,) soft."""
    classes = common.dataset.num_classes
    return v2.RandomChoice(
        [v2.CutMix(alpha=CUTMIX_ALPHA, num_classes=classes), v2.MixUp(alpha=MIXUP_ALPHA, num_classes=classes)]
    )


def smoothed(common: Common) -> nn.Module:
    """torch's cross-entropy, of hard or soft targets."""
    return nn.CrossEntropyLoss(label_smoothing=common.config.label_smoothing)


def one_batch(common: Common) -> tuple[torch.Tensor, torch.Tensor]:
    """Random floats (batch, 3, H, W) and soft targets (batch, classes) on the device."""
    config, side = common.config, common.dataset.image_size
    images = torch.randn(config.batch_size, 3, side, side, device=common.device)
    targets = torch.rand(config.batch_size, common.dataset.num_classes, device=common.device).softmax(1)
    return images, targets


def for_ever(batches: Iterable[Any]) -> Iterator[Any]:
    """Epoch after epoch; at least one batch has to be in it."""
    while True:
        yield from batches
