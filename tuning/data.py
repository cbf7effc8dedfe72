"""The data set as a plan sees it: sizes from the listing alone. Needs neither torch nor Ray."""

from pathlib import Path
from typing import NamedTuple

from trainable.data import digits
from trainable.data.default import USING_DIGITS, choose_images
from trainable.data.layouts import Layout, natural_image_size, read_layout
from trainable.data.origin import Origin, look_at
from trainable.data.preview import preview
from trainable.data.splits import HOLDOUT_SHARE, SELECT_SHARE
from trainable.sizes import size_text


class Source(NamedTuple):
    """A data set; `train_images` is how many gradients will see, up to rounding.

    It and `image_size` are None for a tar that isn't unpacked yet: trials then take the images' own size.
    """

    root: Path | str
    image_size: int | None
    train_images: int | None
    is_digits: bool
    note: str


def find_source(requested: Path | str | None, image_size: int | None, cache_dir: Path | None = None) -> Source:
    """The data set to search on; the embedded digits needn't be written yet, and an archive or address not be fetched.

    Raises UserError, as `look_at`, `preview` and `read_layout` do.
    """
    root, is_digits = choose_images(requested)
    if is_digits and not Path(root).exists():
        published = digits.IMAGES_TOTAL - digits.VAL_IMAGES - digits.TEST_IMAGES
        return Source(root, image_size or digits.IMAGE_SIZE, round(published * (1 - SELECT_SHARE)), True, USING_DIGITS)
    found = look_at(root)
    if isinstance(found, Origin):
        return elsewhere(root, found, image_size, cache_dir)
    layout = read_layout(found)
    note = USING_DIGITS if is_digits and requested is None else f"{images_text(layout)} in {root}"
    return Source(root, image_size or natural_image_size(layout), train_images(layout), is_digits, note)


def elsewhere(root: Path | str, origin: Origin, image_size: int | None, cache_dir: Path | None) -> Source:
    """A data set that each machine still has to fetch or unpack."""
    layout, size = preview(origin, image_size, cache_dir)
    what = "unpacked" if origin.is_local else "fetched"
    amount = size_text(origin.size_bytes) + ("" if origin.is_archive else f" in {len(origin.files):,} files")
    if layout is None:
        note = f"{root}, {amount}; what it holds is known when it is {what}, once on each machine"
        return Source(root, size, None, False, note)
    note = f"{images_text(layout)} in {root}, {amount}, {what} once on each machine"
    return Source(root, size, train_images(layout), False, note)


def images_text(layout: Layout) -> str:
    """What a data set has to learn from."""
    return f"{len(layout.train):,} training images of {len(layout.classes)} classes"


def train_images(layout: Layout) -> int:
    """How many are left for gradients."""
    return round(len(layout.train) * (1 - SELECT_SHARE if layout.val else 1 - SELECT_SHARE - HOLDOUT_SHARE))
