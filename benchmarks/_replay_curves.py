"""Recorded learning curves: what a configuration would have scored after each step, looked up or predicted."""

import hashlib
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from search_spaces import Float, Space
from trainable.errors import UserError

TREES = 50
"""Of the surrogate: fitting takes a second or two, a prediction some milliseconds."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Table:
    """All curves of one task, as scores: higher is better, the best is 1, diverged is 0."""

    name: str
    digest: str
    """Of the file, so that results are not taken for those of another file of this name."""
    names: list[str]
    log_hp: Floats
    """(configurations, hyper-parameters)"""
    scores: Floats
    """(configurations, steps)"""
    costs: Floats
    """Slot time of a step of each configuration, 1 in the mean."""

    @property
    def steps(self) -> int:
        """Steps of a full training."""
        return self.scores.shape[1]

    def space(self, start: Mapping[str, float] | None = None) -> Space:
        """One logarithmic dimension a column, from its least to its greatest value."""
        lows, highs = np.exp(self.log_hp.min(axis=0)), np.exp(self.log_hp.max(axis=0))
        dimensions = [
            Float(name=name, low=low, high=high, log=True, start=(start or {}).get(name))
            for name, low, high in zip(self.names, lows.tolist(), highs.tolist(), strict=True)
        ]
        return Space(name=self.name, dimensions=tuple(dimensions))


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
        self.low = table.log_hp.min(axis=0)
        self.range = np.maximum(table.log_hp.max(axis=0) - self.low, 1e-12)
        self.rows = (table.log_hp - self.low) / self.range
        self.taken = np.zeros(len(self.rows), dtype=bool)

    def of(self, config: Mapping[str, Any]) -> Curve:
        """The nearest free row's curve."""
        if self.taken.all():
            self.taken[:] = False
        point = (log_values(self.table, config) - self.low) / self.range
        distances = np.square(self.rows - point).sum(axis=1)
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
        predicted = self.model.predict(log_values(self.table, config)[None])[0]
        return Curve(predicted[:-1], float(predicted[-1]))


PROTOCOLS: dict[str, type[Lookup] | type[Surrogate]] = {"table": Lookup, "surrogate": Surrogate}


def log_values(table: Table, config: Mapping[str, Any]) -> Floats:
    """(hyper-parameters,) logarithms in the order of the table's columns."""
    return np.log([config[name] for name in table.names])


@lru_cache
def fitted_trees(table: Table) -> Any:
    """The surrogate of a table, fitted once a process. At a row of the table it repeats the row."""
    from sklearn.ensemble import ExtraTreesRegressor

    trees = ExtraTreesRegressor(n_estimators=TREES, random_state=0)
    return trees.fit(table.log_hp, np.column_stack([table.scores, table.costs]))


@lru_cache
def load_table(file: Path) -> Table:
    """Read one `.npz`.

    Raises:
        UserError: An array is missing, or the hyper-parameters aren't positive.
    """
    content = np.load(file, allow_pickle=False)
    for name in ("hp", "hp_names", "valid_loss"):
        if name not in content:
            raise UserError(f"{file.name} has no array {name!r}; it has {', '.join(content)}")
    hp, losses = content["hp"].astype(float), content["valid_loss"].astype(float)
    if not (hp > 0).all():
        raise UserError(f"{file.name}: hp has values that aren't positive, and they are searched on a log scale")
    seconds = content["seconds"].astype(float) if "seconds" in content else np.ones(len(hp))
    return Table(
        name=file.stem,
        digest=hashlib.sha256(file.read_bytes()).hexdigest()[:12],
        names=[str(name) for name in content["hp_names"]],
        log_hp=np.log(hp),
        scores=scores_of(losses),
        costs=seconds / seconds.mean(),
    )


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


def first_point(table: Table, seed: int) -> dict[str, float]:
    """The configuration that every method tries first, drawn at random."""
    rng = random.Random(f"first {table.name} {seed}")
    lows, highs = table.log_hp.min(axis=0), table.log_hp.max(axis=0)
    drawn = [math.exp(rng.uniform(low, high)) for low, high in zip(lows, highs, strict=True)]
    edges = zip(table.names, drawn, np.exp(lows).tolist(), np.exp(highs).tolist(), strict=True)
    return {name: min(max(value, low), high) for name, value, low, high in edges}
