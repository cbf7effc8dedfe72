"""What a training leaves on disk: a trial's checkpoint folder, and the single run's `.pth.tar` files."""

import errno
import json
import os
import pickle
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.utils._pytree import tree_map_only
from torch.utils.serialization import config as serialization

from trainable.allocator import allocator_note
from trainable.config import TrialConfig
from trainable.errors import UserError
from trainable.files import (
    BEST,
    CHECKSUMS,
    MODEL,
    PREDICTIONS,
    RECORD,
    STATE,
    broken_files,
    checksum,
    read_record,
    to_disk,
    write_atomically,
)
from trainable.training import Training, cpu_weights
from trainable.versions import library_versions

FULL_BYTES = 2**20
"""A disk on which a write has failed is full where less than this is free."""


def training_state(training: Training) -> dict[str, Any]:
    """Everything but the evaluated weights that continuing needs: tensors and plain values only."""
    machinery = training.machinery
    return {
        "updates": training.updates,
        "generators": training.generators,
        "optimizer": machinery.optimizer.state_dict(),
        "scaler": machinery.scaler.state_dict(),
        "raw_weights": cpu_weights(machinery.model) if machinery.ema else None,
        "history": training.history,
        "best": list(training.best) if training.best else None,
        "best_epoch": training.best_epoch,
    }


def load_training_state(training: Training, state: dict[str, Any], evaluated: dict[str, torch.Tensor]) -> None:
    """Put a saved state and the evaluated weights of its epoch back into `training`.

    The optimiser keeps the numbers of its own configuration: the state may come from a training that had others.
    """
    machinery = training.machinery
    groups = machinery.optimizer.param_groups
    own = [{name: value for name, value in group.items() if name != "params"} for group in groups]
    machinery.evaluated.load_state_dict(evaluated)
    if machinery.ema:
        machinery.model.load_state_dict(state["raw_weights"])
    machinery.optimizer.load_state_dict(state["optimizer"])
    for group, numbers in zip(machinery.optimizer.param_groups, own, strict=True):
        group.update(numbers)
    machinery.scaler.load_state_dict(state["scaler"])
    # earlier versions saved after whole epochs only
    training.updates = state["updates"] if "updates" in state else state["epoch"] * len(training.order)
    training.generators = dict(state.get("generators", {}))
    training.history = list(state["history"])
    training.best = tuple(state["best"]) if state["best"] else None
    training.best_epoch = state["best_epoch"]


def save_tensors(content: dict[str, Any], path: Path) -> None:
    """torch.save; OSError where the disk is full, of which torch only says that it is somewhere else in its file."""
    try:
        torch.save(content, path)
    except RuntimeError:
        if shutil.disk_usage(path.parent).free < FULL_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None
        raise


class Contents(NamedTuple):
    """Of a trial's checkpoint, on the host. On a CPU the optimiser's tensors are the training's own: they are to be
    written before it goes on."""

    weights: dict[str, torch.Tensor]
    """That were evaluated at the latest epoch."""
    best_weights: dict[str, torch.Tensor] | None
    """Of the best epoch; None where that is the latest, or there is none."""
    state: dict[str, Any]
    predictions: dict[str, np.ndarray]
    """Arrays of `predictions.npz`."""
    record: dict[str, Any]


def contents(training: Training) -> Contents:
    """What a checkpoint of `training` holds now."""
    is_best = bool(training.best_weights) and training.best_epoch == training.epoch
    return Contents(
        weights=training.best_weights if is_best else cpu_weights(training.machinery.evaluated),
        best_weights=None if is_best else training.best_weights or None,
        state=tree_map_only(torch.Tensor, torch.Tensor.cpu, training_state(training)),
        predictions=predictions(training),
        record=trial_record(training),
    )


def predictions(training: Training) -> dict[str, np.ndarray]:
    """Logits of the best epoch on `select`, and of a probe those out of fold on `train`, with their labels."""
    kept = {"logits": training.best_logits, "epoch": np.array(training.best_epoch)}
    if training.config.is_probe and training.probe is not None:
        kept["out_of_fold"] = training.probe.out_of_fold.astype(np.float16)
        kept["out_of_fold_labels"] = training.dataset.cache.labels[training.order.rows]
    return kept


def write_contents(checkpoint: Contents, folder: Path) -> None:
    """Write a trial's checkpoint into `folder`, down to the disk, its record last.

    A thread waits for the disk, meanwhile checksums are made and further files are written.
    """
    checksums, on_disk = {}, []
    with ThreadPoolExecutor(1, "disk") as thread:
        for name in write_files(checkpoint, folder):
            on_disk.append(thread.submit(to_disk, folder / name))
            checksums[name] = checksum(folder / name)
        for written in on_disk:
            written.result()
    record = checkpoint.record | {CHECKSUMS: checksums}
    write_atomically(folder / RECORD, lambda path: path.write_text(json.dumps(record, indent=1)))


