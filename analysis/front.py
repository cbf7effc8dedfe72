"""The best ensemble for each number of members within a user's limits, and which of them is worth its cost."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from analysis.calibration import fit_together
from analysis.candidates import Candidate
from analysis.cost import Cost
from analysis.greedy import LIKELY, WORTH, Ballot, Metric, ballots, image_badness
from analysis.library import Library, calibrated
from analysis.pooling import log_scores
from trainable.errors import UserError

KNEE = 0.95
"""Share of the largest gain that is enough."""
CHANCE = 1.0
"""Standard errors by which an ensemble may look worse than the best single candidate and still be picked."""


class Limits(NamedTuple):
    """What an ensemble may cost."""

    members: int
    parameters: int | None = None
    """Of all members together."""
    latency_ms: float | None = None
    """Of one image through all members."""


class Choice(NamedTuple):
    """Candidates of a library that predict together."""

    members: tuple[int, ...]
    """By their index, so best first."""
    weights: tuple[float, ...]
    """Their shares in the mean of the probabilities; they add up to 1."""
    cost: Cost
    out_of_bag: float
    """Badness of as many members, chosen and calibrated on halves of `select`, on the other halves: see
    `greedy.badness`."""
    lag: float = 0.0
    """By how many standard errors that is worse than the best single candidate of each half, paired by image."""


def make_front(
    library: Library, metric: Metric, limits: Limits, cost_of: Callable[[Candidate], Cost], seed: int
) -> list[Choice]:
    """The best single candidate that fits, then each larger ensemble that the images don't speak against.

    Of more members the ones with the most votes are taken, weighed by them. How good they are is told by images that
    had no say: on those that choose, the best of many candidates looks better than it is. UserError where none fits.
    """

    def cost(members: Sequence[int]) -> Cost:
        return total([cost_of(library.candidates[index]) for index in members])

    allowed = [index for index in range(len(library.candidates)) if fits(partial(cost, [index]), limits)]
    if not allowed:
        raise nothing_fits(library, cost_of)
    trained = [candidate.trained for candidate in library.candidates]
    given = ballots(library.probabilities, library.labels, metric, seed, trained)
    votes = np.mean([ballot.shares for ballot in given], axis=0)

    def choose(shares: np.ndarray, alone: np.ndarray, count: int) -> list[int]:
        if count == 1:
            return [min(allowed, key=lambda index: alone[index])]
        return most_that_fit(shares, count, limits, cost)

    def out_of_bag(count: int) -> list[np.ndarray]:
        chosen = [choose(ballot.shares, ballot.alone, count) for ballot in given]
        return [unseen_badness(library, each, ballot, metric) for each, ballot in zip(chosen, given, strict=True)]

    front: list[Choice] = []
    alone = out_of_bag(1)
    for count in range(1, limits.members + 1):
        members = choose(votes, np.arange(len(votes)), count)
        found = out_of_bag(count) if count > 1 else alone
        badness = float(np.mean([each.mean() for each in found]))
        behind = len(library.labels) * (badness - min((each.out_of_bag for each in front), default=badness))
        if not front or (behind <= WORTH and len(members) > len(front[-1].members)):
            lag = standard_errors_behind(found, alone, given)
            front.append(Choice(tuple(members), weights_of(votes, members), cost(members), badness, lag))
    return front


def unseen_badness(library: Library, members: Sequence[int], ballot: Ballot, metric: Metric) -> np.ndarray:
    """Badness of the images that had no say, (others,), for members that the others chose, weigh and calibrate."""
    weights = weights_of(ballot.shares, members)
    mean = np.einsum("m,mic->ic", np.array(weights, np.float32), library.probabilities[list(members)])
    labels, temperatures = library.labels, library.temperatures[list(members)]
    temperature = fit_together(mean[ballot.half], temperatures, weights, labels[ballot.half])
    return image_badness(calibrated(log_scores(mean[ballot.others]), temperature), labels[ballot.others], metric)


def standard_errors_behind(
    badness: Sequence[np.ndarray], other: Sequence[np.ndarray], given: Sequence[Ballot]
) -> float:
    """How far badness is above another, in standard errors of the mean difference; 0 where the images can't tell.

    Both are those of the images without a say in each ballot. An image counts once, with its mean over the ballots.
    """
    images = np.concatenate([ballot.others for ballot in given])
    differences = np.concatenate(badness) - np.concatenate(other)
    means = (np.bincount(images, differences) / np.maximum(np.bincount(images), 1))[np.unique(images)]
    if len(means) < 2 or not means.any():
        return 0.0
    error = means.std(ddof=1) / math.sqrt(len(means))
    return float(means.mean() / error) if error > 0 else math.copysign(math.inf, means.mean())


def most_that_fit(shares: np.ndarray, count: int, limits: Limits, cost: Callable[[Sequence[int]], Cost]) -> list[int]:
    """Candidates with the largest shares, `count` at most, that are together within the limits; by their index."""
    taken: list[int] = []
    for index in np.argsort(-shares, kind="stable").tolist():
        wanted = len(taken) < count and (shares[index] > 0 or not taken)
        if wanted and fits(partial(cost, [*taken, index]), limits):
            taken.append(index)
    return sorted(taken)


def weights_of(shares: np.ndarray, members: Sequence[int]) -> tuple[float, ...]:
    """The shares of these members, so that they add up to 1; of one that has none it is 1."""
    among = shares[list(members)]
    return tuple((among / among.sum()).tolist()) if among.sum() > 0 else (1 / len(members),) * len(members)


def nothing_fits(library: Library, cost_of: Callable[[Candidate], Cost]) -> UserError:
    """Names the smallest candidate."""
    least = min(library.candidates, key=lambda candidate: cost_of(candidate).parameters)
    cost = cost_of(least)
    return UserError(
        f"no trial is within --max-params and --max-latency-ms: the smallest, {least.trial}, has "
        f"{cost.parameters:,} parameters and takes {cost.latency_ms:.1f} ms an image; raise the limit"
    )


def fits(cost: Callable[[], Cost], limits: Limits) -> bool:
    """Whether a cost is within the limits; it is measured only where there are any."""
    most_parameters, longest = limits.parameters, limits.latency_ms
    return (most_parameters is None or cost().parameters <= most_parameters) and (
        longest is None or cost().latency_ms <= longest
    )


def total(costs: Sequence[Cost]) -> Cost:
    """Of members that run one after the other."""
    return Cost(sum(cost.parameters for cost in costs), sum(cost.latency_ms for cost in costs))


def knee(front: Sequence[Choice], images: int) -> Choice:
    """The smallest ensemble with `KNEE` of the gain that the best one has over the single candidate.

    Where the images can't tell whether there is a gain, the largest: a mean of equals is steadier than one of them.
    """
    first = front[0].out_of_bag
    largest = max(first - choice.out_of_bag for choice in front)
    if images * largest < LIKELY:
        return front[-1]
    return next(choice for choice in front if first - choice.out_of_bag >= KNEE * largest)


def not_worse(front: Sequence[Choice], choice: Choice) -> Choice:
    """The choice; the single candidate if out of bag the choice is worse than one beyond chance."""
    return choice if choice.lag <= CHANCE else front[0]


def best(front: Sequence[Choice]) -> Choice:
    """The one with the best score; of equals the largest."""
    return min(reversed(front), key=lambda choice: choice.out_of_bag)
