"""Cuts the rows of a data set into the four splits: train, select, holdout, test.

`select` is a stratified part of the published training images, on which decisions are made. `holdout` is the published
validation part, on which none is made; where nothing is published it is another stratified part of train.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainable.data.layouts import ClassName
from trainable.errors import UserError

TRAIN, VAL, TEST = 0, 1, 2
SELECT_SHARE, LARGEST_SELECT_SHARE = 0.05, 0.20
HOLDOUT_SHARE = 0.10
MIN_IMAGES = 2
"""Images a class has at least in each stratified part."""
SELECT_IMAGES, SELECT_IMAGES_A_CLASS = 200, 10
"""What `select` should hold, whichever is more: fewer images can't tell trials apart."""

SelectShare = float | Literal["auto"]
"""Share of the training images that `select` gets; auto: as `select_share_for` says."""


class Splits(NamedTuple):
    """Sorted int64 row numbers, (rows of the split,) each; disjoint, and together all rows."""

    train: NDArray[np.int64]
    select: NDArray[np.int64]
    holdout: NDArray[np.int64]
    test: NDArray[np.int64]


class PartSizes(NamedTuple):
    """How many images of one class each part gets."""

    select: int
    holdout: int
    train: int


def make_splits(
    labels: NDArray[np.integer],
    published: NDArray[np.integer],
    classes: Sequence[ClassName],
    seed: int,
    select_share: SelectShare = SELECT_SHARE,
) -> Splits:
    """Splits N rows by their labels (N,) and their published parts (N,): TRAIN, VAL or TEST.

    A class of n training images gives max(2, round(select_share n)) of them to `select` and, where no validation part
    is published, max(2, round(0.10 n)) to `holdout`. If these leave none to train on, `select` gets fewer. Which ones
    depends on the seed, the class and its own rows alone: `holdout` is the same for all shares, and a smaller share's
    `select` is a part of a larger one's.
    Raises UserError if a class is too small for two images in each part and one to train on.
    """
    has_val = bool(np.any(published == VAL))
    in_train = published == TRAIN
    share = resolved_share(select_share, int(np.count_nonzero(in_train)), len(classes))
    parts = [
        _split_class(np.flatnonzero(in_train & (labels == index)), name, seed, share, with_holdout=not has_val)
        for index, name in enumerate(classes)
    ]
    train, select, holdout = (np.sort(np.concatenate(rows)) for rows in zip(*parts, strict=True))
    if has_val:
        holdout = np.flatnonzero(published == VAL)
    return Splits(*(rows.astype(np.int64) for rows in (train, select, holdout, np.flatnonzero(published == TEST))))


def resolved_share(select_share: SelectShare, train_images: int, classes: int) -> float:
    """The share as a number."""
    return select_share_for(train_images, classes) if select_share == "auto" else select_share


def select_share_for(train_images: int, classes: int) -> float:
    """The share that makes `select` hold 200 images, or 10 a class if that is more: at least 5 %, at most 20 %."""
    wanted = max(SELECT_IMAGES, SELECT_IMAGES_A_CLASS * classes)
    return min(LARGEST_SELECT_SHARE, max(SELECT_SHARE, wanted / max(1, train_images)))


def part_sizes(images: int, share: float, with_holdout: bool) -> PartSizes:
    """How a class of so many training images is divided; the sum is larger than `images` if they don't suffice."""
    holdout = max(MIN_IMAGES, round(HOLDOUT_SHARE * images)) if with_holdout else 0
    wanted = max(MIN_IMAGES, round(share * images))
    select = max(MIN_IMAGES, min(wanted, images - holdout - 1))
    return PartSizes(select, holdout, max(1, images - holdout - select))


def _split_class(
    rows: NDArray[np.intp], name: ClassName, seed: int, share: float, with_holdout: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    sizes = part_sizes(len(rows), share, with_holdout)
    if len(rows) < sum(sizes):
        raise UserError(
            f"class {name.id!r} has {len(rows)} readable training image{'s' * (len(rows) != 1)} but needs {sum(sizes)} "
            f"({', '.join(f'{size} {part}' for part, size in sizes._asdict().items() if size)}); "
            "add images or remove the class"
        )
    # the class's own stream: another class can come or go and this one keeps its split
    shuffled = np.random.default_rng([seed, *name.id.encode("utf-8", "surrogateescape")]).permutation(rows)
    # holdout has the same place for all shares: behind what `select` gets by default
    begin = part_sizes(len(rows), SELECT_SHARE, with_holdout).select
    end = begin + sizes.holdout
    others = np.concatenate([shuffled[:begin], shuffled[end:]])
    return others[sizes.select :], others[: sizes.select], shuffled[begin:end]
