"""Trains the configuration of a search's trial again, without Ray; what comes of it lies in the trial's folder.

`retrained/`: as the trial was trained, with the same images in the same order, up to its best epoch, for weights that
were deleted. On a CPU with as many threads they are the same again, bit for bit.

`refit/`: on train and select together, for the full length. Nothing is left to choose an epoch by: the last one counts.

Needs torch only where something is trained.
"""

import difflib
import json
import math
import shutil
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trainable import metrics
from trainable.config import TrialConfig, make_config
from trainable.errors import UsageError, UserError
from trainable.files import (
    CHECKSUMS,
    MODEL,
    PREDICTIONS,
    RECORD,
    broken_files,
    checksum,
    read_object,
    read_record,
    tree_to_disk,
    write_text,
)

if TYPE_CHECKING:
    import torch

    from trainable.data.dataset import Dataset
    from trainable.training import Training

EXPERIMENT = "experiment.json"
RETRAINED, REFIT = "retrained", "refit"
"""Folders in a trial's: weights, for a retrained one its predictions on `select`, and the record, written last."""
UNFINISHED = "epoch_"
"""Beginning of the names of their checkpoints: an interrupted training goes on from the newest."""
CHECKPOINT_EVERY_S = 60.0
"""Seconds from one of these to the next, at the end of an epoch: what a kill costs at most, beside the epoch."""
TRAINED_ON, TRAINED_EPOCHS = "trained_on", "trained_epochs"
"""Keys that their records have beside those of a checkpoint's: the splits, and after how many epochs it ended."""
OF_SELECT = (metrics.SELECT_LOSS, metrics.SELECT_TOP1, metrics.SELECT_TOP5, metrics.BEST_TOP1, metrics.BEST_EPOCH)
"""What says nothing where `select` was trained on, and isn't kept then."""
SHOWN_TRIALS = 10


class Again(NamedTuple):
    """One training that repeats a trial's."""

    trial: Path
    """The trial's folder."""
    config: TrialConfig
    dataset: str
    """Fingerprint of the images that it was trained on."""
    image_size: int
    """In pixels."""
    best_epoch: float
    best_top1: float
    """On `select`, in the search, 0 to 1."""
    refit: bool
    probe_s: float = 0.0
    """Seconds that a probe took but for its features, which are kept."""

    @property
    def name(self) -> str:
        """The trial's."""
        return self.trial.name

    @property
    def epochs(self) -> float:
        """How many are trained; the schedules are those of the configuration's full length in any case."""
        return self.config.epochs if self.refit else self.best_epoch

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.trial / (REFIT if self.refit else RETRAINED)

    @property
    def weights(self) -> Path | None:
        """What it left; None where it isn't complete, or was of another configuration, length or set of images."""
        record = read_record(self.folder)
        if record is None or not self.began(record) or record.get(TRAINED_EPOCHS) != self.epochs:
            return None
        path = self.folder / MODEL
        return path if path.is_file() and not broken_files(self.folder, record) else None

    def began(self, record: dict[str, Any]) -> bool:
        """Whether the record of a checkpoint is of this configuration and these images."""
        same_config = record.get("config") == self.config.model_dump(mode="json")
        return same_config and record.get("dataset") == self.dataset


class Failure(NamedTuple):
    """A training that failed, and why, in a line."""

    again: Again
    reason: str


def retrained_weights(trial: Path) -> Path | None:
    """The best epoch's weights of a trial that was trained again as it was; None where they aren't there, whole."""
    return read_again(trial, refit=False).weights if (trial / RETRAINED / RECORD).is_file() else None


def refit_weights(trial: Path) -> Path | None:
    """The weights of a trial's configuration trained on train and select; None where they aren't there, whole."""
    return read_again(trial, refit=True).weights if (trial / REFIT / RECORD).is_file() else None


def read_trainings(experiment: Path, trials: Sequence[str], refit: bool) -> list[Again]:
    """What is to be trained for the trials of these names, each once.

    UsageError where `experiment` is no search's folder or has no such trial, UserError where one can't be repeated.
    """
    facts = read_object(experiment / EXPERIMENT)
    if facts is None:
        raise UsageError(f"{experiment}: no search is there (no whole {EXPERIMENT}); give its folder: runs/NAME")
    known = sorted(path.name for path in experiment.glob("[0-9]*-*") if path.is_dir())
    for name in trials:
        if name not in known:
            raise UsageError(f"{experiment}: has no trial {name!r}; {_known_trials(name, known)}")
    if not refit and (facts.get("plan") or {}).get("scheduler") == "pbt":
        raise UserError(
            f"{experiment}: a population's trials went on from copies of each other, so that none can be trained again "
            "as it was; choose among those whose weights are there, or refit"
        )
    return [read_again(experiment / name, refit) for name in dict.fromkeys(trials)]


def _known_trials(name: str, known: list[str]) -> str:
    if len(known) <= SHOWN_TRIALS:
        return f"it has {', '.join(known) or 'none'}"
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    return f"{hint}It has {len(known)}, from {known[0]} to {known[-1]}"


def read_again(trial: Path, refit: bool) -> Again:
    """The training that repeats the trial in a folder, from its newest checkpoint; UserError where none was scored."""
    records = (read_record(path) for path in sorted(trial.glob("checkpoint_*"), reverse=True))
    record = next((record for record in records if record is not None), None)
    if record is None or not record["best_epoch"]:
        failed = ", see its failure.txt" if (trial / "failure.txt").is_file() else ""
        raise UserError(f"{trial.name}: left no epoch that was scored{failed}; choose another trial")
    config, best = make_config(record["config"], str(trial)), record["best_epoch"]
    scored = next(each for each in record["epochs"] if each[metrics.EPOCH] == best)
    probe_s = metrics.epoch_seconds(scored) - scored[metrics.SECONDS_DATA] if config.is_probe else 0.0
    top1 = scored[metrics.SELECT_TOP1]
    return Again(trial, config, record["dataset"], record["image_size"], best, top1, refit, probe_s)


