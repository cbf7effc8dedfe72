"""What the parts of an epoch take, at next to no cost: the clock on a CPU, the device's own events on a GPU."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

from trainable import metrics

PARTS = (metrics.SECONDS_DATA, metrics.SECONDS_FORWARD, metrics.SECONDS_BACKWARD, metrics.SECONDS_UPDATE)
SAMPLE_EVERY = 16
"""Of so many updates one is measured on a GPU, where an event costs more than a look at the clock; the second, since
the first one waits for the epoch's beginning."""

Batch = TypeVar("Batch")


class TimeSplit:
    """Adds up the seconds between marks, by name; nothing waits for the device until `seconds` is asked for."""

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.totals = dict.fromkeys(PARTS, 0.0)
        self._time = 0.0
        self._event: torch.cuda.Event
        self.spans: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self.updates = 0
        self.measures = False

    def updates_of(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches; an update begins where one is asked for."""
        iterator = iter(batches)
        while True:
            self.measures = not self.on_gpu or self.updates % SAMPLE_EVERY == 1
            self._start()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self.updates += 1
            yield batch

    def mark(self, name: str) -> None:
        """What was done since the last mark, or since the update began, was `name`."""
        if not self.measures:
            return
        if self.on_gpu:
            before, self._event = self._event, _event()
            self.spans.append((name, before, self._event))
        else:
            before_s, self._time = self._time, time.perf_counter()
            self.totals[name] += self._time - before_s

    def seconds(self) -> dict[str, float]:
        """Seconds by name, of all updates."""
        if not self.on_gpu:
            return self.totals
        torch.cuda.synchronize()
        sampled = len(range(1, self.updates, SAMPLE_EVERY))
        for name, before, after in self.spans:
            spent = before.elapsed_time(after) / 1000
            self.totals[name] += spent * self.updates / sampled
        self.spans.clear()
        return self.totals

    def _start(self) -> None:
        if not self.on_gpu:
            self._time = time.perf_counter()
        elif self.measures:
            self._event = _event()


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event
