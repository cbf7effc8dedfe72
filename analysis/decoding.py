"""From where an image is to its pixels, at the sizes that the members of an ensemble need."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from analysis.archives import read_member
from analysis.images import Source
from trainable.data.decode import BadImage, read_image

BySize = dict[int, np.ndarray]
"""One image, uint8 RGB (S, S, 3) for each size S."""


class Decoded(NamedTuple):
    """A batch of images, and why the others have no pixels."""

    names: Sequence[str]
    """Of all images of the batch, in order."""
    images: BySize
    """uint8 (good images, S, S, 3) for each size S; empty where none is good."""
    errors: dict[int, str]
    """By place in the batch."""


def collect(names: Sequence[str], results: Sequence[BySize | str], sizes: Sequence[int]) -> Decoded:
    """One batch from what became of each of its images: pixels, or the reason why there are none."""
    good = [result for result in results if not isinstance(result, str)]
    errors = {place: result for place, result in enumerate(results) if isinstance(result, str)}
    return Decoded(names, {size: np.stack([image[size] for image in good]) for size in sizes if good}, errors)


def try_read(source: Source, sizes: Sequence[int]) -> BySize | str:
    """The image at each size, exactly as for training, or the short reason why there is none."""
    try:
        content = read_source(source)
        return {size: read_image(content, size) for size in sizes}
    except BadImage as error:
        return str(error)


def read_source(source: Source) -> Path | bytes:
    """What `read_image` takes. Raises BadImage."""
    if source.error:
        raise BadImage(source.error)
    if source.member is not None:
        return read_member(source.member)
    if os.path.exists(source.name) and not os.path.isfile(source.name):  # reading a pipe could wait for ever
        raise BadImage("not a regular file")
    return Path(source.name)
