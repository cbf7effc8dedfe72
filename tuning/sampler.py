"""Optuna's samplers, told only what compares: a score after one epoch is never set against one after eight.

One study per rung, in memory, holds the scores that trials reached there. Proposals come from the highest rung that has
enough of them, and one in ten looks at no scores. A trial that was proposed from a rung and hasn't reached it yet
counts as running there, so that slots which propose at the same time don't propose the same.
"""

import importlib
import random
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FixedTrial, TrialState, create_trial

from search_spaces import Space, cardinality, start_point, suggest, unconditional
from tuning.study import add_running
from tuning.warm_start import Earlier

ENOUGH = 8
"""Scores at a rung before proposals come from it."""
RANDOM_EVERY = 10
"""One proposal in this many looks at no scores, whatever the model thinks."""
BLIND = ("random", "qmc")
"""Samplers that don't look at scores, so that rungs mean nothing to them."""
TRIES = 50
"""Random draws before a space counts as exhausted, for each configuration of a finite one; Optuna itself proposes
duplicates (optuna #2021)."""


def make_sampler(name: str, seed: int, random_first: int = 0) -> optuna.samplers.BaseSampler:
    """Optuna's sampler `name`, seeded; those that learn propose their first `random_first` configurations at random.

    TPE models conditional dimensions in groups and counts running trials. The others model the dimensions that all
    scored trials have (QMC: that the first one has; CMA-ES: only numbers), and draw the rest at random without a word.
    `gp` imports torch, which takes seconds.
    """
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if name == "gp":
        importlib.import_module("torch")  # here, not within the first proposal, which Ray times
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=random_first, warn_independent_sampling=False)
    if name == "cmaes":
        return optuna.samplers.CmaEsSampler(seed=seed, n_startup_trials=random_first, warn_independent_sampling=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if name == "qmc":
            return optuna.samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=True, group=True, constant_liar=True, n_startup_trials=random_first
        )


def teach_dimensions(study: optuna.Study, space: Space) -> None:
    """Give a study that reads no scores one trial with all dimensions: QMC takes from its first trial what there is."""
    everywhere = unconditional(space)
    trial = FixedTrial(start_point(everywhere))
    suggest(everywhere, trial)
    study.add_trial(create_trial(params=trial.params, distributions=trial.distributions, value=0.0))


class RungSampler:
    """Proposes configurations of `space` from the scores at one rung; the first is the space's starting point."""

    def __init__(self, space: Space, name: str, seed: int) -> None:
        self.space = space
        self.size = cardinality(space)
        self.name = name
        self.seed = seed
        self.blind = optuna.create_study(sampler=make_sampler("qmc" if name == "qmc" else "random", seed))
        """Proposes without looking at scores."""
        if name == "qmc":
            teach_dimensions(self.blind, space)
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
        if self.name != "qmc":
            self.blind.sampler = make_sampler("random", self._seed_here())
        rung = self._rung()
        if rung is not None:
            if self.name == "tpe":
                self.rungs[rung].sampler = make_sampler("tpe", self._seed_here())
            trial = self.rungs[rung].ask()
            suggest(self.space, trial)
            if trial.params not in tried:
                self.open[key] = rung, trial
                return self.learn(key, trial.params)
            self.rungs[rung].tell(trial, state=TrialState.FAIL)
        # The last of a few is found by many draws; a resumed QMC begins its sequence again.
        for _ in range(TRIES * max(1, self.size or 1) + len(tried)):
            trial = self.blind.ask()
            suggest(self.space, trial)
            if trial.params not in tried:
                return self.learn(key, trial.params)
        return None

    def take_up(self, key: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Note a trial that an interrupted search had proposed when it knew what is known now."""
        rung = self._rung() if self.known else None
        config = self.learn(key, values)
        if rung is not None:
            known, study = self.known[key], self.rungs[rung]
            running = create_trial(state=TrialState.RUNNING, params=known.params, distributions=known.distributions)
            self.open[key] = rung, add_running(study, running)
        return config

    def remember(self, earlier: Iterable[Earlier], rungs: Sequence[int]) -> None:
        """Know the scores of trials of earlier searches, which have a value for every dimension."""
        for trial in earlier:
            self.learn(trial.name, trial.config)
            for rung in rungs:
                if rung in trial.curve:
                    self.observe(trial.name, rung, trial.curve[rung])
            del self.known[trial.name]  # it may be tried here too

    def learn(self, key: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Note a trial's values, also of one that was proposed elsewhere; returns its configuration."""
        trial = FixedTrial({dimension.name: values.get(dimension.name) for dimension in self.space.dimensions})
        config = suggest(self.space, trial)
        self.known[key] = trial
        return config

    def observe(self, key: str, rung: int, score: float) -> None:
        """The trial reached the rung with this score, higher being better."""
        if rung not in self.rungs:
            # Each rung has a sampler of its own: most keep what they know of the one study that they are used with.
            self.rungs[rung] = optuna.create_study(
                sampler=make_sampler(self.name, self.seed + rung), direction="maximize"
            )
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

    def _seed_here(self) -> int:
        """Of a proposal: from the number of trials, not from what was drawn before, which a resume wouldn't know."""
        return random.Random(f"{self.seed} {len(self.known)}").randrange(2**31)

    def _rung(self) -> int | None:
        """The rung to propose from; None for a proposal that looks at no scores."""
        if self.name in BLIND or (len(self.known) + 1) % RANDOM_EVERY == 0:
            return None
        # CMA-ES learns from its own proposals only, and the first rung is the one that all of them reach.
        best = min if self.name == "cmaes" else max
        return best((rung for rung, reached in self.reached.items() if reached >= ENOUGH), default=None)
