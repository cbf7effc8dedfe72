"""Predicts a stream of images: while one batch is computed, the next is decoded and the one before is written."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from analysis.decoding import BySize, collect, try_read
from analysis.images import Source

if TYPE_CHECKING:
    from analysis.ensemble import Votes

AHEAD = 2
"""Batches that are under way while their consumer has one: the one in computation, and the one that is decoded."""


class Predicted(NamedTuple):
    """What became of a batch of images."""

    names: Sequence[str]
    """Of all images of the batch, in order."""
    votes: "Votes | None"
    """Of the good images; None where none is good."""
    errors: dict[int, str]
    """Why an image has no prediction, by its place in the batch."""


def predicted_batches(
    sources: Iterator[Source], vote: Callable[[BySize], "Votes"], sizes: Sequence[int], batch_size: int
) -> Iterator[Predicted]:
    """The images in their order, in memory for `AHEAD` + 1 batches whatever their number.

    `sources` is asked in the caller's thread, `vote` in one of its own, and images are decoded in as many as there are
    cores. A caller that stops in between lets go of what is under way.
    """
    decoders = ThreadPoolExecutor(len(os.sched_getaffinity(0)), "decode")
    computing = ThreadPoolExecutor(1, "compute")
    under_way: deque[Future[Predicted]] = deque()

    def compute(names: Sequence[str], decoding: Sequence[Future[BySize | str]]) -> Predicted:
        batch = collect(names, [each.result() for each in decoding], sizes)
        return Predicted(names, vote(batch.images) if batch.images else None, batch.errors)

    try:
        for chunk in iter(lambda: list(islice(sources, batch_size)), []):
            decoding = [decoders.submit(try_read, source, sizes) for source in chunk]
            under_way.append(computing.submit(compute, [source.name for source in chunk], decoding))
            if len(under_way) > AHEAD:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for pool in (computing, decoders):
            pool.shutdown(wait=False, cancel_futures=True)
