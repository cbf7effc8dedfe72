"""Decodes files in threads, one batch ahead of who consumes them, so that memory doesn't grow with their number."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trainable.data.decode import BadImage, read_image

BySize = dict[int, np.ndarray]
"""One image, uint8 RGB (S, S, 3) for each size S."""


class Decoded(NamedTuple):
    """A batch of files: their images, and why the others have none."""

    paths: Sequence[Path]
    """All files of the batch, in order."""
    images: BySize
    """uint8 (good files, S, S, 3) for each size S; empty where no file is good."""
    errors: dict[Path, str]


def decoded_batches(paths: Sequence[Path], sizes: Sequence[int], batch_size: int) -> Iterator[Decoded]:
    """The files in their order, each decoded at all `sizes` (pixels), exactly as for training."""
    chunks = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
    with ThreadPoolExecutor() as pool:

        def submit(chunk: Sequence[Path]) -> list[Future[BySize | str]]:
            return [pool.submit(try_read, path, sizes) for path in chunk]

        try:
            ahead = submit(chunks[0])
            for chunk, following in zip(chunks, [*chunks[1:], []], strict=True):
                current, ahead = ahead, submit(following)
                yield collect(chunk, [future.result() for future in current], sizes)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def collect(paths: Sequence[Path], results: Sequence[BySize | str], sizes: Sequence[int]) -> Decoded:
    """One batch from what became of each of its files: images, or the reason why there is none."""
    good = [result for result in results if not isinstance(result, str)]
    errors = {path: result for path, result in zip(paths, results, strict=True) if isinstance(result, str)}
    return Decoded(paths, {size: np.stack([image[size] for image in good]) for size in sizes if good}, errors)


def try_read(path: Path, sizes: Sequence[int]) -> BySize | str:
    """The image at each size, or the short reason why the file has none."""
    try:
        return {size: read_image(path, size) for size in sizes}
    except BadImage as error:
        return str(error)
