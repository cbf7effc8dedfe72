"""Optuna's samplers, told only what compares: a score after one epoch is never set against one after eight.

One study per rung, in memory, holds the scores that trials reached there. Proposals come from the highest rung that has
enough of them, and one in ten is random. A trial that was proposed from a rung and hasn't reached it yet counts as
running there, so that slots which propose at the same time don't propose the same.
"""

import warnings
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FixedTrial, TrialState, create_trial

from search_spaces import Space, cardinality, start_point, suggest

ENOUGH = 8
"""Scores at a rung before proposals come from it."""
RANDOM_EVERY = 10
"""One proposal in this many is random, whatever the model thinks."""
TRIES = 50
"""Random draws before a space counts as exhausted; Optuna itself proposes duplicates (optuna #2021)."""


def make_sampler(name: str, seed: int, random_first: int = 0) -> optuna.samplers.BaseSampler:
    """Optuna's sampler `name`, seeded; TPE models conditional dimensions in groups and counts running trials.

    TPE proposes its first `random_first` configurations at random.
    """
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=True, group=True, constant_liar=True, n_startup_trials=random_first
        )


class RungSampler:
    """Proposes configurations of `space` from the scores at one rung; the first is the space's starting point."""

    def __init__(self, space: Space, name: str, seed: int) -> None:
        self.space = space
        self.size = cardinality(space)
        self.model = make_sampler(name, seed)
        self.random = optuna.create_study(sampler=make_sampler("random", seed))
        self.rungs: dict[int, optuna.Study] = {}
        self.reached: dict[int, int] = {}
        """Scores at each rung."""
        self.known: dict[str, FixedTrial] = {}
        """The values of every trial, as Optuna sees them."""
        self.open: dict[str, tuple[int, optuna.Trial]] = {}
        """Trials that were proposed from a rung and haven't reached it: that rung, and the trial in its study."""

    def propose(self, key: str) -> dict[str, Any] | None:
        """A configuration that no trial has had yet, for the new trial `key`; None where the space has no more."""
        if self.size is not None and len(self.known) >= self.size:
            return None
        if not self.known:
            return self.learn(key, start_point(self.space))
        tried = [trial.params for trial in self.known.values()]
        rung = self._rung()
        if rung is not None:
            trial = self.rungs[rung].ask()
            suggest(self.space, trial)
            if trial.params not in tried:
                self.open[key] = rung, trial
                return self.learn(key, trial.params)
            self.rungs[rung].tell(trial, state=TrialState.FAIL)
        for _ in range(TRIES):
            trial = self.random.ask()
            suggest(self.space, trial)
            if trial.params not in tried:
                return self.learn(key, trial.params)
        return None

    def learn(self, key: str, values: dict[str, Any]) -> dict[str, Any]:
        """Note a trial's values, also of one that was proposed elsewhere; returns its configuration."""
        trial = FixedTrial({dimension.name: values.get(dimension.name) for dimension in self.space.dimensions})
        config = suggest(self.space, trial)
        self.known[key] = trial
        return config

    def observe(self, key: str, rung: int, score: float) -> None:
        """The trial reached the rung with this score, higher being better."""
        if rung not in self.rungs:
            self.rungs[rung] = optuna.create_study(sampler=self.model, direction="maximize")
        self.reached[rung] = self.reached.get(rung, 0) + 1
        if key in self.open and self.open[key][0] == rung:
            self.rungs[rung].tell(self.open.pop(key)[1], score)
        else:
            known = self.known[key]
            self.rungs[rung].add_trial(
                create_trial(params=known.params, distributions=known.distributions, value=score)
            )

    def forget(self, key: str) -> None:
        """The trial ended; if that was before the rung that it was proposed from, nothing will come from there."""
        if key in self.open:
            rung, trial = self.open.pop(key)
            self.rungs[rung].tell(trial, state=TrialState.FAIL)

    def _rung(self) -> int | None:
        """The rung to propose from; None for a random proposal."""
        if (len(self.known) + 1) % RANDOM_EVERY == 0:
            return None
        return max((rung for rung, reached in self.reached.items() if reached >= ENOUGH), default=None)
