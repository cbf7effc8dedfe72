"""A tiny search in Ray's layout: two real timm models, trained for two epochs on 32 px images of three colours."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from analysis.experiment import load_experiment
from analysis.export import Export, export
from analysis.front import Limits
from analysis.selection import Wanted
from trainable import metrics
from trainable.checkpoint import save_checkpoint
from trainable.config import TrialConfig
from trainable.data.dataset import Dataset, open_dataset
from trainable.training import Training
from trainable.versions import library_versions

COLOURS = {"blue": (40, 60, 200), "green": (40, 200, 60), "red": (200, 60, 40)}
TRIALS = {"0001-test_resnet": ("test_resnet", 3e-3), "0002-test_convnext": ("test_convnext", 1e-3)}
PLAN = {"space": {"name": "tiny"}, "epochs": 2, "scheduler": "asha", "sampler": "tpe", "seed": 0}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Models this small are only slowed by more threads, the more so on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of noisy, overlapping colours: 14 for training and 6 for val a class, and 4 for test."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for part, count in (("train", 14), ("val", 6)):
        for name, colour in COLOURS.items():
            for index in range(count):
                save_image(root / part / name / f"{name}{index}.png", colour, generator)
    for index in range(4):
        save_image(root / "test" / f"{index}.png", COLOURS["red"], generator)
    return root


def save_image(path: Path, colour: tuple[int, int, int], generator: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.array(colour) + generator.normal(0, 60, (1, 1, 3)) + generator.normal(0, 60, (32, 32, 3))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="session")
def config_of(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, float], TrialConfig]:
    cache = tmp_path_factory.mktemp("cache")

    def make(arch: str, lr: float) -> TrialConfig:
        return TrialConfig(
            data=images, image_size=32, arch=arch, lr=lr, epochs=2, batch_size=8, augment="none", mix_prob=0,
            precision="fp32", cache_dir=cache,
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def dataset(config_of: Callable[[str, float], TrialConfig]) -> Dataset:
    config = config_of("test_resnet", 1e-3)
    return open_dataset(config.data, config.image_size, config.seed, config.cache_dir)


@pytest.fixture(scope="session")
def trainings(config_of: Callable[[str, float], TrialConfig], dataset: Dataset) -> dict[str, Training]:
    """The finished trainings behind the experiment, by trial, at their best epoch."""
    splits = dataset.splits
    return {
        trial: Training(config_of(arch, lr), dataset, splits.train, splits.select, torch.device("cpu"))
        for trial, (arch, lr) in TRIALS.items()
    }


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory, trainings: dict[str, Training], dataset: Dataset) -> Path:
    """runs/tiny, complete; tests only read it."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    for trial, training in trainings.items():
        run_trial(training, folder / trial)
        training.machinery.evaluated.load_state_dict(training.best_weights)
    facts = {
        "plan": PLAN,
        "dataset": dataset.cache.fingerprint,
        "classes": 3,
        "images": {name: len(rows) for name, rows in dataset.splits._asdict().items()},
        "versions": library_versions(),
        "command": ["run.py", "--space", "tiny"],
        "git_commit": None,
    }
    (folder / "experiment.json").write_text(json.dumps(facts))
    return folder


def run_trial(training: Training, folder: Path) -> None:
    """Train to the end, with the files that Ray and the Trainable leave."""
    while not training.done:
        record = training.run_step()
        checkpoint = folder / f"checkpoint_{training.epoch - 1:06}"
        checkpoint.mkdir(parents=True)
        save_checkpoint(training, checkpoint)
        with (folder / "result.json").open("a") as results:
            results.write(json.dumps(record | {"done": training.done, "training_iteration": training.epoch}) + "\n")
    (folder / "params.json").write_text(training.config.model_dump_json())


@pytest.fixture(scope="session")
def exported(experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Export:
    """The experiment's export; tests only read it."""
    target = tmp_path_factory.mktemp("export") / "ensemble"
    return export(experiment, load_experiment(experiment), Wanted(Limits(members=2)), target, device="cpu")


@pytest.fixture
def record() -> Callable[..., dict[str, Any]]:
    """An epoch's record, as Ray writes it."""

    def make(epoch: int, top1: float = 0.5, **values: Any) -> dict[str, Any]:
        usual = {
            metrics.EPOCH: epoch,
            metrics.SELECT_TOP1: top1,
            metrics.SELECT_TOP5: 1.0,
            metrics.SELECT_LOSS: 1.0,
            metrics.SECONDS_TRAIN: 2.0,
            metrics.SECONDS_EVAL: 1.0,
            metrics.DIVERGED: False,
            "done": False,
        }
        return usual | values

    return make


@pytest.fixture
def write_trial(tmp_path: Path) -> Callable[..., Path]:
    """Writes a trial's folder into the experiment `tmp_path / "runs"`, from its records; returns the trial's folder."""

    def write(name: str, records: list[dict[str, Any]], **config: Any) -> Path:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder.parent / "experiment.json").write_text('{"dataset": "abc"}')
        (folder / "params.json").write_text(json.dumps({"arch": "resnet18", "lr": 0.1, "epochs": 4} | config))
        (folder / "result.json").write_text("".join(json.dumps(record) + "\n" for record in records))
        return folder

    return write
