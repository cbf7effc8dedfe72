"""The data set as a plan sees it: sizes from the listing alone. Needs neither torch nor Ray."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from trainable.data import digits
from trainable.data.default import USING_DIGITS, choose_images
from trainable.data.layouts import Layout, natural_image_size, read_layout
from trainable.data.origin import Origin, look_at
from trainable.data.preview import preview
from trainable.data.splits import PartSizes, SelectShare, part_sizes, resolved_share
from trainable.sizes import size_text

DIGITS_TO_TRAIN = (127, 132, 128, 131, 131, 132, 131, 129, 126, 130)
"""Training images of each digit, which needn't be written yet."""
TOP1, CORRELATION = 0.75, 0.5
"""What `apart_text` assumes of two trials: how often each is right, and how their errors correlate."""


class Source(NamedTuple):
    """A data set; `train_images` is how many gradients will see.

    All numbers are None for a tar that isn't unpacked yet: trials then take the images' own size.
    """

    root: Path | str
    image_size: int | None
    train_images: int | None
    is_digits: bool
    note: str
    select_images: int | None
    """How many decide which trials are better."""
    classes: int | None
    holdout_images: int | None
    """How many the published figures are of."""


def find_source(
    requested: Path | str | None,
    image_size: int | None,
    cache_dir: Path | None = None,
    select_share: SelectShare = "auto",
) -> Source:
    """The data set to search on; the embedded digits needn't be written yet, and an archive or address not be fetched.

    Raises UserError, as `look_at`, `preview` and `read_layout` do.
    """
    root, is_digits = choose_images(requested)
    if is_digits and not Path(root).exists():
        sizes, size = sizes_of(DIGITS_TO_TRAIN, select_share, with_holdout=False), image_size or digits.IMAGE_SIZE
        return Source(
            root, size, sizes.train, True, USING_DIGITS, sizes.select, len(DIGITS_TO_TRAIN), digits.VAL_IMAGES
        )
    found = look_at(root)
    if isinstance(found, Origin):
        return elsewhere(root, found, image_size, cache_dir, select_share)
    layout = read_layout(found)
    sizes = layout_sizes(layout, select_share)
    note = USING_DIGITS if is_digits and requested is None else f"{images_text(layout)} in {root}"
    size = image_size or natural_image_size(layout)
    return Source(
        root, size, sizes.train, is_digits, note, sizes.select, len(layout.classes), holdout_images(layout, sizes)
    )


def elsewhere(
    root: Path | str, origin: Origin, image_size: int | None, cache_dir: Path | None, select_share: SelectShare
) -> Source:
    """A data set that each machine still has to fetch or unpack."""
    layout, size = preview(origin, image_size, cache_dir)
    what = "unpacked" if origin.is_local else "fetched"
    amount = size_text(origin.size_bytes) + ("" if origin.is_archive else f" in {len(origin.files):,} files")
    if layout is None:
        note = f"{root}, {amount}; what it holds is known when it is {what}, once on each machine"
        return Source(root, size, None, False, note, None, None, None)
    note = f"{images_text(layout)} in {root}, {amount}, {what} once on each machine"
    sizes = layout_sizes(layout, select_share)
    return Source(
        root, size, sizes.train, False, note, sizes.select, len(layout.classes), holdout_images(layout, sizes)
    )


def images_text(layout: Layout) -> str:
    """What a data set has to learn from."""
    return f"{len(layout.train):,} training images of {len(layout.classes)} classes"


def layout_sizes(layout: Layout, select_share: SelectShare) -> PartSizes:
    """How many training images each part will get if all can be decoded."""
    counts = Counter(example.label for example in layout.train)
    return sizes_of([counts[label] for label in range(len(layout.classes))], select_share, not layout.val)


def holdout_images(layout: Layout, sizes: PartSizes) -> int:
    """The published ones, else those that are kept back from training."""
    return len(layout.val) if layout.val else sizes.holdout


def sizes_of(images: Sequence[int], select_share: SelectShare, with_holdout: bool) -> PartSizes:
    """The parts of all classes together, from each class's number of training images."""
    share = resolved_share(select_share, sum(images), len(images))
    sizes = [part_sizes(count, share, with_holdout) for count in images]
    return PartSizes(*(sum(part) for part in zip(*sizes, strict=True)))


def apart_text(select_images: int) -> str:
    """By how much two trials' top-1 must differ on so many images to tell them apart: `two trials need 9 points ...`.

    Two standard errors of a paired difference. Both trials are right on the share p = 0.75 of the images, neither the
    worst case (0.5) nor the best (1), and their errors correlate by r = 0.5, as those of models that saw the same
    images do: the difference on one image has the variance 2 p (1 - p) (1 - r), that of n images an n-th of it.
    """
    variance = 2 * TOP1 * (1 - TOP1) * (1 - CORRELATION)
    points = max(1, round(100 * 2 * math.sqrt(variance / max(1, select_images))))
    return f"two trials need {points} point{'s' * (points != 1)} between them"
