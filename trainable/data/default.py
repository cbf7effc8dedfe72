"""Which images are used when none are named."""

from pathlib import Path
from typing import NamedTuple

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


USING_DIGITS = "no data set given or downloaded: using the embedded digits (1,797 handwritten digits of scikit-learn)"
"""What a command says where it comes to that."""
