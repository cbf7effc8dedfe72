"""Freeze-thaw search (Swersky, Snoek and Adams 2014): one model decides what to start and what to go on with.

A free slot looks at random new configurations and at the best paused trials, all at the same horizon: twice the
farthest step that any trial has reached, at most the full length; with a time budget at most what each can still reach
in the time left. The largest expected improvement over the best result so far wins, by what a step costs: its seconds
with a time budget, else its arithmetic. A new trial runs to the first rung, a paused one continues to its next. One
choice in ten is a random new trial.
"""

import itertools
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from search_spaces import Space, cardinality, encode, is_probe, probe_of, sample, start_point
from tuning.curve_model import MOST_POINTS, CurveModel, Floats, expected_improvement, normal_scores
from tuning.engine import Budget, Move, Status, TrialState, in_time
from tuning.step_cost import StepCost
from tuning.warm_start import Earlier

ENOUGH = 8
"""Results before the model is asked; until then new trials are drawn at random."""
RANDOM_EVERY = 10
"""One move in this many is a random new trial, whatever the model thinks."""
CANDIDATES = 200
"""New configurations that are drawn after each new trial."""
BATCHES = 5
"""A free slot looks at those of this many draws."""
MOST_PAUSED = 100
"""Paused trials of each rung that a free slot looks at."""
LOOKED_AT = 50
"""Candidates that are looked at together, the most promising first."""
HORIZON = 2
"""How far ahead trials are compared, as a multiple of the farthest step reached."""

HERE, ELSEWHERE = 0.0, 1.0
"""The model's column that tells this search from earlier ones whose scores don't compare."""


class Result(NamedTuple):
    """A score at a rung."""

    key: str
    rung: int
    score: float


class Candidate(NamedTuple):
    """A new configuration, and its place in the unit cube."""

    config: dict[str, Any]
    point: list[float]


