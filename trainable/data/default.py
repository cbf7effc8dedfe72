"""Which images are used when none are named."""

from pathlib import Path
from typing import NamedTuple

from trainable.address import is_address

TINY_IMAGENET = Path("data/tiny-imagenet-200")
DIGITS = Path("data/digits")


class DefaultData(NamedTuple):
    """A folder, and whether it holds (or will hold) the embedded digits."""

    root: Path
    is_digits: bool


def choose_data(requested: Path | None) -> DefaultData:
    """1. The folder asked for, 2. a downloaded Tiny-ImageNet in this folder, 3. the embedded digits."""
    if requested is not None:
        return DefaultData(requested.absolute(), requested.absolute() == DIGITS.absolute())
    if TINY_IMAGENET.is_dir():
        return DefaultData(TINY_IMAGENET.absolute(), False)
    return DefaultData(DIGITS.absolute(), True)


def choose_images(requested: Path | str | None) -> tuple[Path | str, bool]:
    """As `choose_data`, of what may also be an address, such as s3://bucket/images.zip, which stays as it is."""
    if requested is not None and is_address(requested):
        return requested, False
    return choose_data(None if requested is None else Path(requested))


USING_DIGITS = "no data set given or downloaded: using the embedded digits (1,797 handwritten digits of scikit-learn)"
"""What a command says where it comes to that."""
