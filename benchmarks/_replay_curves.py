"""Recorded learning curves: what a configuration would have scored after each step, looked up or predicted."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from search_spaces import Space, encode, sample
from trainable.errors import UserError

TREES = 50
"""Of the surrogate: fitting takes a second or two, a prediction some milliseconds."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Table:
    """All curves of one task, as scores: higher is better, the best is 1, diverged is 0."""

    name: str
    digest: str
    """Of its files, so that results are not taken for those of other files of this name."""
    space: Space
    """What was varied."""
    points: Floats
    """(configurations, columns), as `search_spaces.encode` has them."""
    scores: Floats
    """(configurations, steps)"""
    seconds: Floats
    """(configurations,) of a step; 1 where they are unknown."""

    @property
    def steps(self) -> int:
        """Steps of a full training."""
        return self.scores.shape[1]

    @property
    def costs(self) -> Floats:
        """(configurations,) slot time of a step, 1 in the mean."""
        return self.seconds / self.seconds.mean()

    def space_from(self, first: Mapping[str, Any]) -> Space:
        """The space, with a search's first configuration as its start."""
        dimensions = [each.model_copy(update={"start": first.get(each.name)}) for each in self.space.dimensions]
        return self.space.model_copy(update={"dimensions": tuple(dimensions)})


class Curve(NamedTuple):
    """What one trial does on the virtual clock."""

    scores: Floats
    """(steps,)"""
    cost: float
    """Slot time of one step."""


class Curves(Protocol):
    """Where the curve of a proposed configuration comes from."""

    def of(self, config: Mapping[str, Any]) -> Curve:
        """The curve of a new trial."""


class Lookup:
    """Takes each configuration for the nearest row that no trial has had, until every row was had; then once more."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.taken = np.zeros(len(table.points), dtype=bool)

    def of(self, config: Mapping[str, Any]) -> Curve:
        """The nearest free row's curve."""
        if self.taken.all():
            self.taken[:] = False
        distances = np.square(self.table.points - encode(self.table.space, config)).sum(axis=1)
        row = int(np.where(self.taken, np.inf, distances).argmin())
        self.taken[row] = True
        return Curve(self.table.scores[row], float(self.table.costs[row]))


class Surrogate:
    """Predicts the curve of any configuration by extremely randomised trees, fitted to the table."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.model = fitted_trees(table)

    def of(self, config: Mapping[str, Any]) -> Curve:
        """The mean of the trees' curves; the last column is the cost of a step."""
        predicted = self.model.predict([encode(self.table.space, config)])[0]
        return Curve(predicted[:-1], float(predicted[-1]))


PROTOCOLS: dict[str, type[Lookup] | type[Surrogate]] = {"table": Lookup, "surrogate": Surrogate}


@lru_cache
def fitted_trees(table: Table) -> Any:
    """The surrogate of a table, fitted once a process. At a row of the table it repeats the row."""
    from sklearn.ensemble import ExtraTreesRegressor

    trees = ExtraTreesRegressor(n_estimators=TREES, random_state=0)
    return trees.fit(table.points, np.column_stack([table.scores, table.costs]))


def scores_of(losses: Floats) -> Floats:
    """1 / (1 + regret), the regret not cut: falls as the loss rises, 1 at the table's best loss, 0 where diverged."""
    finite = np.where(np.isfinite(losses), losses, np.inf)
    bests = finite.min(axis=1)
    best, middle = bests.min(), np.median(bests)
    if not best < middle < math.inf:
        raise UserError("at least half of the configurations must have finite losses, and they must differ")
    return 1 / (1 + (finite - best) / (middle - best))


def regret_of(score: float) -> float:
    """The normalised regret of a score, cut to 0..1: 1 is the median configuration at its best."""
    return min(1.0, 1 / score - 1) if score > 0 else 1.0


def first_point(table: Table, seed: int) -> dict[str, Any]:
    """The configuration that every method tries first, drawn at random."""
    return sample(table.space, random.Random(f"first {table.name} {seed}"))
