"""The best ensemble for each number of members within a user's limits, and which of them is worth its cost."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from analysis.candidates import Candidate
from analysis.cost import Cost
from analysis.greedy import Metric, badness, shares, vote
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
    badness: float
    """On `select`, by `greedy.badness`."""


def make_front(
    library: Library, metric: Metric, limits: Limits, cost_of: Callable[[Candidate], Cost], seed: int
) -> list[Choice]:
    """The best single candidate that fits, then each larger ensemble that is better than all smaller ones.

    Of more members the ones with the most votes of bagged greedy selection are taken. UserError where none fits.
    """
    votes = vote(library.probabilities, library.labels, metric, seed)
    voted = [int(index) for index in np.argsort(-votes, kind="stable") if votes[index] > 0]
    front = [best_single(library, metric, limits, cost_of)]
    for count in range(2, limits.members + 1):
        members = most_that_fit(voted, count, limits, lambda index: cost_of(library.candidates[index]))
        choice = weigh(library, members, metric, cost_of)
        if choice.badness < front[-1].badness and len(choice.members) > len(front[-1].members):
            front.append(choice)
    return front


def best_single(library: Library, metric: Metric, limits: Limits, cost_of: Callable[[Candidate], Cost]) -> Choice:
    """The best candidate that is within the limits."""
    for index, candidate in enumerate(library.candidates):
        if fits(cost_of(candidate), limits):
            return weigh(library, [index], metric, cost_of)
    least = min(library.candidates, key=lambda candidate: cost_of(candidate).parameters)
    cost = cost_of(least)
    raise UserError(
        f"no trial is within --max-params and --max-latency-ms: the smallest, {least.trial}, has "
        f"{cost.parameters:,} parameters and takes {cost.latency_ms:.1f} ms an image; raise the limit"
    )


def most_that_fit(order: Sequence[int], count: int, limits: Limits, cost_of: Callable[[int], Cost]) -> list[int]:
    """The first `count` of the candidates that are together within the limits, passing over what is too large."""
    taken: list[int] = []
    for index in order:
        if len(taken) < count and fits(total([cost_of(each) for each in (*taken, index)]), limits):
            taken.append(index)
    return taken


def weigh(library: Library, members: Sequence[int], metric: Metric, cost_of: Callable[[Candidate], Cost]) -> Choice:
    """The best weights of these members; who gets none is left out."""
    order = sorted(members)
    share = shares(library.probabilities[order], library.labels, metric)
    kept = [(index, float(weight)) for index, weight in zip(order, share, strict=True) if weight > 0]
    indices, weights = zip(*kept, strict=True)
    mean = np.tensordot(np.array(weights, np.float32), library.probabilities[list(indices)], axes=1)
    seen = mean[np.arange(len(mean)), library.labels] if metric == "log-loss" else mean
    cost = total([cost_of(library.candidates[index]) for index in indices])
    return Choice(indices, weights, cost, float(badness(seen[None], library.labels, metric)[0]))


def fits(cost: Cost, limits: Limits) -> bool:
    """Whether the cost is within the limits."""
    most_parameters, longest = limits.parameters, limits.latency_ms
    return (most_parameters is None or cost.parameters <= most_parameters) and (
        longest is None or cost.latency_ms <= longest
    )


def total(costs: Sequence[Cost]) -> Cost:
    """Of members that run one after the other."""
    return Cost(sum(cost.parameters for cost in costs), sum(cost.latency_ms for cost in costs))


def knee(front: Sequence[Choice]) -> Choice:
    """The smallest ensemble with `KNEE` of the gain that the best one has over the single candidate."""
    first = front[0].badness
    largest = max(first - choice.badness for choice in front)
    return next(choice for choice in front if first - choice.badness >= KNEE * largest)