def open_images(again: Again, progress: bool = False) -> "Dataset":
    """The images that the trial was trained on; UserError where they are gone or have changed."""
    from trainable.data.dataset import open_images_of
    from trainable.data.origin import is_missing

    config = again.config
    if is_missing(config.data):
        raise UserError(f"{config.data}: the search's images are no longer there; put them back, then train again")
    dataset = open_images_of(config.model_copy(update={"image_size": again.image_size}), progress)
    if dataset.cache.fingerprint != again.dataset:
        raise UserError(f"{config.data}: the images have changed since the search; restore them, then train again")
    return dataset


def train_again(again: Again, device: "torch.device", cores: int = 1) -> Generator[dict[str, Any], None, None]:
    """Train to the end, unless that is done; yields each step's record, see `trainable.metrics`.

    One that was interrupted goes on from its checkpoint. UserError where the loss diverges, and as `open_images` does.
    """
    if again.weights is not None:
        return
    from trainable.training import total_updates

    training = _begin(again, device, cores)
    saved = time.monotonic()
    wanted = total_updates(again.epochs, len(training.order))
    while training.updates < wanted:
        record = training.run_step(wanted)
        if record[metrics.DIVERGED]:
            where = f"in epoch {math.ceil(training.epoch)} of {again.epochs:g}"
            raise UserError(f"{again.name}: trained again, its loss diverged {where}; choose another trial")
        yield _kept(again, record)
        if training.updates < wanted and time.monotonic() - saved >= CHECKPOINT_EVERY_S:
            _save(training, again)
            saved = time.monotonic()
    _finish(training, again)


def _begin(again: Again, device: "torch.device", cores: int) -> "Training":
    """The training, continued from its newest good checkpoint where there is one."""
    import numpy as np

    from trainable.checkpoint import load_checkpoint
    from trainable.training import Training

    dataset = open_images(again)
    splits = dataset.splits
    rows = np.sort(np.concatenate([splits.train, splits.select])) if again.refit else splits.train
    training = Training(again.config, dataset, rows, splits.select, device, cores)
    for path in sorted(again.folder.glob(f"{UNFINISHED}*"), reverse=True):
        record = read_record(path)
        if record is None or not again.began(record) or record["epochs"][-1][metrics.EPOCH] >= again.epochs:
            continue
        if not broken_files(path, record):
            load_checkpoint(training, path)
            break
    return training


def _save(training: "Training", again: Again) -> None:
    from trainable.checkpoint import save_checkpoint

    older = list(again.folder.glob(f"{UNFINISHED}*"))
    path = again.folder / f"{UNFINISHED}{training.updates:09}"
    if path in older:
        older.remove(path)
        shutil.rmtree(path)
    path.mkdir(parents=True)
    save_checkpoint(training, path)
    tree_to_disk(path)
    for each in older:
        shutil.rmtree(each)


def _finish(training: "Training", again: Again) -> None:
    """Write what stays: weights, for a retrained trial predictions, and last the record."""
    import numpy as np
    from safetensors.torch import save_file

    from trainable.checkpoint import trial_record
    from trainable.training import cpu_weights

    folder = again.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).unlink(missing_ok=True)  # of an earlier one, that isn't this one
    best = training.epoch if again.refit else training.best_epoch
    save_file(cpu_weights(training.machinery.evaluated) if again.refit else training.best_weights, folder / MODEL)
    if not again.refit:
        np.savez_compressed(folder / PREDICTIONS, logits=training.best_logits, epoch=best)
    tree_to_disk(folder)
    record = trial_record(training) | {
        # its last is that of the weights
        "epochs": [_kept(again, each) for each in training.history if each[metrics.EPOCH] <= best],
        "best_epoch": best,
        TRAINED_ON: ["train", "select"] if again.refit else ["train"],
        TRAINED_EPOCHS: again.epochs,
        CHECKSUMS: {name: checksum(folder / name) for name in (MODEL, PREDICTIONS) if (folder / name).is_file()},
    }
    write_text(folder / RECORD, json.dumps(record, indent=1))
    for path in folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(path)


def _kept(again: Again, record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if not (again.refit and name in OF_SELECT)}


def outcome_text(again: Again) -> str:
    """What a complete training reached, for people, in a line; what it had reached in the search is told beside."""
    if again.refit:
        return f"{again.name} refit on train and select, {again.epochs:g} epochs: {again.folder}"
    last = (read_record(again.folder) or {})["epochs"][-1]
    return (
        f"{again.name} trained again, top-1 {last[metrics.SELECT_TOP1]:.2%} on select at epoch {last[metrics.EPOCH]:g} "
        f"(in the search {again.best_top1:.2%} at epoch {again.best_epoch:g}): {again.folder}"
    )


def raise_failures(failures: Sequence[Failure], of: int) -> None:
    """UserError that names each of `of` trainings that failed; nothing where there is none."""
    if failures:
        reasons = "; ".join(f"{again.name}: {reason.removeprefix(f'{again.name}: ')}" for again, reason in failures)
        raise UserError(f"{len(failures)} of {of} trainings failed: {reasons}")
