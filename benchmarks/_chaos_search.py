"""The driver that `benchmarks.chaos` kills: a real search on Ray, with short epochs and a formula for the scores."""

import json
import math
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from ray.tune.result import DONE, SHOULD_CHECKPOINT
from rich.console import Console

from search_spaces import Choice, Float, Space
from trainable import metrics
from trainable.errors import UserError
from trainable.experiment_lock import hold_experiment
from trainable.files import (
    CHECKSUMS,
    MODEL,
    PREDICTIONS,
    RECORD,
    STATE,
    broken_files,
    checksum,
    read_record,
    wait_until_written,
    write_atomically,
)
from trainable.trial import Trial
from tuning.plan import Precautions, SearchPlan
from tuning.resources import Slots
from tuning.search import run_search, start_ray
from tuning.storage import EXPERIMENT, create_experiment

NAME, SETTINGS, BEGUN, OUTCOME = "search", "chaos.json", "begun.txt", "outcome.json"
"""The experiment's folder in FOLDER, and beside it: what to search; the trial, epoch and process of each epoch that was
begun; and how the search ended."""


class ShortTrial(Trial):
    """Scores by a formula; its checkpoints have the files of a real one after every epoch."""

    file_bytes: ClassVar = {MODEL: 0, STATE: 0, PREDICTIONS: 0}
    """What these files have at least."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin at epoch 0."""
        self._listen()
        self.config = config
        self.history: list[dict[str, Any]] = []

    def step(self) -> dict[str, Any]:
        """Note that the epoch begins, sleep, and score."""
        if self._leaving:
            return super().step()
        epoch = len(self.history) + 1
        begun = Path(self.config["data"])
        with begun.open("a") as file:
            file.write(f"{self.trial_id} {epoch} {os.getpid()}\n")
        time.sleep(self.config["batch_size"] / 1000)
        record = {metrics.EPOCH: epoch, metrics.SCORE: score(self.config["lr"], epoch), metrics.DIVERGED: False}
        record |= {metrics.BEST_TOP1: record[metrics.SCORE], metrics.BEST_EPOCH: epoch}
        record |= dict.fromkeys((metrics.TRAIN_LOSS, metrics.SELECT_LOSS, metrics.SELECT_TOP5), 0.0)
        record |= {metrics.SECONDS_TRAIN: 1.0, metrics.SECONDS_EVAL: 0.0, metrics.IMAGES_PER_SECOND: 1.0}
        self.history.append(record)
        self._is_due = epoch < self.config["epochs"]
        return record | {DONE: not self._is_due, SHOULD_CHECKPOINT: True}

    def snapshot(self) -> Callable[[Path], None]:
        """What writes the files of a real checkpoint."""
        return partial(write_checkpoint, self.config, list(self.history), self.file_bytes)

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Go on from there, if it is what was written."""
        folder = Path(checkpoint)
        wait_until_written(folder)
        record = read_record(folder)
        if record is None or broken_files(folder, record):
            raise UserError(f"{folder}: is broken")
        self.history = record["epochs"]

    def cleanup(self) -> None:
        """Nothing is held."""


def write_checkpoint(
    config: dict[str, Any], history: list[dict[str, Any]], file_bytes: dict[str, int], folder: Path
) -> None:
    """The files of a real checkpoint, of at least `file_bytes` each."""
    for name, size in file_bytes.items():
        (folder / name).write_text(f"{name} after {len(history)} epochs".ljust(size))
    sums = {name: checksum(folder / name) for name in file_bytes}
    record = {"config": config, "epochs": history, "best_epoch": len(history), CHECKSUMS: sums}
    write_atomically(folder / RECORD, lambda path: path.write_text(json.dumps(record)))


def score(lr: float, epoch: int) -> float:
    """Best at 3e-3, and rising with the epoch."""
    return (1 - abs(math.log10(lr / 3e-3)) / 3) * (1 - 0.6**epoch)


def make_plan(folder: Path) -> SearchPlan:
    """The search that the settings in `folder` describe; a trial's batch size is the milliseconds of its epochs."""
    settings = json.loads((folder / SETTINGS).read_text())
    space = Space(
        name="chaos",
        dimensions=(
            Choice(name="batch_size", values=tuple(settings.pop("epoch_ms"))),
            Float(name="lr", low=1e-4, high=1e-1, log=True),
        ),
        fixed={"arch": "formula"},
    )
    return SearchPlan(space=space, trial={"data": str(folder / BEGUN)}, name=NAME, output=folder, **settings)


def kill_at(call: int) -> None:
    """Let this process die in that call of os.fsync or os.replace: half of a write's way."""
    calls = iter(range(call))

    def deadly(real: Callable[..., Any]) -> Any:
        def run(*arguments: Any) -> Any:
            if next(calls, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments)

        return run

    os.fsync, os.replace = deadly(os.fsync), deadly(os.replace)


def drive(folder: Path, address: str, slots: int, write: int, log: Path) -> None:
    """Begin the search of `folder`, or go on with it, in a process of its own.

    Args:
        folder: Holds the settings, and what comes of the search.
        address: Of the Ray cluster.
        slots: Trials at once.
        write: The process kills itself in this write (see `kill_at`); 0 for never.
        log: Where its output goes.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    plan = make_plan(folder)
    resumed = (plan.folder / EXPERIMENT).exists()
    if write:
        kill_at(write)
    if not resumed:
        create_experiment(plan, {"dataset": "none"})
    lock = hold_experiment(plan.folder)
    start_ray(address, slots, verbose=False)
    care = Precautions(retries=8, free_bytes=0)
    shares = Slots(slots, 1, 0, "as asked")
    outcome = run_search(plan, shares, None, "none", Console(), resumed, trainable=ShortTrial, care=care)
    lock.release()
    write_atomically(folder / OUTCOME, lambda path: path.write_text(json.dumps(outcome._asdict())))
