"""The best ensemble for each number of members within a user's limits, and which of them is worth its cost."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from analysis.candidates import Candidate
from analysis.cost import Cost
from analysis.greedy import LIKELY, WORTH, Ballot, Metric, ballots, mean_badness
from analysis.library import Library
from trainable.errors import UserError

KNEE = 0.95
"""Share of the largest gain that is enough."""


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
    """Badness of as many members, chosen on halves of `select`, on the other halves: see `greedy.badness`."""


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
    given = ballots(library.probabilities, library.labels, metric, seed)
    votes = np.mean([ballot.shares for ballot in given], axis=0)

    def choose(shares: np.ndarray, alone: np.ndarray, count: int) -> list[int]:
        if count == 1:
            return [min(allowed, key=lambda index: alone[index])]
        return most_that_fit(shares, count, limits, cost)

    def out_of_bag(ballot: Ballot, count: int) -> float:
        members = choose(ballot.shares, ballot.alone, count)
        weights, images = weights_of(ballot.shares, members), ballot.others
        return mean_badness(library.probabilities[members][:, images], weights, library.labels[images], metric)

    front: list[Choice] = []
    for count in range(1, limits.members + 1):
        members = choose(votes, np.arange(len(votes)), count)
        badness = float(np.mean([out_of_bag(ballot, count) for ballot in given]))
        behind = len(library.labels) * (badness - min((each.out_of_bag for each in front), default=badness))
        if not front or (behind <= WORTH and len(members) > len(front[-1].members)):
            front.append(Choice(tuple(members), weights_of(votes, members), cost(members), badness))
    return front


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


def best(front: Sequence[Choice]) -> Choice:
    """The one with the best score; of equals the largest."""
    return min(reversed(front), key=lambda choice: choice.out_of_bag)
