"""The searches that are compared, each through its real classes, behind one face: what next, and does it go on.

A method is written NAME or NAME:FIRST_RUNG:FACTOR. Ray and Optuna are set up as their documentation does, with their
own defaults; every method tries the same first configuration.
"""

import hashlib
import importlib.metadata
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

import optuna
from optuna.trial import TrialState

import tuning.engine
import tuning.sampler
from benchmarks._replay_curves import Table, first_point
from search_spaces import Float, Space, sample, suggest
from trainable.errors import UserError
from tuning.engine import Action, Engine, rung_levels
from tuning.plan import SearchPlan
from tuning.sampler import RungSampler

METRIC, STEP = "score", "training_iteration"


class Move(NamedTuple):
    """What a free slot does: trial `key` starts with this configuration, or goes on where it is None."""

    key: str
    config: Mapping[str, Any] | None = None


class Method(Protocol):
    """A search, as the virtual clock asks it."""

    def next(self) -> Move | None:
        """What a free slot does; None where it waits."""

    def report(self, key: str, step: int, score: float) -> bool:
        """The trial finished a step; whether it keeps its slot."""


class Setting(NamedTuple):
    """What every method is made from."""

    space: Space
    """Its start is the first configuration."""
    first: dict[str, float]
    steps: int
    seed: int
    rungs: tuple[int, float] | None
    """First rung and reduction factor; None for the method's own default."""


class Ours:
    """The engine and the sampler of `tuning`, asked as Ray asks them; trials without limit."""

    def __init__(self, setting: Setting, sampler: str) -> None:
        first, factor = setting.rungs or default_rungs()
        rungs = rung_levels(first, factor, setting.steps)
        self.engine = Engine(RungSampler(setting.space, sampler, setting.seed), rungs, factor, sys.maxsize)
        self.keys = trial_names()

    def next(self) -> Move | None:
        """A paused trial that may go on, else a new one."""
        key = self.engine.next_promotion()
        if key is not None:
            self.engine.promote()
            return Move(key)
        key = next(self.keys)
        config = self.engine.start(key)
        return None if config is None else Move(key, config)

    def report(self, key: str, step: int, score: float) -> bool:
        """Tell the engine."""
        return self.engine.report(key, step, score) is Action.CONTINUE


class RayTune:
    """Ray's ASHA, told what Ray's controller tells it, with new trials from Ray's OptunaSearch or drawn at random."""

    def __init__(self, setting: Setting, searcher: str) -> None:
        from ray.tune.schedulers import ASHAScheduler
        from ray.tune.search.optuna import OptunaSearch

        named: dict[str, Any] = {"metric": METRIC, "mode": "max"}
        rungs: dict[str, Any] = {}
        if setting.rungs is not None:
            rungs = {"grace_period": setting.rungs[0], "reduction_factor": setting.rungs[1]}
        # of the controller it wants nothing
        self.scheduler: Any = ASHAScheduler(time_attr=STEP, max_t=setting.steps, **named, **rungs)
        self.searcher = None
        if searcher == "optuna":
            self.searcher = OptunaSearch(
                space=distributions(setting.space),
                points_to_evaluate=[setting.first],
                seed=setting.seed,
                **named,
            )
        self.random = Random(setting)
        self.trials: dict[str, Any] = {}

    def next(self) -> Move | None:
        """A new trial."""
        move = self.random.next()
        if self.searcher is not None:
            move = Move(move.key, self.searcher.suggest(move.key))
        self.trials[move.key] = SimpleNamespace(trial_id=move.key)
        self.scheduler.on_trial_add(None, self.trials[move.key])
        return move

    def report(self, key: str, step: int, score: float) -> bool:
        """As `TuneController._process_trial_result`: the searcher hears of a stop only that the trial is complete."""
        trial, result = self.trials[key], {METRIC: score, STEP: step, "trial_id": key}
        goes_on = self.scheduler.on_trial_result(None, trial, result) == self.scheduler.CONTINUE
        if not goes_on:
            self.scheduler.on_trial_complete(None, trial, result)
        if self.searcher is not None and goes_on:
            self.searcher.on_trial_result(key, result)
        elif self.searcher is not None:
            self.searcher.on_trial_complete(key, result)
        return goes_on


