"""A Gaussian process over configurations and epochs: how good a trial would be after so many epochs, and how surely.

Scores of all rungs are replaced together by their normal scores, so that no unit, no outlier and no shape of a score's
distribution matters, only the order (a rank transform, as in Salinas et al. 2020). The kernel is a Matérn-5/2 with a
length scale for each dimension; a second, short one for what a trial has of its own and keeps as it goes on; and white
noise. Its parameters are fitted anew whenever the results have grown by a factor `GROWTH`; in between, the process is
only conditioned on the new ones.
"""

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_POINTS = 220
"""The process is conditioned on at most this many results: those of the highest rungs."""
GROWTH = 1.3
"""Results have to grow by this factor before the kernel is fitted anew."""
FIT_STEPS = 40
"""L-BFGS steps of a fit."""
OWN_SCALE = 0.2
"""Length scale, in each dimension of the configuration, of what a trial has of its own."""

Floats = NDArray[np.float64]


def normal_scores(values: Floats) -> Floats:
    """The normal quantile of each value's rank, (rank - 1/2) / n; ties share their mean rank."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    return ndtri((rankdata(values) - 0.5) / len(values))


def expected_improvement(mean: Floats, deviation: Floats, best: float) -> Floats:
    """How much above `best` a normal variable is expected to be, what is below counting as 0 (Jones et al. 1998)."""
    from scipy.special import ndtr

    gain = mean - best
    ratio = gain / deviation
    return gain * ndtr(ratio) + deviation * np.exp(-(ratio**2) / 2) / np.sqrt(2 * np.pi)


class CurveModel:
    """The process; `fit`, `condition`, then `predict`."""

    def __init__(self, first_fit: int) -> None:
        self.next_fit = first_fit
        """Results that there are when the kernel is fitted next."""
        self.kernel: Any = None
        self.process: Any = None
        self.points: Floats
        self.scores: Floats

    def fit(self, points: Floats, scores: Floats) -> None:
        """Fit the kernel to results, from where the last fit ended.

        Args:
            points: (results, dimensions), of at most `MOST_POINTS` results; the epoch is the last dimension.
            scores: (results,) their normal scores.
        """
        kernel = self.kernel or _first_kernel(points.shape[1])
        self.kernel = _process(kernel, _minimize, points, scores).kernel_
        self.next_fit = math.ceil(GROWTH * self.next_fit)

    def imagine(self, points: Floats) -> None:
        """Condition on results that aren't there yet, as if they came out as predicted.

        Slots that run already then no longer attract what a free slot should look at (Ginsbourger et al. 2010, the
        kriging believer).
        """
        mean, _ = self.predict(points)
        self.condition(np.vstack([self.points, points]), np.concatenate([self.scores, mean]))

    def predict(self, points: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the normal score at each of the points, (points,) each."""
        mean, deviation = self.process.predict(points, return_std=True)
        return mean, np.maximum(deviation, 1e-9)

    def condition(self, points: Floats, scores: Floats) -> None:
        """Take these results as all that are known."""
        self.points, self.scores = points, scores
        self.process = _process(self.kernel, None, points, scores)


def _process(kernel: Any, optimizer: Any, points: Floats, scores: Floats) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length scale at its bound is a dimension without effect
        return GaussianProcessRegressor(kernel, optimizer=optimizer).fit(points, scores)


def _first_kernel(dimensions: int) -> Any:
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    shared = ConstantKernel(1.0, (0.05, 20)) * Matern(np.ones(dimensions), (0.05, 50), nu=2.5)
    own_scales = np.append(np.full(dimensions - 1, OWN_SCALE), 1.0)
    own = ConstantKernel(0.1, (1e-3, 5)) * Matern(own_scales, "fixed", nu=2.5)
    return shared + own + WhiteKernel(0.1, (1e-3, 1))


def _minimize(objective: Any, start: Floats, bounds: Floats) -> tuple[Floats, float]:
    from scipy.optimize import minimize

    found = minimize(objective, start, method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": FIT_STEPS})
    return found.x, found.fun
