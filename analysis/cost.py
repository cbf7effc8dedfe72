"""What a member costs who uses it: parameters, and the time of one image."""

import time
from typing import NamedTuple

import torch

from analysis.candidates import Candidate, Shape
from analysis.inference import empty_module

RUNS = 7
"""Images that are timed after a first one; the fastest counts, since other load can only add."""


class Cost(NamedTuple):
    """Of one member, or of several together."""

    parameters: int
    latency_ms: float
    """Of one image."""


class CostMeter:
    """Measures each shape of model once."""

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.num_classes = num_classes
        self.device = device
        self._known: dict[Shape, Cost] = {}

    def of(self, candidate: Candidate) -> Cost:
        """What this candidate costs; the weights don't matter."""
        if candidate.shape not in self._known:
            self._known[candidate.shape] = measure(candidate, self.num_classes, self.device)
        return self._known[candidate.shape]


@torch.inference_mode()
def measure(candidate: Candidate, num_classes: int, device: torch.device) -> Cost:
    """Parameters of a candidate's model, and the time of an image on `device`."""
    module = empty_module(candidate.config, num_classes, candidate.image_size).to(device)
    image = torch.zeros((1, candidate.image_size, candidate.image_size, 3), dtype=torch.uint8, device=device)
    seconds = []
    for _ in range(RUNS + 1):
        started = time.perf_counter()
        module(image).cpu()
        seconds.append(time.perf_counter() - started)
    return Cost(sum(each.numel() for each in module.model.parameters()), 1000 * min(seconds[1:]))
