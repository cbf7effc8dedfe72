"""What a step of a configuration takes: by its arithmetic, and from the steps that were seen."""

import math
import statistics
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from search_spaces import is_probe
from search_spaces.geometry import FAMILIES
from tuning.arithmetic import mean_share, size_share, whole_gmacs


class Work(NamedTuple):
    """What all steps of a search have in common."""

    image_size: int
    seconds: float
    """Of a step on whole images, for each unit of `arithmetic.whole_gmacs`."""
    is_measured: bool = False
    """Whether that was measured at the start, and isn't the usual."""
    epochs: float = 1.0
    """Of a step: a probe looks at each image once, however long a step is."""


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
        """Of a step on whole images, by group."""
        self.usual: dict[Hashable, float] = {}
        """Their medians, kept because each choice asks for those of hundreds of paused trials."""
        self.excess: dict[Hashable, float] = {}
        """Of each architecture and geometry that was seen, the logarithm of seconds by those of its arithmetic."""
        self.correction = 1.0
        """By how much steps took longer than their arithmetic says."""

    @property
    def is_absolute(self) -> bool:
        """Whether `predict` gives seconds, and not only shares."""
        return self.measured and (bool(self.seconds) or (self.work is not None and self.work.is_measured))

    def add(self, config: Mapping[str, Any], seconds: float, step: float) -> None:
        """The step that ended at `step` took so long; one of images that grow counts as one of whole images."""
        if not self.measured:
            return
        narrow, geometry = _groups(config)
        for group in (narrow, geometry):
            self.seconds[group].append(seconds / size_share(config, step / self.steps))
            self.usual[group] = max(statistics.median(self.seconds[group]), 1e-9)
        if is_probe(config):  # its features may have been there already
            return
        self.excess[geometry] = math.log(self.usual[geometry] / self._by_arithmetic(config))
        self.correction = math.exp(statistics.fmean(self.excess.values()))

    def predict(self, configs: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Seconds of a step of each in the mean over a training, (configurations,), or shares: see `is_absolute`."""
        return np.array([self._usual(config) * mean_share(config) for config in configs])

    def of_step(self, config: Mapping[str, Any], step: float) -> float | None:
        """Seconds of the step that follows `step`; None if nothing tells."""
        if not self.is_absolute:
            return None
        return self._usual(config) * size_share(config, (math.floor(step) + 1) / self.steps)

    def _usual(self, config: Mapping[str, Any]) -> float:
        """Seconds of a step on whole images."""
        seen = next((self.usual[group] for group in _groups(config) if group in self.usual), None)
        return self._by_arithmetic(config) * self.correction if seen is None else seen

    def _by_arithmetic(self, config: Mapping[str, Any]) -> float:
        """The same; 1 if nothing is known of the images."""
        if self.work is None:
            return 1.0
        seconds = self.work.seconds * whole_gmacs(config, self.work.image_size)
        return seconds / self.work.epochs if is_probe(config) else seconds


def _groups(config: Mapping[str, Any]) -> tuple[Hashable, Hashable]:
    """Of its batch size, and of its architecture and geometry alone."""
    geometry = (config.get("arch"), config.get("freeze"), *(config.get(name) for name in FAMILIES))
    return (*geometry, config.get("batch_size")), geometry
