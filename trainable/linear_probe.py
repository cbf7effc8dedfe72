"""Multinomial logistic regression on frozen features, as the last layer of a timm model.

The strength of its L2 penalty comes from stratified cross-validation on the training images (Kornblith et al. 2019);
the standardisation of the features is folded into the layer. A fine-tuning that starts from it (Kumar et al. 2022)
doesn't spoil the features while a random head is learned.
"""

import hashlib
import json
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from trainable.architectures import classifiers
from trainable.data.dataset import Dataset
from trainable.epoch import Machinery
from trainable.features import open_features
from trainable.files import write_atomically

VERSION = 1
"""Raise it when the same features would give another head."""
PENALTIES = np.logspace(1, -5, 13)
"""Tried from the strongest on: half of each times the squared weights is added to the mean loss."""
FOLDS, FOLDS_OF_MANY, MANY = 5, 3, 4000
"""Of the cross-validation, and of one with so many images."""
WORSE = 3
"""Penalties in a row after which weaker ones aren't tried: the loss only grows from there."""
STEPS = 100
"""L-BFGS steps of a fit at most."""
TOLERANCE = 1e-5
"""Of the loss, at which a fit ends."""


class Head(NamedTuple):
    """A classifier on features, and what it said of images that it wasn't fitted to."""

    weight: NDArray[np.float32]
    """(classes, width)."""
    bias: NDArray[np.float32]
    """(classes,)."""
    penalty: float
    out_of_fold: NDArray[np.float32]
    """Logits (images, classes) of the training images, each by a fit without it."""
    features_s: float = 0.0
    """Seconds until the features were there."""


def probe_head(
    machinery: Machinery,
    dataset: Dataset,
    train_rows: NDArray[np.int64],
    arch: str,
    flip: bool,
    seed: int,
    cache_dir: Path | None,
) -> Head:
    """The head on the frozen features of `machinery`'s model, fitted to the images of `train_rows`.

    The features are those of train and select together, so that a refit finds them; heads are kept beside them.
    """
    rows = np.sort(np.concatenate([dataset.splits.train, dataset.splits.select]))
    started = time.perf_counter()
    features = open_features(machinery, dataset, rows, arch, flip, cache_dir)
    features_s = time.perf_counter() - started
    labels = dataset.cache.labels[train_rows]
    key = hashlib.sha256(json.dumps([VERSION, seed, dataset.num_classes]).encode() + train_rows.tobytes()).hexdigest()
    file = features.folder / f"head-{key[:16]}.npz"
    try:
        with np.load(file) as kept:
            return Head(kept["weight"], kept["bias"], float(kept["penalty"]), kept["out_of_fold"], features_s)
    except (OSError, ValueError, KeyError):
        pass
    at = np.searchsorted(rows, train_rows)
    head = fit_head(features.values[:, at], labels, dataset.num_classes, seed, machinery.device)
    _keep(head, file)
    return head._replace(features_s=features_s)


def _keep(head: Head, file: Path) -> None:
    def write(path: Path) -> None:
        with path.open("wb") as stream:
            np.savez(stream, **head._asdict())

    try:
        write_atomically(file, write)
    except OSError:
        return  # another user's folder: the next one fits it anew


def set_head(model: nn.Module, head: Head) -> None:
    """Put it into a timm model; of two classifiers, whose mean counts, each gets its own columns."""
    layers = classifiers(model)
    begin = 0
    for layer in layers:
        columns = torch.from_numpy(head.weight[:, begin : begin + layer.in_features])
        layer.weight.data.copy_(columns * len(layers))
        layer.bias.data.copy_(torch.from_numpy(head.bias))
        begin += layer.in_features


def fit_head(
    values: NDArray[np.floating],
    labels: NDArray[np.int64],
    num_classes: int,
    seed: int,
    device: torch.device = torch.device("cpu"),
) -> Head:
    """The head with the penalty of the smallest cross-validated loss.

    Args:
        values: Features (views, images, width); a head is fitted to all views, and judged on the first.
        labels: (images,), each class at least once.
        num_classes: Of the classifier.
        seed: Fixes the folds.
        device: Where it is fitted.
    """
    x = torch.from_numpy(np.asarray(values, dtype=np.float32)).to(device)
    y = torch.from_numpy(labels).to(device)
    mean, deviation = x.mean((0, 1)), x.std((0, 1)).clamp_min(1e-6)
    x = (x - mean) / deviation
    folds = torch.from_numpy(_folds(labels, seed)).to(device)
    states = [torch.zeros(num_classes, x.shape[2] + 1, device=device) for _ in range(int(folds.max()) + 1)]
    best: tuple[float, float, torch.Tensor] | None = None
    since = 0
    for penalty in PENALTIES.tolist():
        logits = torch.zeros(len(labels), num_classes, device=device)
        for fold, state in enumerate(states):
            inside = folds != fold
            fit(state, x[:, inside], y[inside], penalty)
            logits[~inside] = _logits(state, x[0, ~inside])
        loss = functional.cross_entropy(logits, y).item()
        since += 1
        if best is None or loss < best[0]:
            best, since = (loss, penalty, logits), 0
        if since == WORSE:
            break
    assert best is not None
    _, penalty, logits = best
    state = torch.zeros(num_classes, x.shape[2] + 1, device=device)
    fit(state, x, y, penalty)
    weight = state[:, :-1] / deviation
    bias = state[:, -1] - weight @ mean
    return Head(weight.cpu().numpy(), bias.cpu().numpy(), penalty, logits.cpu().numpy())


def fit(state: torch.Tensor, x: torch.Tensor, y: torch.Tensor, penalty: float) -> None:
    """Fit weights and bias `state` (classes, width + 1), from where they are, to features (views, images, width)."""
    state.requires_grad_(True)
    flat, targets = x.flatten(0, 1), y.repeat(len(x))
    optimizer = torch.optim.LBFGS(
        [state],
        max_iter=STEPS,
        tolerance_change=TOLERANCE / 100,
        tolerance_grad=TOLERANCE,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(_logits(state, flat), targets) + penalty / 2 * state[:, :-1].square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    state.requires_grad_(False)
    state.detach_()


def _logits(state: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.addmm(state[:, -1], x, state[:, :-1].T)


def _folds(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """The fold of each image, stratified; a class of fewer images than folds is missing from some."""
    from sklearn.model_selection import StratifiedKFold

    most = FOLDS if len(labels) < MANY else FOLDS_OF_MANY
    count = max(2, min(most, int(np.bincount(labels).max())))
    folds = np.zeros(len(labels), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a class of fewer images
        parts = StratifiedKFold(count, shuffle=True, random_state=seed).split(labels, labels)
        for fold, (_, held_out) in enumerate(parts):
            folds[held_out] = fold
    return folds
