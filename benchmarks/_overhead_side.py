"""One side of `benchmarks.trial_overhead` in a process of its own: a whole search whose epochs are of fixed length.

An epoch is one update of the weights by zero gradients, so that the optimiser has its state to save, and a sleep for
the rest of its seconds. Everything else is what the side really does: imports, data, model, checkpoints, scheduling.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from search_spaces import Space, get_space, suggest

EXPERIMENT = "overhead"
"""The experiment's name below the output folder of either side."""


class Task(BaseModel):
    """What either side has to do."""

    model_config = ConfigDict(frozen=True)

    data: Path
    output: Path
    trials: int
    epochs: int
    seconds: float
    slots: int
    seed: int

    @property
    def space(self) -> Space:
        """What the search varies; all of its trials are swin_tiny."""
        return get_space("swin")


def fixed_epoch(parameters: Iterable[Any], optimizer: Any, seconds: float) -> None:
    """One update by zero gradients, then sleep until `seconds` have passed since the call."""
    import torch

    end = time.perf_counter() + seconds
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    time.sleep(max(0.0, end - time.perf_counter()))


def train_by_hand(config: dict[str, Any], task: Task) -> None:
    """The function trainable that a user writes: images by ImageFolder, a timm model, a checkpoint each epoch."""
    import albumentations as A
    import timm
    import torch
    from ray import tune
    from torch.utils.data import DataLoader, random_split
    from torchvision.datasets import ImageFolder

    torch.manual_seed(task.seed)
    images = ImageFolder(str(task.data / "train"), transform=A.Compose([A.HorizontalFlip()]))
    train, _select = random_split(images, [0.95, 0.05])
    DataLoader(train, batch_size=config["batch_size"], shuffle=True)  # decodes during the epochs: not our subject
    rates = {name: config[name] for name in ("drop_rate", "attn_drop_rate", "drop_path_rate")}
    model = timm.create_model("swin_tiny_patch4_window7_224", num_classes=10, img_size=32, window_size=4, **rates)
    optimizer = torch.optim.AdamW(model.parameters(), config["lr"], weight_decay=config["weight_decay"])
    for epoch in range(task.epochs):
        fixed_epoch(model.parameters(), optimizer, task.seconds)
        with tempfile.TemporaryDirectory() as folder:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
            torch.save(state, Path(folder) / "checkpoint.pt")
            accuracy = torch.rand(()).item()
            tune.report({"epoch": epoch + 1, "accuracy": accuracy}, checkpoint=tune.Checkpoint.from_directory(folder))


def search_by_hand(task: Task) -> None:
    """Stock Ray Tune with OptunaSearch, first in first out, no actor re-used, one checkpoint a trial kept."""
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    ray.init("local", num_cpus=task.slots, log_to_driver=False)
    tuner = tune.Tuner(
        tune.with_resources(partial(train_by_hand, task=task), {"cpu": 1}),
        tune_config=tune.TuneConfig(
            num_samples=task.trials,
            search_alg=OptunaSearch(partial(suggest, task.space), metric="accuracy", mode="max", seed=task.seed),
            scheduler=tune.schedulers.FIFOScheduler(),
        ),
        run_config=tune.RunConfig(
            name=EXPERIMENT,
            storage_path=str(task.output),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            verbose=0,
        ),
    )
    results = tuner.fit()
    if results.num_errors:
        raise RuntimeError(f"{results.num_errors} trials failed: {results.errors[0]}")


def search_by_ours(task: Task) -> None:
    """`python -m tuning.run --scheduler none`, with trials whose epochs are of fixed length."""
    from rich.console import Console

    import tuning.search
    from tuning.plan import SearchPlan
    from tuning.resources import plan_slots
    from tuning.storage import code_facts, create_experiment

    trial = {"data": str(task.data), "image_size": 32, "flip": False, "seed": task.seed}
    plan = SearchPlan(
        space=task.space,
        trial=trial,
        trials=task.trials,
        epochs=task.epochs,
        scheduler="none",
        seed=task.seed,
        name=EXPERIMENT,
        output=task.output,
    )
    facts = tuning.search.prepare_data(plan, progress=False)
    create_experiment(plan, facts | code_facts())
    dashboard = tuning.search.start_ray(None, task.slots, verbose=False)
    slots = plan_slots(task.slots, 0, 1, 0, None)
    trainable = fixed_epoch_trial(task.seconds)
    console = Console(quiet=True)
    outcome = tuning.search.run_search(plan, slots, None, dashboard, console, resumed=False, trainable=trainable)
    if outcome.failed or outcome.scored != task.trials:
        raise RuntimeError(f"{outcome.failed} trials failed, {outcome.scored} of {task.trials} ended")


def fixed_epoch_trial(seconds: float) -> type:
    """Our Trainable with only the passes through the model replaced: it scores random logits."""
    from trainable.trial import Trial

    class FixedEpochTrial(Trial):
        """Everything of a trial but the training itself."""

        def build_training(self) -> Any:
            import torch  # in the trial's process only

            from trainable.epoch import TrainScores

            training = super().build_training()
            machinery, classes = training.machinery, training.dataset.num_classes

            def train(target: int) -> TrainScores:
                fixed_epoch(machinery.model.parameters(), machinery.optimizer, seconds)
                training.updates = target
                return TrainScores(loss=1.0, top1=0.5, top5=0.5, images=1, finite=True, updates=1)

            vars(training).update(train_up_to=train, predict=lambda rows: torch.rand(len(rows), classes))
            return training

    return FixedEpochTrial


SIDES: dict[str, Callable[[Task], None]] = {"stock": search_by_hand, "ours": search_by_ours}


if __name__ == "__main__":
    SIDES[sys.argv[1]](Task.model_validate(json.loads(sys.argv[2])))
