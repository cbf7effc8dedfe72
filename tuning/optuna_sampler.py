"""Freeze-thaw's proposals for any study of Optuna's.

>>> study = optuna.create_study(sampler=FreezeThawSampler(space, rungs=[2, 4, 8], seed=0), direction="maximize")
>>> trial = study.ask()
>>> configuration = search_spaces.suggest(space, trial)

A trial reports its score after each epoch (`trial.report(score, epoch)`). Which paused trial goes on is not for a
sampler to say: that is `tuning.engine`'s, or a pruner's.
"""

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FixedTrial, FrozenTrial

from search_spaces import Space, start_point, suggest, unconditional
from tuning.engine import Budget, Status, TrialState
from tuning.freeze_thaw import FreezeThaw


class FreezeThawSampler(BaseSampler):
    """Proposes the new configuration of the largest expected improvement, from what all trials scored at the rungs."""

    def __init__(self, space: Space, rungs: Sequence[int], seed: int) -> None:
        self.space = space
        self.rungs = list(rungs)
        self.seed = seed

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Every dimension; `sample_relative` leaves out those that don't apply."""
        everywhere = unconditional(self.space)
        fixed = FixedTrial(start_point(everywhere))
        suggest(everywhere, fixed)
        return fixed.distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The proposal; trials that run count as in `tuning.freeze_thaw`."""
        policy, running = FreezeThaw(self.space, self.rungs, self.seed), {}
        for each in study.get_trials(deepcopy=False):
            if each.number == trial.number or not each.params:
                continue
            key = str(each.number)
            config = policy.learn(key, each.params)
            for rung in (rung for rung in self.rungs if rung in each.intermediate_values):
                policy.observe(key, rung, each.intermediate_values[rung])
            status = Status.ENDED if each.state.is_finished() else Status.RUNNING
            target = next((rung for rung in self.rungs if rung not in each.intermediate_values), self.rungs[-1])
            running[key] = TrialState(key, config, target, status)
        policy.choose(running, Budget(may_start=True))
        proposed = policy.propose(str(trial.number)) or {}
        return {name: value for name, value in proposed.items() if name in search_space}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """At random, for parameters outside the space, and where the space has no more."""
        random = optuna.samplers.RandomSampler(seed=self.seed + trial.number)
        return random.sample_independent(study, trial, param_name, param_distribution)
