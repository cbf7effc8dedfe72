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

MOST_PLACES = 5000
"""Points that were asked for are forgotten beyond this number: 9 MB."""
JITTER = 1e-10
"""Added to variances, so that a covariance of points that are nearly the same has a factor."""

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
    """The process; `fit`, `condition`, then `predict`, and again after `imagine`.

    What the results say of a point's place is kept while they are the same ones: a search with hundreds of slots asks
    of the same thousand points several times a second.
    """

    def __init__(self, first_fit: int) -> None:
        self.next_fit = first_fit
        """Results that there are when the kernel is fitted next."""
        self.kernel: Any = None
        self.points: Floats = np.empty((0, 0))
        self.factor: Floats
        """Of the results' covariance: lower triangular, (results, results)."""
        self.weights: Floats
        """What each result adds to a mean, (results,)."""
        self.places: dict[bytes, Floats] = {}
        """`factor` solved for the covariances of each point that was asked for with the results."""
        self.imagined: tuple[Floats, Floats, Floats] | None = None
        """Points of `imagine`, their places, and the factor of their covariance given the results."""

    def fit(self, points: Floats, scores: Floats) -> None:
        """Fit the kernel to results, from where the last fit ended.

        Args:
            points: (results, dimensions), of at most `MOST_POINTS` results; the epoch is the last dimension.
            scores: (results,) their normal scores.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor

        kernel = self.kernel or _first_kernel(points.shape[1])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a scale at its bound is a dimension without effect
            self.kernel = GaussianProcessRegressor(kernel, optimizer=_minimize).fit(points, scores).kernel_
        self.points = np.empty((0, 0))
        self.next_fit = math.ceil(GROWTH * self.next_fit)

    def condition(self, points: Floats, scores: Floats) -> None:
        """Take these results as all that are known."""
        from scipy.linalg import solve_triangular

        self.kernel = self.kernel or _first_kernel(points.shape[1])
        if not np.array_equal(points, self.points):
            self.points, self.places = points, {}
            self.factor = _factor(self.kernel(points))
        self.imagined = None
        self.weights = solve_triangular(self.factor, scores, lower=True)

    def imagine(self, points: Floats) -> None:
        """Condition on results that aren't there yet, as if they came out as predicted.

        Slots that run already then no longer attract what a free slot should look at (Ginsbourger et al. 2010, the
        kriging believer). That leaves every mean as it was, and no deviation gets larger.
        """
        places = self._places(points)
        self.imagined = points, places, _factor(self.kernel(points) - places @ places.T)

    def predict(self, points: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the normal score at each of the points, (points,) each."""
        from scipy.linalg import solve_triangular

        places = self._places(points)
        variance = self.kernel.diag(points) - np.square(places).sum(axis=1)
        if self.imagined is not None:
            others, of_others, factor = self.imagined
            shared = self.kernel(others, points) - of_others @ places.T
            variance -= np.square(solve_triangular(factor, shared, lower=True)).sum(axis=0)
        return places @ self.weights, np.sqrt(np.maximum(variance, 1e-18))

    def _places(self, points: Floats) -> Floats:
        """(points, results): covariances with the results, in coordinates in which these are independent."""
        from scipy.linalg import solve_triangular

        if len(self.places) > MOST_PLACES:
            self.places = {}
        keys = [point.tobytes() for point in points]
        new = {key: point for key, point in zip(keys, points, strict=True) if key not in self.places}
        if new:
            solved = solve_triangular(self.factor, self.kernel(self.points, np.array(list(new.values()))), lower=True)
            self.places |= zip(new, solved.T, strict=True)
        return np.array([self.places[key] for key in keys])


def _factor(covariance: Floats) -> Floats:
    from scipy.linalg import cholesky

    factor: Floats = cholesky(covariance + JITTER * np.eye(len(covariance)), lower=True)
    return factor


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
