"""How fast this machine trains a configuration, measured by some real updates.

As a process of its own (`python -m trainable.pace`) it reads a configuration and a number of cores, as JSON in a line,
gets ready, and measures when a second line comes.
"""

import json
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from trainable.config import TrialConfig

if TYPE_CHECKING:
    from trainable.training import Training

UPDATES = 20
"""Measured at most, ..."""
SECONDS = 2.5
"""... for about so long; at least one, after a first one that isn't counted."""

EPOCHS = 1000
"""Of a training that is only measured."""
MEAN_AT = 0.56
"""At this share of them augmentation, and what it costs, is as strong as in the mean."""


class Pace(NamedTuple):
    """Seconds of an image on one slot."""

    train: float
    evaluate: float


def measure_pace(values: dict[str, Any], cores: int) -> Pace:
    """Train a little of the configuration with so many cores, on the images that it names.

    Nothing is kept. Images that grow are measured whole, and augmentation at its mean strength.
    """
    import torch

    from trainable.data.dataset import open_images_of
    from trainable.device import choose_device
    from trainable.training import Training

    torch.set_num_threads(cores)
    config = TrialConfig.model_validate(values | {"progressive_resize": False, "epochs": EPOCHS, "steps": None})
    dataset, device = open_images_of(config, progress=False), choose_device()
    training = Training(config, dataset, dataset.splits.train, dataset.splits.select, device, cores)
    update_s = fastest_update(training)
    started = time.perf_counter()
    rows = dataset.splits.select
    training.predict(rows)
    return Pace(update_s / training.batch, (time.perf_counter() - started) / len(rows))


def fastest_update(training: "Training") -> float:
    """Seconds of the fastest of some updates at the mean strength of augmentation: other load can only add.

    Of a new training of `EPOCHS`, which is of no use afterwards.
    """
    training.updates = round(MEAN_AT * EPOCHS) * len(training.order)
    training.train_up_to(training.updates + 1)
    seconds: list[float] = []
    while not seconds or (len(seconds) < UPDATES and sum(seconds) < SECONDS):
        started = time.perf_counter()
        training.train_up_to(training.updates + 1)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def serve() -> None:
    """Answer one question of stdin on stdout; nothing if whoever asked is gone."""
    values, cores = json.loads(sys.stdin.readline())
    import trainable.training  # noqa: F401 which takes seconds

    if sys.stdin.readline():
        print(json.dumps(measure_pace(values, cores)))


if __name__ == "__main__":
    serve()
