"""The searches that are compared, each through its real classes, behind one face: what next, and does it go on.

A method is written NAME or NAME:FIRST_RUNG:FACTOR. Peers are set up as their documentation does, with their own
defaults; every method tries the same first configuration. Those that need more packages, or more to drive them, are in
`_replay_peers` and `_replay_syne`, which import this module.
"""

import hashlib
import importlib.metadata
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

import optuna
from optuna.trial import TrialState

import tuning
from benchmarks._replay_curves import Table, first_point
from benchmarks._replay_releases import SYNE_RELEASES
from search_spaces import Space, sample, suggest
from trainable.errors import UserError
from tuning.engine import Action, Engine, rung_levels
from tuning.optuna_sampler import FreezeThawSampler
from tuning.plan import Sampler, Scheduler, SearchPlan, usual_first_rung
from tuning.policies import make_engine
from tuning.warm_start import Earlier

METRIC, STEP = "score", "training_iteration"
OUR_SOURCES = (
    "engine.py",
    "policies.py",
    "freeze_thaw.py",
    "curve_model.py",
    "step_cost.py",
    "arithmetic.py",
    "halving.py",
    "sampler.py",
)
"""What our results hang on."""
USUAL_FACTOR = SearchPlan.model_fields["reduction_factor"].default


class Move(NamedTuple):
    """What a free slot does: trial `key` starts with this configuration, or goes on where it is None."""

    key: str
    config: Mapping[str, Any] | None = None


class Method(Protocol):
    """A search, as the virtual clock asks it."""

    def next(self) -> Move | None:
        """What a free slot does; None where it waits."""

    def report(self, key: str, step: int, score: float, seconds: float) -> bool:
        """The trial finished a step, which took slot time; whether it keeps its slot."""


class Setting(NamedTuple):
    """What every method is made from."""

    space: Space
    """Its start is the first configuration."""
    first: dict[str, Any]
    steps: int
    seed: int
    rungs: tuple[int, float] | None
    """First rung and reduction factor; None for the method's own default."""