class FreezeThaw:
    """The policy. Each choice follows from the seed and from what is known, not from how often it was asked."""

    def __init__(
        self,
        space: Space,
        rungs: Sequence[int],
        seed: int,
        *,
        earlier: Sequence[Earlier] = (),
        cost: StepCost | None = None,
    ) -> None:
        self.space = space
        self.rungs = list(rungs)
        self.seed = seed
        self.size = cardinality(space)
        self.cost = cost or StepCost(None, self.rungs[-1], measured=False)
        self.points: dict[str, list[float]] = {}
        """Each trial's place in the unit cube, also of the earlier ones."""
        self.configs: dict[str, dict[str, Any]] = {}
        self.results: list[Result] = []
        self.elsewhere: list[Result] = []
        """Of earlier searches whose scores don't compare."""
        self.tried: set[tuple[float, ...]] = set()
        self.probed: set[Any] = set()
        """Architectures that have a probe."""
        self.batches: dict[int, list[Candidate]] = {}
        """The latest draws of candidates, by the number of trials that there were."""
        self.next: dict[str, Any] | None = None
        """What `propose` gives."""
        for trial in earlier:
            self._remember(trial)
        self.elsewhere_ranked = _ranked(self.elsewhere)
        self.from_earlier = len(self.points)
        self.model = CurveModel(max(ENOUGH, len(self.results) + len(self.elsewhere)))

    def choose(self, trials: Mapping[str, TrialState], budget: Budget) -> Move | None:
        """The move of the largest expected improvement that the steps and the seconds reach."""
        paused = self._going_on(trials.values(), budget)
        running = [trial for trial in trials.values() if trial.status is Status.RUNNING]
        moves = len(self.results) + len(running)
        fresh = self._in_time(self._fresh(), budget.seconds) if budget.may_start else []
        known = len(self.results) + len(self.elsewhere)
        if fresh and (known < ENOUGH or moves % RANDOM_EVERY == RANDOM_EVERY - 1):
            self.next = fresh[0].config if trials else {**self.space.fixed, **start_point(self.space)}
            return Move(None, "drawn at random" if trials else "the space's starting point")
        if known and (fresh or paused):
            return self._best(fresh, paused, running, budget.seconds)
        return None

    def propose(self, key: str) -> dict[str, Any] | None:
        """The new configuration that was chosen."""
        return None if self.next is None else self.learn(key, self.next)

    def learn(self, key: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Note a trial's configuration."""
        config = {**self.space.fixed, **values}
        self.configs[key] = config
        self.points[key] = encode(self.space, config)
        self.tried.add(tuple(self.points[key]))
        self.probed |= {config.get("arch")} if is_probe(config) else set()
        return config

    take_up = learn
    """A trial that was proposed before an interruption is like any other."""

    def observe(self, key: str, rung: int, score: float) -> None:
        """Note a result."""
        self.results.append(Result(key, rung, score))

    def spend(self, key: str, seconds: float, step: float) -> None:
        """Note what a step of such a configuration costs."""
        self.cost.add(self.configs[key], seconds, step)

    def step_seconds(self, config: Mapping[str, Any], step: float = 0) -> float | None:
        """As the steps so far, and the arithmetic, tell."""
        return self.cost.of_step({**self.space.fixed, **config}, step)

    def forget(self, key: str) -> None:
        """What a trial left stays known."""

    def _remember(self, trial: Earlier) -> None:
        """Note a trial of an earlier search, also one that has no value for some dimensions."""
        self.points[trial.name] = encode(self.space, trial.config)
        results = self.results if trial.compares else self.elsewhere
        results.extend(Result(trial.name, rung, trial.curve[rung]) for rung in self.rungs if rung in trial.curve)

    def _best(
        self, fresh: list[Candidate], paused: list[TrialState], running: list[TrialState], seconds: float
    ) -> Move:
        """The candidate of the largest expected improvement; the model is conditioned on all that is known and runs."""
        best = self._fit()
        points = [each.point for each in fresh] + [self.points[trial.key] for trial in paused]
        costs = np.append(self._costs(fresh), self.cost.predict([trial.config for trial in paused]))
        steps = np.array([0.0] * len(fresh) + [trial.steps for trial in paused])
        horizons = self._horizons(steps, costs, seconds)
        for at, each in enumerate(fresh):
            if is_probe(each.config):
                horizons[at] = self.rungs[-1]
        rows = np.array([self._row(point, HERE, at) for point, at in zip(points, horizons, strict=True)])
        winner, gain = self._winner(rows, costs, best, running)
        if winner < len(fresh):
            self.next = fresh[winner].config
            return Move(None, f"the most promising of {len(fresh)} new and {len(paused)} paused", None, gain)
        trial = paused[winner - len(fresh)]
        rank = 1 + sum(each.rung == trial.steps and each.score > trial.curve[each.rung] for each in self.results)
        return Move(trial.key, f"more promising than {len(fresh)} new and {len(paused) - 1} paused", rank, gain)

    def _costs(self, fresh: list[Candidate]) -> Floats:
        """Of the first step of each; if its architecture has no probe, a fine-tuning computes the features itself."""
        costs = self.cost.predict([each.config for each in fresh])
        for at, each in enumerate(fresh):
            arch = each.config.get("arch")
            if self.probed and arch not in self.probed and not is_probe(each.config):
                costs[at] += self.cost.predict([each.config | probe_of(arch)])[0]
        return costs

    def _horizons(self, steps: Floats, costs: Floats, seconds: float) -> list[float]:
        """The step at which each candidate is looked at, given the steps it has done and what one costs."""
        usual = self._horizon()
        if not self.cost.is_absolute or math.isinf(seconds):
            return [usual] * len(steps)
        reached = steps + np.floor(seconds / costs)
        return np.clip(np.minimum(usual, reached), self.rungs[0], self.rungs[-1]).tolist()

    def _in_time(self, fresh: list[Candidate], seconds: float) -> list[Candidate]:
        """Those that reach the first rung in the seconds that are left; all if nothing tells."""
        if not self.cost.is_absolute or math.isinf(seconds) or not fresh:
            return fresh
        costs = self._costs(fresh)
        steps = [1 if is_probe(each.config) else self.rungs[0] for each in fresh]
        return [each for each, cost, count in zip(fresh, costs, steps, strict=True) if cost * count <= seconds]

    def _winner(self, rows: Floats, costs: Floats, best: float, running: list[TrialState]) -> tuple[int, float]:
        """Place among `rows` of the largest expected improvement by cost, and that improvement.

        What runs leaves each mean and takes doubt away, so that no row is worth more than without it: the rows are
        looked at from the most promising on, until no other can be worth more.
        """
        mean, deviation = self.model.predict(rows)
        most = expected_improvement(mean, deviation, best) / costs
        if not running:
            winner = int(most.argmax())
            return winner, float(most[winner] * costs[winner])
        horizon = self._horizon()
        self.model.imagine(np.array([self._row(self.points[t.key], HERE, max(t.target, horizon)) for t in running]))
        worth = np.full(len(rows), -np.inf)
        order = np.argsort(-most, kind="stable")
        for begin in range(0, len(rows), LOOKED_AT):
            looked_at = order[begin : begin + LOOKED_AT]
            if most[looked_at[0]] < worth.max():
                break
            _, deviation = self.model.predict(rows[looked_at])
            worth[looked_at] = expected_improvement(mean[looked_at], deviation, best) / costs[looked_at]
        winner = int(worth.argmax())
        return winner, float(worth[winner] * costs[winner])

    def _fit(self) -> float:
        """Bring the model up to date; returns the best normal score of this search.

        The kernel is fitted at fixed numbers of results, each time to these alone, so that a resumed search has the
        kernel of one that was never interrupted.
        """
        while self.model.next_fit <= len(self.results) + len(self.elsewhere):
            points, scores, _ = self._known(self.model.next_fit - len(self.elsewhere))
            self.model.fit(points, scores)
        points, scores, best = self._known(len(self.results))
        self.model.condition(points, scores)
        return best

    def _known(self, count: int) -> tuple[Floats, Floats, float]:
        """Places and normal scores of the first `count` results and of those from elsewhere; the best score of here."""
        here = _ranked(self.results[:count])
        there = self.elsewhere_ranked[: MOST_POINTS - len(here)]
        rows = [self._row(self.points[each.key], HERE, each.rung) for each, _ in here]
        rows += [self._row(self.points[each.key], ELSEWHERE, each.rung) for each, _ in there]
        scores = np.array([score for _, score in [*here, *there]])
        return np.array(rows), scores, max((score for _, score in here), default=0.0)

    def _row(self, point: list[float], where: float, step: float) -> list[float]:
        """A place in the model: the configuration, which search, and the step on a logarithmic axis to the longest."""
        longest = self.rungs[-1]
        place = math.log(step) / math.log(longest) if longest > 1 else 1.0
        return [*point, where, place] if self.elsewhere else [*point, place]

    def _going_on(self, trials: Iterable[TrialState], budget: Budget) -> list[TrialState]:
        """The paused trials whose next step the budget reaches: of each rung the `MOST_PAUSED` best."""
        paused = [trial for trial in trials if trial.status is Status.PAUSED]
        waiting = [each for each in paused if in_time(self.step_seconds(each.config, each.steps), budget.seconds)]
        best: list[TrialState] = []
        for rung, further in itertools.pairwise(self.rungs):
            if further - rung <= budget.steps:
                at_rung = [trial for trial in waiting if trial.steps == rung]
                best += sorted(at_rung, key=lambda trial: -trial.curve[rung])[:MOST_PAUSED]
        return best

    def _fresh(self) -> list[Candidate]:
        """Random configurations that no trial has had, all different; fewer where the space has no more."""
        latest = len(self.configs)
        wanted = range(max(0, latest - BATCHES + 1), latest + 1)
        self.batches = {number: self.batches.get(number) or self._draw(number) for number in wanted}
        drawn = {tuple(each.point): each for batch in self.batches.values() for each in batch}
        return [each for point, each in drawn.items() if point not in self.tried]

    def _draw(self, number: int) -> list[Candidate]:
        """What may be tried after the first `number` trials, whenever it is drawn."""
        rng = random.Random(f"{self.seed} {number}")
        before = list(self.points.values())[self.from_earlier : self.from_earlier + number]
        tried = {tuple(point) for point in before}
        left = math.inf if self.size is None else self.size - len(tried)
        found: dict[tuple[float, ...], Candidate] = {}
        for _ in range(10 * CANDIDATES):
            if len(found) >= min(CANDIDATES, left):
                break
            config = sample(self.space, rng)
            point = tuple(encode(self.space, config))
            if point not in tried:
                found[point] = Candidate(config, list(point))
        return list(found.values())

    def _horizon(self) -> int:
        farthest = max((each.rung for each in self.results), default=self.rungs[0])
        return min(self.rungs[-1], HORIZON * farthest)


def _ranked(results: list[Result]) -> list[tuple[Result, float]]:
    """At most `MOST_POINTS` results with their normal scores, those of the highest rungs, the best first."""
    if not results:
        return []
    scores: Floats = normal_scores(np.array([each.score for each in results]))
    order = np.lexsort((-scores, np.array([-each.rung for each in results])))[:MOST_POINTS]
    return [(results[at], float(scores[at])) for at in order]
