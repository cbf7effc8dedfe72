"""What an epoch of a configuration takes, from the epochs that were seen: by architecture and batch size."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class EpochCost:
    """Mean seconds of an epoch for each architecture with each batch size, for each architecture, and for all."""

    def __init__(self) -> None:
        self.seconds: defaultdict[Hashable, float] = defaultdict(float)
        self.epochs: defaultdict[Hashable, int] = defaultdict(int)

    def add(self, config: Mapping[str, Any], seconds: float) -> None:
        """An epoch of this configuration took so long."""
        for group in _groups(config):
            self.seconds[group] += seconds
            self.epochs[group] += 1

    def predict(self, configs: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Seconds of an epoch of each, (configurations,), from the narrowest group that was seen; 1 if none was."""
        return np.array([self._mean(config) for config in configs])

    def _mean(self, config: Mapping[str, Any]) -> float:
        known = (group for group in _groups(config) if self.epochs[group])
        group = next(known, None)
        return 1.0 if group is None else max(self.seconds[group] / self.epochs[group], 1e-9)


def _groups(config: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """From the narrowest to all."""
    arch = config.get("arch")
    return [(arch, config.get("batch_size")), (arch,), ()]
