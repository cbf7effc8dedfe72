"""Population-based training (Jaderberg et al. 2017), Ray's: the worst trials go on from copies of the best.

All trials train side by side. After every tenth of the training (at least `first_rung` steps) a trial in the worst
quarter takes over weights, optimiser and configuration of one in the best quarter, and changes some of its numbers.
So a trial's folder holds the records of all epochs that ran there, while its checkpoint holds the history of the
weights that it ended with. Which of the best is copied comes from Python's own generator, which nothing seeds here.
"""

import os
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from ray.tune import Checkpoint
from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining
from ray.tune.schedulers.pbt import _PBTTrialState

from search_spaces import Float, Space, sample
from tuning.plan import SearchPlan, mutable_dimensions

REDRAW = 0.25
"""Probability that a number is drawn anew; else it grows or shrinks by one of FACTORS."""
FACTORS = (0.8, 1.2)


def make_population(plan: SearchPlan, shared: dict[str, Any]) -> "Population":
    """Ray's scheduler for the plan; `shared` names time, metric and mode."""
    rng = random.Random(plan.seed)
    dimensions = mutable_dimensions(plan.space)
    return Population(
        perturbation_interval=max(1, plan.length // 10),
        burn_in_period=plan.first_rung,
        custom_explore_fn=lambda config: mutate(dimensions, config, rng),
        **shared,
    )


def mutate(dimensions: list[Float], config: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """A copy of `config` in which each of `dimensions` has moved, within its range."""
    drawn = sample(Space(name="mutable", dimensions=tuple(dimensions)), rng)
    mutated = dict(config)
    for dimension in dimensions:
        moved = config[dimension.name] * rng.choice(FACTORS)
        value = drawn[dimension.name] if rng.random() < REDRAW else moved
        mutated[dimension.name] = min(max(value, dimension.low), dimension.high)
    return mutated


class Population(PopulationBasedTraining):
    """Ray's, with a searcher for the first configurations, and with one checkpoint a trial on disk."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.copies: Counter[Trial] = Counter()
        """How often each trial took over another."""

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Ray refuses searchers here, since a trial's end says nothing about its start; ours proposes all at first."""
        self._trial_state[trial] = _PBTTrialState(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The trial that is furthest behind; at equal epochs the one that took over least often.

        Ray takes the first at equal epochs: one that stays the worst would train the same epoch again and again, while
        the others, whose progress would end that, wait for its slot.
        """
        waiting = [t for t in tune_controller.get_trials() if t.status in (Trial.PENDING, Trial.PAUSED)]
        behind = {trial: (self._trial_state[trial].last_train_time, self.copies[trial]) for trial in waiting}
        return min(waiting, key=behind.__getitem__, default=None)

    def _exploit(self, tune_controller: Any, trial: Trial, trial_to_clone: Trial) -> None:
        """Keep a checkpoint that the trial takes over until it has: the other trial deletes its old ones (ray #9036).

        Files are linked, not copied.
        """
        self.copies[trial] += 1
        state: Any = self._trial_state[trial_to_clone]
        if not Path(state.last_checkpoint.path).is_dir():
            latest: Any = trial_to_clone.latest_checkpoint_result
            state.last_checkpoint, state.last_result = latest.checkpoint, latest.metrics
        original = state.last_checkpoint
        shutil.rmtree(clone_folder(trial), ignore_errors=True)
        shutil.copytree(original.path, clone_folder(trial), copy_function=os.link)
        state.last_checkpoint = Checkpoint(str(clone_folder(trial)), original.filesystem)
        super()._exploit(tune_controller, trial, trial_to_clone)
        state.last_checkpoint = original

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict) -> None:
        """The trial ended: what it took over is no longer needed."""
        shutil.rmtree(clone_folder(trial), ignore_errors=True)


def clone_folder(trial: Trial) -> Path:
    """Where a trial keeps the checkpoint that it took over, until it ends or takes over another."""
    return Path(str(trial.path)) / "clone"
