"""The training loop that a user would write in plain PyTorch: the other side of `benchmarks.epoch_time`.

It does what the configuration asks for and nothing else: no record, no best epoch, no training accuracy, no progress.
"""

import math

import numpy as np
import torch
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR
from torchvision.transforms import v2

from trainable.architectures import build_model, normalisation
from trainable.config import TrialConfig
from trainable.data.augmentation import build_policy, strength_at
from trainable.data.dataset import Dataset
from trainable.data.mixing import CUTMIX_ALPHA, MIXUP_ALPHA
from trainable.device import Arithmetic


class PlainLoop:
    """Model, optimiser and decoded images in memory; `run_epoch` trains and evaluates one epoch."""

    def __init__(
        self,
        config: TrialConfig,
        dataset: Dataset,
        train_rows: np.ndarray,
        held_out_rows: np.ndarray,
        device: torch.device,
        arithmetic: Arithmetic,
    ) -> None:
        self.config, self.device, self.arithmetic = config, device, arithmetic
        self.classes, self.image_size = dataset.num_classes, dataset.image_size
        self.images, self.labels = np.array(dataset.cache.images), torch.from_numpy(dataset.cache.labels)
        self.train_rows, self.held_out_rows = train_rows, held_out_rows
        model = build_model(config, self.classes, self.image_size).to(device)
        self.model = model.to(memory_format=torch.channels_last)
        self.mean, self.std = (torch.tensor(x, device=device).view(3, 1, 1) for x in normalisation(model))
        self.optimizer = AdamW(self.model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
        updates = round(config.epochs * max(1, len(train_rows) // config.batch_size))
        self.schedule = CosineAnnealingLR(self.optimizer, updates)
        self.scaler = torch.amp.GradScaler(device.type, enabled=arithmetic.scale_gradients)
        cutmix, mixup = (
            v2.CutMix(alpha=CUTMIX_ALPHA, num_classes=self.classes),
            v2.MixUp(alpha=MIXUP_ALPHA, num_classes=self.classes),
        )
        self.mix = v2.RandomChoice([cutmix, mixup])
        self.epoch = 0

    def run_epoch(self) -> float:
        """One epoch; returns the accuracy on the held-out images."""
        size = min(self.config.batch_size, len(self.train_rows))
        strength = strength_at(self.epoch, self.config.epochs)
        policy = build_policy(self.config.augment, strength, self.image_size, self.config.flip)
        order = np.random.permutation(self.train_rows)
        self.model.train()
        for start in range(0, len(order) - size + 1, size):
            rows = order[start : start + size]
            pixels = np.stack([policy(image=self.images[row])["image"] for row in rows])
            images, targets = self.normalise(pixels), self.labels[rows].to(self.device)
            if torch.rand(()).item() < self.config.mix_prob * strength:
                images, targets = self.mix(images, targets)
            if not math.isfinite(self.update(images, targets)):
                break
        self.epoch += 1
        return self.evaluate()

    def update(self, images: torch.Tensor, targets: torch.Tensor) -> float:
        """One step of the optimiser; returns the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            loss = functional.cross_entropy(self.model(images), targets, label_smoothing=self.config.label_smoothing)
        self.scaler.scale(loss).backward()
        if self.config.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        return loss.item()

    @torch.inference_mode()
    def evaluate(self, batch: int = 256) -> float:
        """Accuracy on the held-out images."""
        self.model.eval()
        right = 0
        for start in range(0, len(self.held_out_rows), batch):
            rows = self.held_out_rows[start : start + batch]
            with self.autocast():
                guesses = self.model(self.normalise(self.images[rows])).argmax(1)
            right += int((guesses.cpu() == self.labels[rows]).sum())
        return right / len(self.held_out_rows)

    def normalise(self, pixels: np.ndarray) -> torch.Tensor:
        """uint8 (batch, H, W, 3) -> floats (batch, 3, H, W), channels-last in memory."""
        images = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float()
        return images.div_(255).sub_(self.mean).div_(self.std)

    def autocast(self) -> torch.autocast:
        """The same arithmetic as ours."""
        dtype = self.arithmetic.dtype
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)
