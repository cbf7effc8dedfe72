"""What a step of a configuration takes: by its arithmetic, and from the steps that were seen."""

import math
import statistics
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tuning.arithmetic import GROWING_SHARE, size_share, training_gmacs

GEOMETRY = ("stem", "patch_size", "window_size", "progressive_resize")
"""What changes an architecture's arithmetic."""


class Work(NamedTuple):
    """What all steps of a search have in common."""

    image_size: int
    seconds: float
    """Of a step, for each unit of `arithmetic.training_gmacs`."""
    is_measured: bool = False
    """Whether that was measured at the start, and isn't the usual."""


class StepCost:
    """Median seconds of a step for each architecture, geometry and batch size, and for each architecture and geometry.

    What wasn't seen follows from the arithmetic: by how much the seen ones differ from theirs, in the geometric mean.
    Without `measured` the arithmetic alone tells, so that a search's decisions follow from its seed.
    """

    def __init__(self, work: Work | None, steps: int, measured: bool) -> None:
        self.work = work
        self.steps = steps
        """Of a full training."""
        self.measured = measured
        self.seconds: defaultdict[Hashable, list[float]] = defaultdict(list)
        self.configs: dict[Hashable, Mapping[str, Any]] = {}
        """One of each architecture and geometry that was seen."""

    @property
    def is_absolute(self) -> bool:
        """Whether `predict` gives seconds, and not only shares."""
        return self.measured and (bool(self.seconds) or (self.work is not None and self.work.is_measured))

    def add(self, config: Mapping[str, Any], seconds: float, step: float) -> None:
        """The step that ended at `step` took so long; one of images that grow counts as one of whole images."""
        if not self.measured:
            return
        for group in _groups(config):
            self.seconds[group].append(seconds / size_share(config, step / self.steps))
        self.configs.setdefault(_groups(config)[1], config)

    def predict(self, configs: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Seconds of a step of each in the mean over a training, (configurations,), or shares: see `is_absolute`."""
        correction = self._correction()
        return np.array([self._usual(config, correction) * _mean_share(config) for config in configs])

    def of_step(self, config: Mapping[str, Any], step: float) -> float | None:
        """Seconds of the step that follows `step`; None if nothing tells."""
        if not self.is_absolute:
            return None
        following = (math.floor(step) + 1) / self.steps
        return self._usual(config, self._correction()) * size_share(config, following)

    def _usual(self, config: Mapping[str, Any], correction: float) -> float:
        seen = next((group for group in _groups(config) if group in self.seconds), None)
        return self._by_arithmetic(config) * correction if seen is None else self._of_group(seen)

    def _of_group(self, group: Hashable) -> float:
        return max(statistics.median(self.seconds[group]), 1e-9)

    def _correction(self) -> float:
        """By how much steps took longer than their arithmetic says."""
        ratios = [
            math.log(self._of_group(group) / self._by_arithmetic(config)) for group, config in self.configs.items()
        ]
        return math.exp(sum(ratios) / len(ratios)) if ratios else 1.0

    def _by_arithmetic(self, config: Mapping[str, Any]) -> float:
        """Seconds of a step on whole images; 1 if nothing is known of the images."""
        if self.work is None:
            return 1.0
        return self.work.seconds * training_gmacs({**config, "progressive_resize": False}, self.work.image_size)


def _mean_share(config: Mapping[str, Any]) -> float:
    return GROWING_SHARE if config.get("progressive_resize") else 1.0


def _groups(config: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """From the narrowest on."""
    geometry = (config.get("arch"), *(config.get(name) for name in GEOMETRY))
    return [(*geometry, config.get("batch_size")), geometry]
