"""The side `one` of `benchmarks.equal_seconds`: a single training as long as the seconds allow, and no search.

python -m benchmarks._equal_one TASK.json

It trains the published start of the space's cheapest architecture on train and select, with all cores, as
`trainable.train` would. From published weights it is a fine-tuning by the usual recipe: a new head, one learning rate.
A few updates, which aren't counted, tell how many epochs fit into the seconds; the schedules of learning rate and
augmentation end there. Nothing is chosen: the last update's weights are scored on holdout, once. The seconds count from
when the training begins: imports and the opening of the images come on top.
"""

import sys
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score

from benchmarks._equal_task import Outcome, Task
from search_spaces import Space, get_space
from trainable import metrics
from trainable.architectures import with_default_rates
from trainable.config import TrialConfig, make_config
from trainable.data.dataset import Dataset, open_dataset
from trainable.epoch import score
from trainable.errors import UserError
from trainable.pace import EPOCHS, fastest_update
from trainable.training import Training
from tuning.arithmetic import usual_images_per_second
from tuning.first import published_configurations

SCORED = 2
"""Training images that are scored after every epoch, since something has to be."""


def main(task: Task) -> Outcome:
    """Measure, train, and score on holdout."""
    torch.set_num_threads(task.cores)
    dataset = open_dataset(task.data, task.image_size, task.seed, progress=False)
    splits = dataset.splits
    rows = np.sort(np.concatenate([splits.train, splits.select]))
    started = time.time()
    epochs = epochs_within(task, dataset, rows)
    uncounted_s = time.time() - started
    training = build(configuration(task, epochs), dataset, rows, task.cores)
    train(training)
    ready = time.time()
    logits, labels = training.predict(splits.holdout), torch.from_numpy(dataset.cache.labels[splits.holdout])
    scores = score(logits, labels)
    return Outcome(
        top1=scores.top1,
        loss=scores.loss,
        balanced=float(balanced_accuracy_score(labels, logits.argmax(1))),
        holdout_images=len(splits.holdout),
        select_top1=None,
        ready=ready,
        uncounted_s=uncounted_s,
        evaluate_s=time.time() - ready,
        trials=1,
        epochs=training.epoch,
        updates=training.updates,
        inside_s=sum(metrics.epoch_seconds(record) for record in training.history),
        slots=1,
        about=training.config.model_dump(mode="json", exclude={"data", "cache_dir"}),
    )


def configuration(task: Task, epochs: float) -> TrialConfig:
    """The published start of the cheapest architecture, for so many epochs."""
    start = usual_fine_tuning(task) if task.weights else cheapest_start(get_space(task.space), task.image_size)
    own = {"data": task.data, "image_size": task.image_size, "seed": task.seed, "flip": task.flip}
    return make_config(with_default_rates(start) | own | {"epochs": epochs}, f"space {task.space}")


def usual_fine_tuning(task: Task) -> dict[str, Any]:
    """Of the first architecture that there are weights of."""
    arch, weights = next(iter(task.weights.items()))
    rates = {"lr": 2e-4, "weight_decay": 0.05, "drop_rate": 0.0, "drop_path_rate": 0.1, "mix_prob": 0.0}
    return {"arch": arch, "pretrained": str(weights), "batch_size": 32} | rates


def cheapest_start(space: Space, image_size: int) -> dict[str, Any]:
    """The published configuration whose architecture trains the most images a second."""
    starts = [space.fixed | configuration for configuration in published_configurations(space)]
    return max(starts, key=lambda start: usual_images_per_second(start, image_size))


def epochs_within(task: Task, dataset: Dataset, rows: NDArray[np.int64]) -> float:
    """How long a training may be to end with the seconds, measured by a few updates."""
    timed = build(configuration(task, EPOCHS), dataset, rows, task.cores)
    return affordable_epochs(task.seconds, fastest_update(timed), len(timed.order))


def affordable_epochs(seconds: float, seconds_an_update: float, updates_an_epoch: int) -> float:
    """Epochs that fit into the seconds: as many whole updates, at least one."""
    return max(1, int(seconds / seconds_an_update)) / updates_an_epoch


def build(config: TrialConfig, dataset: Dataset, rows: NDArray[np.int64], cores: int) -> Training:
    """A training of all rows."""
    return Training(config, dataset, rows, rows[:SCORED], torch.device("cpu"), cores)


def train(training: Training) -> None:
    """To the end."""
    while not training.done:
        training.run_step()
    if training.history[-1][metrics.DIVERGED]:
        raise UserError(f"the loss diverged at epoch {training.epoch:g}")


if __name__ == "__main__":
    given = Task.read(sys.argv[1])
    main(given).write(given.output)
