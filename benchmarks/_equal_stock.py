"""The side `stock` of `benchmarks.equal_seconds`: a search as one writes it by hand with Ray Tune, Optuna and timm.

python -m benchmarks._equal_stock TASK.json

A function trainable with one core a trial, ImageFolder and DataLoader, models as timm makes them, AdamW and a cosine
over the full length. OptunaSearch proposes, ASHA ends trials early. A twentieth of the training images, drawn from the
seed, scores the epochs; the best checkpoint by this score is evaluated on holdout once. The seconds count from when the
search begins: what it takes to import and to start Ray comes on top, as in any such script.

Only the list of holdout images comes from elsewhere. They are left out of training where they lie among its folders.
"""

import sys
import tempfile
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ray
import timm
import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from sklearn.metrics import balanced_accuracy_score
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import transforms as T
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import default_loader

from benchmarks._equal_task import Outcome, Task
from trainable.errors import UserError

ARCHITECTURES = {
    "resnet": ["resnet18", "resnet34", "resnet50"],
    "swin": ["swin_tiny_patch4_window7_224"],
}
"""What the search chooses among, by the name of our space."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SELECT_SHARE = 20
"""One of so many training images scores the epochs."""
EVAL_BATCH = 64
WEIGHTS = "model.pt"


class Best(NamedTuple):
    """The best checkpoint of a search."""

    config: dict[str, Any]
    checkpoint: tune.Checkpoint
    top1: float
    """On select."""


def main(task: Task) -> Outcome:
    """Search, load the best checkpoint, and score it on holdout."""
    results = search(task)
    best = best_of(results, task.seconds)
    model = build(best.config, task)
    with best.checkpoint.as_directory() as folder:
        model.load_state_dict(torch.load(Path(folder, WEIGHTS)))
    ready = time.time()
    torch.set_num_threads(task.cores)
    logits, labels = predict(model, DataLoader(HoldoutImages(task), EVAL_BATCH))
    last = [result.metrics for result in results if result.metrics and "top1" in result.metrics]
    return Outcome(
        top1=accuracy(logits, labels),
        loss=functional.cross_entropy(logits, labels).item(),
        balanced=float(balanced_accuracy_score(labels, logits.argmax(1))),
        holdout_images=len(labels),
        select_top1=best.top1,
        ready=ready,
        evaluate_s=time.time() - ready,
        trials=len(results),
        epochs=sum(metrics["epoch"] for metrics in last),
        updates=sum(metrics["updates"] for metrics in last),
        inside_s=sum(seconds_of(result) for result in results),
        slots=task.cores,
        about=best.config,
    )


def search(task: Task) -> list[tune.Result]:
    """Let Ray Tune run trials until the seconds are over."""
    ray.init("local", num_cpus=task.cores, include_dashboard=False, log_to_driver=False)
    asha = ASHAScheduler(time_attr="epoch", max_t=task.stock_epochs, grace_period=1, reduction_factor=4)
    tuner = tune.Tuner(
        tune.with_resources(partial(train, task=task), {"cpu": 1}),
        param_space=space_of(task.space, list(task.weights)),
        tune_config=tune.TuneConfig(
            metric="top1",
            mode="max",
            num_samples=task.stock_trials,
            time_budget_s=task.seconds,
            search_alg=OptunaSearch(seed=task.seed),
            scheduler=asha,
        ),
        run_config=tune.RunConfig(
            name="stock",
            storage_path=str(task.output),
            verbose=1,
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=1, checkpoint_score_attribute="top1", checkpoint_score_order="max"
            ),
        ),
    )
    results = tuner.fit()
    return [results[number] for number in range(len(results))]


def space_of(name: str, published: list[str]) -> dict[str, Any]:
    """What the search varies: architectures that there are weights of, if there are any, else those of the space."""
    return {
        "arch": tune.choice(published or ARCHITECTURES[name]),
        "lr": tune.loguniform(1e-5, 1e-2),
        "weight_decay": tune.loguniform(1e-4, 0.3),
        "drop_rate": tune.uniform(0, 0.5),
        "drop_path_rate": tune.uniform(0, 0.3),
        "batch_size": tune.choice([16, 32, 64] if published else [32, 64, 128]),
    }


def train(config: dict[str, Any], task: Task) -> None:
    """A trial: after each epoch it reports its score and a checkpoint."""
    torch.set_num_threads(1)
    torch.manual_seed(task.seed)
    train_batches, select_batches = loaders(config["batch_size"], task)
    model = build(config, task)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, task.stock_epochs)
    for epoch in range(1, task.stock_epochs + 1):
        started = time.time()
        train_epoch(model, optimizer, train_batches)
        schedule.step()
        top1 = accuracy(*predict(model, select_batches))
        record = {"top1": top1, "epoch": epoch, "updates": epoch * len(train_batches)}
        record["seconds"] = time.time() - started
        with tempfile.TemporaryDirectory() as folder:
            torch.save(model.state_dict(), Path(folder, WEIGHTS))
            tune.report(record, checkpoint=tune.Checkpoint.from_directory(folder))


def train_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, batches: DataLoader) -> None:
    """One update a batch."""
    model.train()
    for images, labels in batches:
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        optimizer.step()


def predict(model: nn.Module, batches: DataLoader) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (images, classes) and labels (images,)."""
    model.eval()
    with torch.no_grad():
        logits, labels = zip(*((model(images), labels) for images, labels in batches), strict=True)
    return torch.cat(logits), torch.cat(labels)


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of images whose first guess is right."""
    return (logits.argmax(1) == labels).double().mean().item()


def build(config: dict[str, Any], task: Task) -> nn.Module:
    """The model as timm makes it; only Swin has to be told the size of the images."""
    arguments: dict[str, Any] = {name: config[name] for name in ("drop_rate", "drop_path_rate")}
    if "swin" in config["arch"]:
        arguments["img_size"] = task.image_size
    if task.weights:
        arguments |= {"pretrained": True, "pretrained_cfg_overlay": {"file": str(task.weights[config["arch"]])}}
    return timm.create_model(config["arch"], num_classes=len(task.classes), **arguments)


def loaders(batch_size: int, task: Task) -> tuple[DataLoader, DataLoader]:
    """Of the images that train and of those that score, with one process each."""
    folder, plain = (image_folder(task, augmented) for augmented in (True, False))
    train, select = split(training_rows(folder, task), task.seed)
    whole_batches = len(train) >= batch_size
    return (
        DataLoader(Subset(folder, train), batch_size, shuffle=True, num_workers=1, drop_last=whole_batches),
        DataLoader(Subset(plain, select), EVAL_BATCH, num_workers=1),
    )


class HoldoutImages(Dataset):
    """The holdout images with their labels, as ImageFolder gives those of folders."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.transform = transform(task, augmented=False)

    def __len__(self) -> int:
        return len(self.task.holdout_files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = default_loader(str(self.task.root / self.task.holdout_files[index]))
        return self.transform(image), self.task.holdout_labels[index]


def image_folder(task: Task, augmented: bool) -> ImageFolder:
    """The folders of the classes, below `train` where there is one."""
    folder = task.root / "train" if (task.root / "train").is_dir() else task.root
    found = ImageFolder(str(folder), transform(task, augmented))
    if tuple(found.classes) != task.classes:
        raise UserError(f"{folder}: ImageFolder finds other classes than the holdout images have")
    return found


def transform(task: Task, augmented: bool) -> Any:
    """PIL image -> normalised floats (3, image_size, image_size), as published weights expect them if there are any."""
    image_size = task.image_size
    expected = timm.get_pretrained_cfg(next(iter(task.weights))) if task.weights else None  # all expect the same
    pixels = (expected.mean, expected.std) if expected else (MEAN, STD)
    crop: list[Any] = [T.CenterCrop(image_size)]
    if augmented:
        crop = [T.RandomCrop(image_size, padding=image_size // 8), T.RandomHorizontalFlip()]
    return T.Compose([T.Resize(image_size), *crop, T.ToTensor(), T.Normalize(*pixels)])


def training_rows(folder: ImageFolder, task: Task) -> list[int]:
    """Which images of the folder aren't holdout."""
    holdout = {str(task.root / file) for file in task.holdout_files}
    return [row for row, (path, _) in enumerate(folder.samples) if path not in holdout]


def split(rows: list[int], seed: int) -> tuple[list[int], list[int]]:
    """The rows that train and those that score, drawn from the seed."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    count = max(1, len(rows) // SELECT_SHARE)
    return [rows[place] for place in order[count:]], [rows[place] for place in order[:count]]


def best_of(results: Iterable[tune.Result], seconds: float) -> Best:
    """The checkpoint with the best score of all trials."""
    found = [
        Best(result.config or {}, checkpoint, metrics["top1"])
        for result in results
        for checkpoint, metrics in result.best_checkpoints or []
    ]
    if not found:
        raise UserError(f"no trial of the stock search finished an epoch within {seconds:g} s")
    return max(found, key=lambda best: best.top1)


def seconds_of(result: tune.Result) -> float:
    """Seconds of the epochs that a trial has reported."""
    table = result.metrics_dataframe
    return 0.0 if table is None or "seconds" not in table else float(table["seconds"].sum())  # some end without


if __name__ == "__main__":
    given = Task.read(sys.argv[1])
    main(given).write(given.output)
