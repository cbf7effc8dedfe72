"""How members' logits become one probability: the only place where that is written down.

p = softmax(log(sum_m w_m softmax(z_m / T_m)) / T): each member is calibrated, the probabilities are averaged, and the
average is calibrated ("pool, then calibrate": Rahaman & Thiery 2021, section 4).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

SMALLEST = 1e-12
"""A probability below this counts as this, so that its logarithm is a number."""


def member_probabilities(logits: Tensor, temperatures: Tensor) -> Tensor:
    """Logits (members, images, classes) and temperatures (members,) -> each member's probabilities, the same shape."""
    return (logits / temperatures[:, None, None]).softmax(dim=2)


def pooled(probabilities: Tensor, weights: Tensor, temperature: Tensor) -> Tensor:
    """Members' probabilities (members, images, classes), weights (members,) that sum to 1 -> (images, classes)."""
    mean = (weights[:, None, None] * probabilities).sum(dim=0)
    return (mean.clamp(min=SMALLEST).log() / temperature).softmax(dim=1)


def log_scores(probabilities: np.ndarray) -> np.ndarray:
    """Logits that stand for probabilities, the same shape: their logarithms, finite also where one is 0."""
    return np.log(np.maximum(probabilities, SMALLEST))


def pool(
    logits: np.ndarray, temperatures: Sequence[float], weights: Sequence[float], temperature: float = 1.0
) -> np.ndarray:
    """The same on arrays: logits (members, images, classes) of any float type -> float32 (images, classes)."""
    tensor = torch.from_numpy(np.asarray(logits, dtype=np.float32))
    members = member_probabilities(tensor, torch.tensor(temperatures, dtype=torch.float32))
    shares = torch.tensor(weights, dtype=torch.float32)
    return pooled(members, shares, torch.tensor(temperature, dtype=torch.float32)).numpy()
