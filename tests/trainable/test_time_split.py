import time

import pytest
import torch

from trainable import metrics
from trainable.time_split import PARTS, SAMPLE_EVERY, TimeSplit


def test_the_parts_of_all_updates_are_added_up() -> None:
    split = TimeSplit(torch.device("cpu"))

    def slow_batches():
        for number in range(3):
            time.sleep(0.02)
            yield number

    for _ in split.updates_of(slow_batches()):
        split.mark(metrics.SECONDS_DATA)
        time.sleep(0.05)
        split.mark(metrics.SECONDS_FORWARD)
        time.sleep(0.03)  # belongs to no part
    seconds = split.seconds()
    assert set(seconds) == set(PARTS)
    assert seconds[metrics.SECONDS_DATA] == pytest.approx(0.06, abs=0.05)
    assert seconds[metrics.SECONDS_FORWARD] == pytest.approx(0.15, abs=0.08)
    assert seconds[metrics.SECONDS_UPDATE] == 0


def test_marks_outside_an_update_count_for_nothing() -> None:
    split = TimeSplit(torch.device("cpu"))
    split.mark(metrics.SECONDS_BACKWARD)
    assert sum(split.seconds().values()) == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_its_own_time_is_sampled() -> None:
    split = TimeSplit(torch.device("cuda"))
    matrix = torch.randn(4096, 4096, device="cuda")
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in split.updates_of(range(2 * SAMPLE_EVERY)):
        split.mark(metrics.SECONDS_DATA)
        matrix = (matrix @ matrix).clamp(-1, 1)
        split.mark(metrics.SECONDS_FORWARD)
    torch.cuda.synchronize()
    took = time.perf_counter() - began
    assert split.seconds()[metrics.SECONDS_FORWARD] == pytest.approx(took, rel=0.5)
