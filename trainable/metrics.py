"""Keys of the record that each step leaves, with their meaning and unit. Everything that reads a record uses these."""

import math
from collections.abc import Mapping
from typing import Any

STEP = "step"
"""Steps finished, from 1: equal parts of the full length. A fraction where a deadline cut a step short."""
UPDATES = "updates"
"""Updates of the optimiser so far; none of a probe."""
EPOCH = "epoch"
"""The same in passes over the training images; a fraction within one. A probe, which is at its full length at once,
says the epochs of that."""

TRAIN_LOSS = "train_loss"
"""Mean cross-entropy over the epoch's training batches, with label smoothing and mixed targets, in nats. Of a probe, on
training images that it wasn't fitted to, by cross-validation; so are the two accuracies."""
TRAIN_TOP1 = "train_top1"
"""Share of augmented training images whose first guess is the heavier of their mixed labels, 0 to 1."""
TRAIN_TOP5 = "train_top5"
"""The same among the first five guesses, 0 to 1."""

SELECT_LOSS = "select_loss"
"""Mean cross-entropy on the held-out images that decisions may see, without smoothing, in nats."""
SELECT_TOP1 = "select_top1"
"""Top-1 accuracy on those images, 0 to 1. This is what a search maximises."""
SELECT_TOP5 = "select_top5"
"""Top-5 accuracy on those images, 0 to 1."""

BEST_TOP1 = "best_select_top1"
"""The highest `select_top1` so far, 0 to 1."""
BEST_EPOCH = "best_epoch"
"""The epoch that reached it (at equal top-1, the one with the lower `select_loss`)."""

LEARNING_RATE = "learning_rate"
"""Learning rate of the epoch's last update (the highest group's, with layer-wise decay)."""
STRENGTH = "augmentation_strength"
"""Strength of the progressive augmentation in this epoch, 0 to 1."""

MICRO_BATCH = "micro_batch"
"""Training images a pass through the model: the batch, or a part of it since memory ran out in this epoch or before."""
IMAGES_PER_SECOND = "images_per_second"
"""Training images per second of training time."""
PEAK_MEMORY = "peak_memory_bytes"
"""Peak device memory on a GPU, peak resident memory of the process on a CPU, in bytes."""

SECONDS_DATA = "seconds_data"
SECONDS_FORWARD = "seconds_forward"
SECONDS_BACKWARD = "seconds_backward"
SECONDS_UPDATE = "seconds_update"
"""Parts of `seconds_train`: waiting for a batch and augmenting it, mixing and forward pass, backward pass, and the
optimiser's step with clipping and the moving average. On a GPU, of its time; it is sampled there, and scaled. Of a
probe only the first: until its features were there."""
SECONDS_TRAIN = "seconds_train"
SECONDS_EVAL = "seconds_eval"
SECONDS_CHECKPOINT = "seconds_checkpoint"
"""Wall time of the parts of an epoch; the checkpoint's is that of the one written before this epoch."""

DIVERGED = "diverged"
"""True where the loss stopped being finite: the trial ended with the worst score and is not retried."""

SCORE = SELECT_TOP1
SCORE_MODE = "max"
"""What the scheduler, the sampler and the choice of members compare."""


def step_of(record: Mapping[str, Any]) -> float:
    """Steps finished at a record; in those of earlier versions a step is an epoch."""
    return record.get(STEP, record[EPOCH])


def is_complete(record: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether a record is of the full length of its trial's configuration."""
    epochs = config.get("epochs")
    length = config.get("steps") or (math.inf if epochs is None else math.ceil(epochs))
    return step_of(record) >= length


def epoch_seconds(record: Mapping[str, Any]) -> float:
    """What the step of a record cost its slot, in training and evaluation."""
    return sum(record.get(part, 0.0) for part in (SECONDS_TRAIN, SECONDS_EVAL))