def write_files(checkpoint: Contents, folder: Path) -> Iterator[str]:
    """Write a checkpoint's files but its record, and name each once it is written."""
    save_file(checkpoint.weights, folder / MODEL)
    yield MODEL
    if checkpoint.best_weights:
        save_file(checkpoint.best_weights, folder / BEST)
        yield BEST
    else:
        (folder / BEST).unlink(missing_ok=True)  # of an earlier checkpoint in the same folder
    with serialization.patch("save.compute_crc32", False):  # type: ignore[attr-defined]  # the record has ours
        save_tensors(checkpoint.state, folder / STATE)
    yield STATE
    np.savez_compressed(folder / PREDICTIONS, allow_pickle=False, **checkpoint.predictions)
    yield PREDICTIONS


def save_checkpoint(training: Training, folder: Path) -> None:
    """Write a trial's checkpoint into `folder`; the seconds it took go into the next epoch's record."""
    started = time.perf_counter()
    write_contents(contents(training), folder)
    training.seconds_checkpoint = time.perf_counter() - started


def load_checkpoint(training: Training, folder: Path) -> None:
    """Continue `training` from a trial's checkpoint; UserError where its files aren't what was written."""
    record = read_record(folder)
    broken = [RECORD] if record is None else broken_files(folder, record)
    if broken:
        raise UserError(f"{folder}: {', '.join(broken)} is broken; delete this folder and resume the search")
    state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    load_training_state(training, state, load_file(folder / MODEL))
    training.best_weights = load_file(best_weights_file(folder)) if training.best else {}
    with np.load(folder / PREDICTIONS) as predictions:
        training.best_logits = predictions["logits"]


def best_weights_file(folder: Path) -> Path:
    """The file that holds the weights of the best epoch."""
    return folder / BEST if (folder / BEST).exists() else folder / MODEL


def trial_record(training: Training) -> dict[str, Any]:
    """The human-readable part of a checkpoint: enough to tell what was trained, on what, with which result."""
    return {
        "config": training.config.model_dump(mode="json"),
        "epochs": training.history,
        "best_epoch": training.best_epoch,
        "arithmetic": training.machinery.arithmetic.reason,
        "workers": training.workers_reason,
        "data_on": training.place.reason,
        "allocator": allocator_note(),
        "micro_batch": training.micro_batch_note,
        "dataset": training.dataset.cache.fingerprint,
        "classes": training.dataset.num_classes,
        "image_size": training.dataset.image_size,
        "versions": library_versions(),
        "seed": training.config.seed,
    }


def save_single_run(training: Training, path: Path, best: bool) -> None:
    """Write `latest.pth.tar` (everything that --resume needs) or `best.pth.tar` (the weights of the best epoch)."""
    epoch = training.best_epoch if best else training.epoch
    record = next(each for each in reversed(training.history) if each["epoch"] == epoch)
    content = {
        "state_dict": training.best_weights if best else cpu_weights(training.machinery.evaluated),
        "optimizer": training.machinery.optimizer.state_dict(),
        "epoch": record["epoch"],
        "top1": record["select_top1"],
        "top5": record["select_top5"],
        "config": training.config.model_dump(mode="json"),
    }
    if not best:
        content |= {"training": training_state(training), "best_weights": training.best_weights}
    write_atomically(path, lambda temporary: save_tensors(content, temporary))


def read_single_run(path: Path) -> tuple[TrialConfig, dict[str, Any]]:
    """The configuration and content of a `latest.pth.tar`."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return TrialConfig.model_validate(content["config"]), content
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the latest.pth.tar of a run, or its folder") from None
    except pickle.UnpicklingError:  # torch's advice is to read it all the same
        reason = "it is broken, or holds more than tensors and plain values"
        raise UserError(f"{path}: not a readable checkpoint of a single run ({reason})") from None
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a readable checkpoint of a single run ({reason})") from None


def continue_single_run(training: Training, content: dict[str, Any]) -> None:
    """Put the content of a `latest.pth.tar` back into `training`."""
    if not isinstance(content.get("training"), dict):
        raise UserError("this checkpoint can't be continued; give latest.pth.tar instead of best.pth.tar")
    load_training_state(training, content["training"], content["state_dict"])
    training.best_weights = content["best_weights"]
