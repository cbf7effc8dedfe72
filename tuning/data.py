"""The data set as a plan sees it: sizes from the listing alone. Needs neither torch nor Ray."""

from pathlib import Path
from typing import NamedTuple

from trainable.data import digits
from trainable.data.default import USING_DIGITS, choose_data
from trainable.data.layouts import natural_image_size, read_layout
from trainable.data.splits import HOLDOUT_SHARE, SELECT_SHARE


class Source(NamedTuple):
    """A data set; `train_images` is how many gradients will see, up to rounding."""

    root: Path
    image_size: int
    train_images: int
    is_digits: bool
    note: str


def find_source(requested: Path | None, image_size: int | None) -> Source:
    """The data set to search on; the embedded digits needn't be written yet."""
    root, is_digits = choose_data(requested)
    if is_digits and not root.exists():
        published = digits.IMAGES_TOTAL - digits.VAL_IMAGES - digits.TEST_IMAGES
        return Source(root, image_size or digits.IMAGE_SIZE, round(published * (1 - SELECT_SHARE)), True, USING_DIGITS)
    layout = read_layout(root)
    share = 1 - SELECT_SHARE if layout.val else 1 - SELECT_SHARE - HOLDOUT_SHARE
    note = f"{len(layout.train):,} training images of {len(layout.classes)} classes in {root}"
    return Source(
        root,
        image_size or natural_image_size(layout),
        round(len(layout.train) * share),
        is_digits,
        USING_DIGITS if is_digits and requested is None else note,
    )
