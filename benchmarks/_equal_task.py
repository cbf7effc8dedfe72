"""What `benchmarks.equal_seconds` asks of a side, and what the side hands back: plain data, written as JSON."""

from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict

from trainable.data.dataset import Dataset, Files, open_dataset, open_files

TASK, OUTCOME = "task.json", "outcome.json"
"""Files in the folder of a run."""


class Images(NamedTuple):
    """A data set on this machine, decoded and as files."""

    dataset: Dataset
    files: Files
    """Keeps an unpacked archive from being evicted."""


class Task(BaseModel):
    """One run of one side."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    data: Path
    """Folder or archive, as given."""
    root: Path
    """The folder in which its files lie."""
    classes: tuple[str, ...]
    """In the order of the labels."""
    holdout_files: tuple[str, ...]
    """Images that nothing may look at before the end, relative to `root`."""
    holdout_labels: tuple[int, ...]
    flip: bool
    """Whether a mirrored image keeps its label."""
    image_size: int
    space: str
    weights: dict[str, Path] = {}
    """Published weights, by the timm name of their architecture, that every side starts from; none: from scratch."""
    seconds: float
    seed: int
    cores: int
    output: Path
    """The run's own folder, which is empty."""
    stock_epochs: int
    """Length of a full training in stock's search."""
    stock_trials: int = 10_000
    """Most trials of stock's search: more than any budget buys."""

    @property
    def file(self) -> Path:
        """Where the task is written for a process of its own."""
        return self.output / TASK

    @classmethod
    def read(cls, file: Path | str) -> Self:
        """The task in a file."""
        return cls.model_validate_json(Path(file).read_text())


class Outcome(BaseModel):
    """What came out of a run."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    top1: float
    """On holdout, 0 to 1."""
    loss: float
    """Mean negative log likelihood on holdout, in nats."""
    balanced: float | None = None
    """Mean recall of the classes on holdout, 0 to 1."""
    holdout_images: int
    select_top1: float | None
    """Top-1 on the images that chose what was scored; None if nothing was chosen."""
    ready: float
    """When there was a model to be scored, as Unix time: what came later isn't counted."""
    uncounted_s: float = 0.0
    """Seconds before that which aren't counted either."""
    evaluate_s: float | None = None
    """Seconds of scoring holdout; None if it can't be told apart."""
    trials: int
    epochs: float
    """Passes over the training images, of all trials together."""
    updates: int | None
    """Of the optimiser, of all trials together; None if nothing tells."""
    inside_s: float
    """Seconds in training and evaluation, of all trials together."""
    slots: int
    """Trials at once."""
    about: dict[str, Any] = {}
    """What was scored: a configuration, or how many members."""

    def share(self, wall_s: float) -> float:
        """Of the slots' time that was spent in training and evaluation."""
        return self.inside_s / (wall_s * self.slots)

    def write(self, folder: Path) -> None:
        """Hand it back, from the side's own process."""
        (folder / OUTCOME).write_text(self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What a side's process has handed back."""
        return cls.model_validate_json((folder / OUTCOME).read_text())


def open_images(data: Path, image_size: int | None, seed: int) -> Images:
    """Unpack and decode the data set where that isn't done yet, so that no side pays for it."""
    dataset = open_dataset(data, image_size, seed, progress=False)
    return Images(dataset, open_files(data, progress=False))


def facts_of(images: Images) -> dict[str, Any]:
    """What a task says of its data set."""
    cache, rows = images.dataset.cache, images.dataset.splits.holdout
    return {
        "root": images.files.layout.root,
        "classes": tuple(name.id for name in cache.classes),
        "holdout_files": tuple(cache.names[row] for row in rows),
        "holdout_labels": tuple(cache.labels[rows].tolist()),
        "image_size": images.dataset.image_size,
    }