class OptunaAlone:
    """Optuna's TPE with one of its pruners, by ask and tell."""

    def __init__(self, setting: Setting, pruner: optuna.pruners.BasePruner) -> None:
        self.setting = setting
        sampler = optuna.samplers.TPESampler(seed=setting.seed)
        # Hyperband's brackets hang on the study's name, which is random by default
        self.study = optuna.create_study(
            sampler=sampler, pruner=pruner, direction="maximize", study_name=f"{setting.space.name} {setting.seed}"
        )
        self.study.enqueue_trial(setting.first)
        self.trials: dict[str, optuna.Trial] = {}

    def next(self) -> Move | None:
        """A new trial."""
        trial = self.study.ask()
        key = str(trial.number)
        self.trials[key] = trial
        return Move(key, suggest(self.setting.space, trial))

    def report(self, key: str, step: int, score: float) -> bool:
        """Complete after the last step, pruned where the pruner says so."""
        trial = self.trials[key]
        trial.report(score, step)
        if step >= self.setting.steps:
            self.study.tell(trial, score)
            return False
        if trial.should_prune():
            self.study.tell(trial, state=TrialState.PRUNED)
            return False
        return True


class Random:
    """Draws at random; each trial runs its full length."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.keys = trial_names()
        self.rng = random.Random(setting.seed)
        self.begun = False

    def next(self) -> Move:
        """A new trial."""
        config = sample(self.setting.space, self.rng) if self.begun else self.setting.first
        self.begun = True
        return Move(next(self.keys), config)

    def report(self, key: str, step: int, score: float) -> bool:
        """Until the last step."""
        return step < self.setting.steps


METHODS: dict[str, Callable[[Setting], Method]] = {
    "ours": lambda setting: Ours(setting, "tpe"),
    "ours-random": lambda setting: Ours(setting, "random"),
    "ray": lambda setting: RayTune(setting, "optuna"),
    "ray-random": lambda setting: RayTune(setting, "random"),
    "optuna": lambda setting: OptunaAlone(setting, optuna.pruners.SuccessiveHalvingPruner()),
    "optuna-hyperband": lambda setting: OptunaAlone(
        setting, optuna.pruners.HyperbandPruner(max_resource=setting.steps)
    ),
    "random": Random,
}
WITH_RUNGS = ("ours", "ours-random", "ray", "ray-random")


def parse_method(text: str) -> tuple[str, tuple[int, float] | None]:
    """`ours:2:3` is ours with the first rung at 2 and factor 3.

    Raises:
        UserError: The name is unknown, or the rungs aren't numbers that make sense.
    """
    name, *rungs = text.split(":")
    if name not in METHODS:
        raise UserError(f"unknown method {name!r}; known: {', '.join(METHODS)}")
    if not rungs:
        return name, None
    try:
        first, factor = int(rungs[0]), float(rungs[1])
    except (ValueError, IndexError):
        raise UserError(f"method {text!r}: write {name}:FIRST_RUNG:FACTOR, such as {name}:2:3") from None
    if name not in WITH_RUNGS or len(rungs) > 2 or first < 1 or factor <= 1:
        raise UserError(f"method {text!r}: rungs go to {', '.join(WITH_RUNGS)}; first at 1 or later, factor above 1")
    return name, (first, factor)


def make_method(text: str, table: Table, seed: int) -> Method:
    """The method, fresh, for one search of the table."""
    name, rungs = parse_method(text)
    first = first_point(table, seed)
    own_seed = random.Random(f"{table.name} {seed}").getrandbits(31)
    return METHODS[name](Setting(table.space(first), first, table.steps, own_seed, rungs))


def version_of(text: str) -> str:
    """What results of a method hang on besides the table: our sources, or the peers' versions."""
    if text.startswith("ours"):
        sources = [Path(str(module.__file__)).read_bytes() for module in (tuning.engine, tuning.sampler)]
        return hashlib.sha256(b"".join([*sources, repr(default_rungs()).encode()])).hexdigest()[:12]
    return " ".join(f"{name} {importlib.metadata.version(name)}" for name in ("ray", "optuna"))


def distributions(space: Space) -> dict[str, Any]:
    """What Ray makes of a search space that holds only numbers on a log scale."""
    floats = (dimension for dimension in space.dimensions if isinstance(dimension, Float))
    return {each.name: optuna.distributions.FloatDistribution(each.low, each.high, log=each.log) for each in floats}


def default_rungs() -> tuple[int, float]:
    """First rung and reduction factor of `tuning.run`."""
    fields = SearchPlan.model_fields
    return fields["first_rung"].default, fields["reduction_factor"].default


def trial_names() -> Iterator[str]:
    """Endless and different."""
    number = 0
    while True:
        yield f"{number:05d}"
        number += 1
