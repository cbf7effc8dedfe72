"""The stream of batches: in order, a few ahead, and let go of when its reader stops."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from analysis.decoding import BySize
from analysis.ensemble import Votes
from analysis.images import Source, find_images
from analysis.pipeline import AHEAD, predicted_batches


def vote(images: BySize) -> Votes:
    """Two classes, from how red an image is; one member."""
    red = images[32][..., 0].mean(axis=(1, 2)) / 255
    probabilities = np.stack([red, 1 - red], axis=1).astype(np.float32)
    return Votes(probabilities, probabilities[None])


def counted(sources: Iterator[Source], asked: list[str]) -> Iterator[Source]:
    for source in sources:
        asked.append(source.name)
        yield source


def test_batches_come_in_order_with_what_was_voted_on_their_own_images(images: Path) -> None:
    sources = list(find_images([str(images / "val")]))
    batches = list(predicted_batches(iter(sources), vote, [32], batch_size=4))
    assert [name for batch in batches for name in batch.names] == [source.name for source in sources]
    (at_once,) = predicted_batches(iter(sources), vote, [32], batch_size=100)
    assert at_once.votes is not None
    together = np.concatenate([batch.votes.probabilities for batch in batches if batch.votes])
    np.testing.assert_array_equal(together, at_once.votes.probabilities)


def test_a_batch_without_a_good_image_has_no_votes(images: Path, tmp_path: Path) -> None:
    sources = [Source(str(tmp_path / "none.png")), Source(str(images / "test" / "0.png"))]
    broken, good = predicted_batches(iter(sources), vote, [32], batch_size=1)
    assert broken.votes is None
    assert broken.errors == {0: "no such file or directory"}
    assert good.votes is not None


def test_no_more_batches_are_asked_for_than_are_under_way(images: Path) -> None:
    asked: list[str] = []
    batches = predicted_batches(counted(find_images([str(images / "train")]), asked), vote, [32], batch_size=4)
    for number in range(4):
        next(batches)
        assert len(asked) == 4 * (number + 1 + AHEAD)
    batches.close()


def test_the_next_batch_is_computed_while_the_reader_has_one(images: Path) -> None:
    computed = threading.Semaphore(0)

    def counted_vote(batch: BySize) -> Votes:
        computed.release()
        return vote(batch)

    batches = predicted_batches(find_images([str(images / "test")]), counted_vote, [32], batch_size=2)
    next(batches)
    assert computed.acquire(timeout=10)
    assert computed.acquire(timeout=10)
    batches.close()


def test_a_reader_that_stops_leaves_no_thread_behind(images: Path) -> None:
    batches = predicted_batches(find_images([str(images / "train")]), vote, [32], batch_size=2)
    next(batches)
    batches.close()
    deadline = time.monotonic() + 10
    while any(thread.name.startswith(("decode", "compute")) for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_failure_of_the_model_reaches_the_reader(images: Path) -> None:
    def fail(_: BySize) -> Votes:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(predicted_batches(find_images([str(images / "test")]), fail, [32], batch_size=2))
