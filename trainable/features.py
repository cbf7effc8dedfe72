"""Frozen features: what a pretrained backbone says of each training image, computed once a machine and kept.

They lie in the cache folder as `features-<architecture>-<key>`, whose key covers the backbone's weights, how images are
presented to it, the arithmetic, and the images themselves:

    features.npy     float16 (views, images, width): the image, and the mirrored one if flips are allowed
    manifest.json    written last
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainable.architectures import classifiers, parameter_ids
from trainable.data._progress import reporter
from trainable.data._room import MANIFEST, Hold, hold, locked, reserve
from trainable.data.cache import default_cache_dir
from trainable.data.dataset import Dataset
from trainable.data.loader import in_order
from trainable.epoch import Machinery, batch_logits
from trainable.errors import UserError
from trainable.files import tree_to_disk, write_text

VERSION = 1
"""Raise it when the same images and weights would give other features."""
FEATURES, DONE = "features.npy", "done.json"
"""The features, and how many images of each view an interrupted pass had behind it."""
LARGEST = torch.finfo(torch.float16).max
BATCH = 64
SAVE_EVERY = 16
"""Batches from one note of how far a pass is to the next: what an interruption costs at most."""


class Features(NamedTuple):
    """Of some images; the folder stays while `hold` lives."""

    folder: Path
    values: NDArray[np.float16]
    """(views, images, width)."""
    hold: Hold


@contextmanager
def features_as_logits(model: nn.Module) -> Iterator[None]:
    """While it is entered, the model returns what goes into its classifiers, (batch, width), side by side."""
    seen: list[torch.Tensor] = []

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(inputs[0])

    def give(module: nn.Module, inputs: Any, output: Any) -> torch.Tensor:
        together = torch.cat(seen, dim=1)
        seen.clear()
        return together

    hooks = [layer.register_forward_pre_hook(note) for layer in classifiers(model)]
    hooks.append(model.register_forward_hook(give))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def open_features(
    machinery: Machinery, dataset: Dataset, rows: NDArray[np.int64], arch: str, flip: bool, cache_dir: Path | None
) -> Features:
    """The features of those rows of the cache, in the arithmetic of `machinery`; computed if nobody has yet.

    An interrupted pass continues where it was. UserError if they can't be kept in the cache folder.
    """
    caches = cache_dir or default_cache_dir()
    key = _key(machinery, dataset, rows, flip)
    folder = caches / f"features-{arch}-{key[:16]}"
    held = hold(folder)
    values = _load(folder, key)
    if values is not None:
        return Features(folder, values, held)
    try:
        caches.mkdir(parents=True, exist_ok=True)
        with locked(folder, "computes features into"):
            values = _load(folder, key)
            if values is None:
                _compute(folder, key, machinery, dataset, rows, 1 + flip)
                values = _load(folder, key)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{caches}: features cannot be kept here ({reason}); choose another --cache-dir") from error
    assert values is not None
    return Features(folder, values, hold(folder))


def _key(machinery: Machinery, dataset: Dataset, rows: NDArray[np.int64], flip: bool) -> str:
    """What the features depend on, as hexadecimal digits."""
    digest = hashlib.sha256()
    last = parameter_ids(classifiers(machinery.model))
    for name, tensor in machinery.model.state_dict(keep_vars=True).items():
        if id(tensor) not in last:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    normalise, side = machinery.normalise, dataset.image_size
    looks = [normalise.offset.tolist(), normalise.scale.tolist(), side, str(machinery.arithmetic.dtype), flip]
    digest.update(json.dumps([VERSION, dataset.cache.fingerprint, looks]).encode())
    digest.update(np.ascontiguousarray(rows).data)
    return digest.hexdigest()


def _load(folder: Path, key: str) -> NDArray[np.float16] | None:
    """The complete features of that key; None if they aren't there, or aren't what was written."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        manifest = json.loads((folder / MANIFEST).read_text())
        file = folder / FEATURES
        if manifest["key"] == key and file.stat().st_size == manifest["sizes_bytes"][FEATURES]:
            values: NDArray[np.float16] = np.load(file, mmap_mode="r")
            return values
    return None


def _compute(
    folder: Path, key: str, machinery: Machinery, dataset: Dataset, rows: NDArray[np.int64], views: int
) -> None:
    machinery.evaluated.eval()
    with features_as_logits(machinery.evaluated):
        width = _features_of(machinery, next(in_order(dataset.cache, rows[:1], 1))).shape[1]
        needed = views * len(rows) * width * 2
        held = reserve(folder, needed, 0)
        scratch = folder.with_name(folder.name + ".building")
        values, done = _begin(scratch, key, (views, len(rows), width))
        batches = math.ceil(len(rows) / BATCH)
        with reporter(f"computing {folder.name}", views * len(rows), progress=True) as advance:
            advance(done * BATCH)
            for number in range(done, views * batches):
                view, start = divmod(number, batches)
                part = rows[start * BATCH : (start + 1) * BATCH]
                images = next(in_order(dataset.cache, part, BATCH))
                found = _features_of(machinery, images.flip(2) if view else images)
                values[view, start * BATCH : start * BATCH + len(part)] = found.numpy()
                advance(len(part))
                if number % SAVE_EVERY == SAVE_EVERY - 1:
                    values.flush()
                    write_text(scratch / DONE, json.dumps({"key": key, "batches": number + 1}))
    values.flush()
    size = (scratch / FEATURES).stat().st_size
    (scratch / DONE).unlink(missing_ok=True)
    (scratch / MANIFEST).write_text(json.dumps({"key": key, "sizes_bytes": {FEATURES: size}}))
    tree_to_disk(scratch)
    shutil.rmtree(folder, ignore_errors=True)
    scratch.rename(folder)
    held.release()


def _features_of(machinery: Machinery, images: torch.Tensor) -> torch.Tensor:
    """float16 (batch, width) on the CPU of uint8 images (batch, H, W, 3)."""
    with torch.inference_mode():
        return torch.cat(batch_logits(machinery, images)).clamp(-LARGEST, LARGEST).to(torch.float16).cpu()


def _begin(scratch: Path, key: str, shape: tuple[int, int, int]) -> tuple[np.memmap, int]:
    """The file to fill, and how many batches of it an interrupted pass had filled."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        done = json.loads((scratch / DONE).read_text())
        there = np.lib.format.open_memmap(scratch / FEATURES, mode="r+")
        if done["key"] == key and there.shape == shape:
            return there, int(done["batches"])
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    values = np.lib.format.open_memmap(scratch / FEATURES, mode="w+", dtype=np.float16, shape=shape)
    with (scratch / FEATURES).open("r+b") as file:  # else a full disk would kill the process when it writes
        os.posix_fallocate(file.fileno(), 0, (scratch / FEATURES).stat().st_size)
    return values, 0