class Ours:
    """An engine of `tuning`, asked as Ray asks it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.keys = trial_names()

    def next(self) -> Move | None:
        """What the engine says."""
        move = self.engine.next_move()
        if move is not None and move.key is not None:
            self.engine.promote()
            return Move(move.key)
        key = next(self.keys)
        config = self.engine.start(key)
        return None if config is None else Move(key, config)

    def report(self, key: str, step: int, score: float, seconds: float) -> bool:
        """Tell the engine."""
        return self.engine.report(key, step, score, seconds) is Action.CONTINUE


class RayTune:
    """Ray's ASHA, told what Ray's controller tells it, with new trials from Ray's OptunaSearch or drawn at random."""

    def __init__(self, setting: Setting, searcher: str) -> None:
        from ray.tune.schedulers import ASHAScheduler
        from ray.tune.search.optuna import OptunaSearch

        named: dict[str, Any] = {"metric": METRIC, "mode": "max"}
        rungs = rung_options(setting, "grace_period", "reduction_factor")
        # of the controller it wants nothing
        self.scheduler: Any = ASHAScheduler(time_attr=STEP, max_t=setting.steps, **named, **rungs)
        self.searcher = None
        if searcher == "optuna":
            self.searcher = OptunaSearch(
                space=lambda trial: suggest(setting.space, trial),
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

    def report(self, key: str, step: int, score: float, seconds: float) -> bool:
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
    """A sampler and a pruner of Optuna, by ask and tell."""

    def __init__(
        self, setting: Setting, pruner: optuna.pruners.BasePruner, sampler: optuna.samplers.BaseSampler | None = None
    ) -> None:
        self.setting = setting
        sampler = sampler or optuna.samplers.TPESampler(seed=setting.seed)
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

    def report(self, key: str, step: int, score: float, seconds: float) -> bool:
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

    def report(self, key: str, step: int, score: float, seconds: float) -> bool:
        """Until the last step."""
        return step < self.setting.steps


def ours(setting: Setting, scheduler: Scheduler, sampler: Sampler = "tpe", earlier: Sequence[Earlier] = ()) -> "Ours":
    """Our search; trials without limit, since the budget is time."""
    first_rung, factor = our_rungs(setting)
    plan = SearchPlan(
        space=setting.space,
        trial={},
        epochs=setting.steps,
        time_budget_s=sys.maxsize,
        scheduler=scheduler,
        reduction_factor=factor,
        first_rung=first_rung,
        sampler=sampler,
        first=[setting.first],
        seed=setting.seed,
        name="replay",
        output=Path(),
    )
    return Ours(make_engine(plan, earlier))


def optuna_halving(setting: Setting, sampler: optuna.samplers.BaseSampler | None = None) -> Method:
    """Optuna's successive halving, which stops trials."""
    rungs = rung_options(setting, "min_resource", "reduction_factor", int)
    return OptunaAlone(setting, optuna.pruners.SuccessiveHalvingPruner(**rungs), sampler)


def optuna_hyperband(setting: Setting) -> Method:
    """Optuna's Hyperband, which stops trials."""
    rungs = rung_options(setting, "min_resource", "reduction_factor", int)
    return OptunaAlone(setting, optuna.pruners.HyperbandPruner(max_resource=setting.steps, **rungs))


def gaussian_process(setting: Setting) -> optuna.samplers.BaseSampler:
    """Optuna's Gaussian process, which learns only from trials that ran in full."""
    return optuna.samplers.GPSampler(seed=setting.seed)


def our_rungs(setting: Setting) -> tuple[int, float]:
    """First rung and reduction factor, those of `tuning.run` where the setting has none."""
    return setting.rungs or (usual_first_rung(setting.steps), USUAL_FACTOR)


def our_sampler(setting: Setting) -> optuna.samplers.BaseSampler:
    """The proposals of freeze-thaw, without its choice of what goes on."""
    first_rung, factor = our_rungs(setting)
    return FreezeThawSampler(setting.space, rung_levels(first_rung, factor, setting.steps), setting.seed)


def ray_hyperband(setting: Setting, searcher: str) -> Method:
    """Ray's synchronous HyperBand."""
    from benchmarks._replay_peers import RayHyperband

    return RayHyperband(setting, searcher)


def syne_tune(name: str) -> Callable[[Setting], Method]:
    """How one of Syne Tune's schedulers is made."""

    def make(setting: Setting) -> Method:
        from benchmarks._replay_syne import SyneTune

        return SyneTune(setting, name)

    return make


METHODS: dict[str, Callable[[Setting], Method]] = {
    "ours": lambda setting: ours(setting, "freeze-thaw"),
    "ours-asha": lambda setting: ours(setting, "asha"),
    "ours-asha-random": lambda setting: ours(setting, "asha", "random"),
    "ray": lambda setting: RayTune(setting, "optuna"),
    "ray-random": lambda setting: RayTune(setting, "random"),
    "ray-hyperband": lambda setting: ray_hyperband(setting, "random"),
    "ray-bohb": lambda setting: ray_hyperband(setting, "bohb"),
    "optuna": optuna_halving,
    "optuna-hyperband": optuna_hyperband,
    "optuna-ours": lambda setting: optuna_halving(setting, our_sampler(setting)),
    "optuna-gp": lambda setting: optuna_halving(setting, gaussian_process(setting)),
    "optuna-gp-full": lambda setting: OptunaAlone(setting, optuna.pruners.NopPruner(), gaussian_process(setting)),
    **{name: syne_tune(name) for name in SYNE_RELEASES},
    "random": Random,
}
WITHOUT_RUNGS = ("random", "optuna-gp-full")
FACTOR_ALONE = ("ray-hyperband", "ray-bohb")
"""Their first rungs follow from the number of steps."""
WHOLE_FACTOR = ("optuna", "optuna-hyperband", "optuna-gp", "syne-dyhpo")


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
    if name in WITHOUT_RUNGS or len(rungs) > 2 or first < 1 or factor <= 1:
        raise UserError(
            f"method {text!r}: rungs go to all but {', '.join(WITHOUT_RUNGS)}; first from 1, factor above 1"
        )
    if name in FACTOR_ALONE and first != 1:
        raise UserError(f"method {text!r}: {name} sets its first rung itself; write {name}:1:{rungs[1]}")
    if name in WHOLE_FACTOR and factor != int(factor):
        raise UserError(f"method {text!r}: the factor of {name} is a whole number, such as {name}:{first}:3")
    return name, (first, factor)


def make_method(text: str, table: Table, seed: int) -> Method:
    """The method, fresh, for one search of the table."""
    name, rungs = parse_method(text)
    return METHODS[name](setting_of(table, seed)._replace(rungs=rungs))


def setting_of(table: Table, seed: int) -> Setting:
    """A search of the table, with its first configuration and its own seed drawn from the seed; usual rungs."""
    first = first_point(table, seed)
    own_seed = random.Random(f"{table.name} {seed}").getrandbits(31)
    return Setting(table.space_from(first), first, table.steps, own_seed, None)


def version_of(text: str) -> str:
    """What results of a method hang on besides the table: our sources, or the peers' versions."""
    if "ours" in text:
        folder = Path(str(tuning.__file__)).parent
        return hashlib.sha256(b"".join((folder / name).read_bytes() for name in OUR_SOURCES)).hexdigest()[:12]
    if (release := SYNE_RELEASES.get(text.split(":")[0])) is not None:
        return f"syne-tune {release}"
    return " ".join(f"{name} {importlib.metadata.version(name)}" for name in ("ray", "optuna"))


def rung_options(setting: Setting, first: str, factor: str, number: Callable[[float], float] = float) -> dict[str, Any]:
    """The rungs in a peer's own words; none for its defaults."""
    return {} if setting.rungs is None else {first: setting.rungs[0], factor: number(setting.rungs[1])}


def trial_names() -> Iterator[str]:
    """Endless and different."""
    number = 0
    while True:
        yield f"{number:05d}"
        number += 1
