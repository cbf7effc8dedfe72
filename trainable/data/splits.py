"""Cuts the rows of a data set into the four splits: train, select, holdout, test.

`select` is a stratified part of the published training images, on which decisions are made. `holdout` is the published
validation part, on which none is made; where nothing is published it is another stratified part of train.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainable.data.layouts import ClassName
from trainable.errors import UserError

TRAIN, VAL, TEST = 0, 1, 2
SELECT_SHARE = 0.05
HOLDOUT_SHARE = 0.10
MIN_IMAGES = 2
"""Images a class has at least in each stratified part."""


class Splits(NamedTuple):
    """Sorted int64 row numbers, (rows of the split,) each; disjoint, and together all rows."""

    train: NDArray[np.int64]
    select: NDArray[np.int64]
    holdout: NDArray[np.int64]
    test: NDArray[np.int64]


def make_splits(
    labels: NDArray[np.integer], published: NDArray[np.integer], classes: Sequence[ClassName], seed: int
) -> Splits:
    """Splits N rows by their labels (N,) and their published parts (N,): TRAIN, VAL or TEST.

    A class of n training images gives max(2, round(0.05 n)) of them to `select` and, where no validation part is
    published, max(2, round(0.10 n)) to `holdout`. Which ones depends on the seed, the class and its own rows alone.
    Raises UserError where a class would have no image left to train on.
    """
    has_val = bool(np.any(published == VAL))
    in_train = published == TRAIN
    parts = [
        _split_class(np.flatnonzero(in_train & (labels == index)), name, seed, with_holdout=not has_val)
        for index, name in enumerate(classes)
    ]
    train, select, holdout = (np.sort(np.concatenate(rows)) for rows in zip(*parts, strict=True))
    if has_val:
        holdout = np.flatnonzero(published == VAL)
    return Splits(*(rows.astype(np.int64) for rows in (train, select, holdout, np.flatnonzero(published == TEST))))


def _split_class(
    rows: NDArray[np.intp], name: ClassName, seed: int, with_holdout: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    n_select = max(MIN_IMAGES, round(SELECT_SHARE * len(rows)))
    n_holdout = max(MIN_IMAGES, round(HOLDOUT_SHARE * len(rows))) if with_holdout else 0
    needed = n_select + n_holdout + 1
    if len(rows) < needed:
        parts = f"{n_select} select, {n_holdout} holdout, 1 train" if with_holdout else f"{n_select} select, 1 train"
        raise UserError(
            f"class {name.id!r} has {len(rows)} readable training image{'s' * (len(rows) != 1)} but needs {needed} "
            f"({parts}); add images or remove the class"
        )
    # the class's own stream: another class can come or go and this one keeps its split
    shuffled = np.random.default_rng([seed, *name.id.encode("utf-8", "surrogateescape")]).permutation(rows)
    return shuffled[n_select + n_holdout :], shuffled[:n_select], shuffled[n_select : n_select + n_holdout]
