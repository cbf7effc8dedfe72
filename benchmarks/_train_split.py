"""Our side of `benchmarks.train_step`: real epochs of `Training`, and where their time goes."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.compare import images_per_second
from trainable import metrics
from trainable.checkpoint import save_checkpoint
from trainable.config import TrialConfig
from trainable.data.dataset import Dataset
from trainable.data.mixing import BatchMixer
from trainable.device import EVAL_BATCH
from trainable.epoch import score
from trainable.training import Training

PARTS = (
    "data",
    "host-to-device",
    "mixing",
    "forward",
    "backward",
    "optimiser",
    "metrics",
    "evaluation",
    "checkpoint",
)
"""Of an epoch, in their order."""
RECORDED = (
    metrics.SECONDS_TRAIN,
    metrics.SECONDS_DATA,
    metrics.SECONDS_FORWARD,
    metrics.SECONDS_BACKWARD,
    metrics.SECONDS_UPDATE,
)
"""A training's time and its parts in an epoch's record."""
CALLS = 20
"""How often mixing and copying, which take a moment only, are done to be timed."""


class Alone(NamedTuple):
    """Seconds a training image of what no epoch's record holds, each timed by itself."""

    copying: float
    mixing: float
    evaluation: float
    checkpoint: float


class OurTraining:
    """A training at the end of its schedules, where augmentation and mixing have their full strength."""

    def __init__(self, config: TrialConfig, dataset: Dataset, device: torch.device, cores: int) -> None:
        self.rows = dataset.splits.train
        # scored on one image: evaluation is timed by itself
        self.training = Training(config, dataset, self.rows, dataset.splits.select[:1], device, cores)
        self.records: list[dict[str, Any]] = []

    def run(self, updates: int) -> float:
        """An epoch of so many updates; returns its images/s and keeps its record."""
        self.training.order.rows = self.rows[: updates * self.training.config.batch_size]
        self.training.updates = self.training.total_updates  # behind the last one: strength is 1 there
        self.records.append(self.training.run_step())
        return self.records[-1][metrics.IMAGES_PER_SECOND]

    def split(self, seconds: float) -> dict[str, float]:
        """Milliseconds a training image by part, in the epochs since the records were last cleared."""
        return split_of(self.records, self.alone(seconds))

    def alone(self, seconds: float) -> Alone:
        """Time what the records don't hold, evaluation for `seconds` at least; writes one checkpoint."""
        training, config, dataset = self.training, self.training.config, self.training.dataset
        device, batch, side = training.machinery.device, config.batch_size, dataset.image_size
        labels = torch.arange(batch, device=device) % dataset.num_classes
        images = torch.rand(batch, side, side, 3, device=device).permute(0, 3, 1, 2)
        mixer = BatchMixer(dataset.num_classes, config.mix_prob, strength=1.0)
        mixing = timed(lambda: mixer(images, labels), device) / batch
        copying = 0.0
        if device.type == "cuda" and not training.place.on_device:
            pixels = torch.zeros(batch, side, side, 3, dtype=torch.uint8, pin_memory=True)
            copying = timed(lambda: pixels.to(device, non_blocking=True), device) / batch
        some = dataset.splits.select[: EVAL_BATCH if device.type == "cuda" else config.batch_size]
        truth = torch.from_numpy(dataset.cache.labels[some])

        def evaluate() -> int:
            score(training.predict(some), truth)
            return len(some)

        evaluate()
        share = len(dataset.splits.select) / len(self.rows)
        evaluation = share / images_per_second(evaluate, seconds)
        with tempfile.TemporaryDirectory() as folder:
            save_checkpoint(training, Path(folder))
        return Alone(copying, mixing, evaluation, training.seconds_checkpoint / len(self.rows))


def split_of(records: list[dict[str, Any]], alone: Alone) -> dict[str, float]:
    """Milliseconds a training image by part. The record's data hold the copying, and its forward pass the mixing.

    What is left of the training's time is called metrics: the counts of hits, and what an epoch begins and ends with.
    """
    images = sum(record[metrics.IMAGES_PER_SECOND] * record[metrics.SECONDS_TRAIN] for record in records)
    train, data, forward, backward, update = (sum(record[key] for record in records) / images for key in RECORDED)
    copying, mixing = min(alone.copying, data), min(alone.mixing, forward)
    rest = max(0.0, train - data - forward - backward - update)
    parts = (
        data - copying,
        copying,
        mixing,
        forward - mixing,
        backward,
        update,
        rest,
        alone.evaluation,
        alone.checkpoint,
    )
    return {name: 1000 * part for name, part in zip(PARTS, parts, strict=True)}


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Mean seconds of a call, the first one not counted."""
    call()
    wait_for(device)
    started = time.perf_counter()
    for _ in range(CALLS):
        call()
    wait_for(device)
    return (time.perf_counter() - started) / CALLS


def wait_for(device: torch.device) -> None:
    """Until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
