"""What a search will do, decided and checked before anything starts. Needs neither torch nor Ray."""

import itertools
import math
import re
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from search_spaces import Choice, Float, Space
from trainable.address import open_place
from trainable.config import whole_as_int
from trainable.errors import UsageError
from tuning.engine import rung_levels
from tuning.step_cost import Work

if TYPE_CHECKING:
    from trainable.address import Place

Search = Literal["freeze-thaw", "halving"]
Scheduler = Literal["freeze-thaw", "asha", "asha-stop", "hyperband", "median", "pbt", "none"]
Sampler = Literal["tpe", "random", "gp", "cmaes", "qmc"]
OUR_SCHEDULERS: tuple[Scheduler, ...] = ("freeze-thaw", "asha")
"""Those whose trials our engine decides on."""
NOT_RESUMED: tuple[Scheduler, ...] = ("hyperband", "pbt")
"""Ray's schedulers whose interrupted searches nothing can take up: their state is Ray's trial objects."""
WandbMode = Literal["off", "offline", "online"]
RefitMode = Literal["auto", "yes", "no"]

LONG_TRAINING = 10
MUTABLE = (
    "lr",
    "weight_decay",
    "drop_rate",
    "attn_drop_rate",
    "drop_path_rate",
    "label_smoothing",
    "mix_prob",
    "clip_grad",
)
"""Hyper-parameters with which a training can go on from the weights and optimiser state of one that had others."""


class Limits(NamedTuple):
    """How much of the disk a search may take."""

    keep: int
    """Weights stay of so many of the best ended trials, and of the best of each architecture."""
    most_bytes: int
    """Paused trials give theirs up where all checkpoints together are more than this."""
    free_bytes: int
    """No trial begins where less than this is free."""


class Precautions(NamedTuple):
    """How a search guards itself; said anew at each resume."""

    retries: int = 2
    """How often a trial that broke is tried again from its checkpoint, without a new epoch in between."""
    stall_timeout_s: float | None = None
    """How long a running trial may be silent, in seconds; None for what its epochs suggest."""
    free_bytes: int = 2 * 10**9
    """Of the disk, below which no trial begins."""
    most_bytes: int = 5 * 10**9
    """Of all checkpoints together, above which paused trials give theirs up."""

    def limits(self, keep: int) -> Limits:
        """What of the disk the search may take, where weights of the best `keep` trials stay."""
        return Limits(keep, self.most_bytes or sys.maxsize, self.free_bytes)


class SearchPlan(BaseModel):
    """A search, complete: saved as experiment.json, and what a resumed search goes on with."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    space: Space
    """What may vary."""
    trial: dict[str, Any]
    """What every trial shares: the fields of `TrialConfig` that don't vary, as JSON values."""
    trials: int | None = Field(default=None, ge=1)
    """How many configurations are tried; None for as many as the other budgets buy."""
    epochs: Annotated[int | float, BeforeValidator(whole_as_int)] = Field(gt=0)
    """Epochs of a full training."""
    steps: int | None = Field(default=None, ge=1)
    """Equal parts that it is trained and scored in; None for one an epoch, as in earlier versions."""
    first_in_full: bool = False
    """Whether the first configuration runs to its full length before anything decides on it."""
    epoch_budget: int | None = Field(default=None, ge=1)
    """Epochs of all trials together, after which the search ends."""
    time_budget_s: float | None = Field(default=None, gt=0)
    """Wall time from the command to the last file, in seconds."""
    reserve_s: float = Field(default=0, ge=0)
    """What of it is kept back for the export and the report."""
    work: Work | None = None
    """What a step is, for what it costs; None if nothing tells."""
    scheduler: Scheduler = "freeze-thaw"
    """What decides which trials go on: freeze-thaw, which needs no sampler; successive halving that pauses and
    promotes, or Ray's that stops; Ray's HyperBand, median rule or population-based training; or none."""
    reduction_factor: float = Field(default=2, gt=1)
    """Rungs grow by it; successive halving and HyperBand let the top 1/`reduction_factor` of a rung go on."""
    first_rung: int = Field(default=1, ge=1)
    """Steps before a trial may pause or be stopped."""
    sampler: Sampler = "tpe"
    """Optuna's sampler: TPE, random, Gaussian process, CMA-ES, or quasi-Monte-Carlo."""
    weights: str | None = None
    """Where published weights come from, and which architectures have none, in words; None if nobody looked for any."""
    first: list[dict[str, Any]] = []
    """Configurations to try before the sampler proposes any, without the fixed values."""
    starts: list[dict[str, Any]] = []
    """Where fine-tuning starts, for each architecture: those whose probes come out best are tried after `first`."""
    warm_start: list[Path] = []
    """Folders of earlier experiments whose results are known from the start."""
    seed: int = 0
    """Fixes splits, sampling and training."""
    name: str
    """The experiment's folder below `output`."""
    output: Path
    """Folder of all experiments on this machine, absolute."""
    storage: str | None = None
    """Where checkpoints go, and copies of all else: an address, or a folder that all nodes share; else `output`."""
    keep_weights: int = Field(default=10, ge=1)
    """Weights are kept for this many best trials; predictions and metrics for all."""
    study: str | None = None
    """A database's address, without a password, that gets a copy of the study."""
    mlflow: str | None = None
    """Address of an MLflow tracking server, or of a folder, that gets the metrics."""
    wandb: WandbMode = "off"
    """Where Weights & Biases gets the metrics."""
    wandb_project: str = "image-search"
    """Its project."""

    @property
    def folder(self) -> Path:
        """The experiment's own folder."""
        return self.output / self.name

    @property
    def place(self) -> "Place | None":
        """The experiment's folder in its storage, where it has one."""
        return open_place(self.storage, "--storage") / self.name if self.storage else None

    @property
    def fine_tunes(self) -> bool:
        """Whether its trainings start from published weights."""
        return bool(self.trial.get("pretrained"))

    @property
    def length(self) -> int:
        """Steps of a full training."""
        return self.steps or math.ceil(self.epochs)

    def epochs_of(self, steps: float) -> float:
        """How many epochs so many steps are."""
        return steps * self.epochs / self.length

    @property
    def trial_settings(self) -> dict[str, Any]:
        """The configuration of each trial but for what varies."""
        steps = {} if self.steps is None else {"steps": self.steps}
        return self.trial | self.space.fixed | {"epochs": self.epochs} | steps

    @property
    def rungs(self) -> list[int]:
        """Steps at which trials are compared; empty for schedulers that have none."""
        if self.decides_itself or self.scheduler == "asha-stop":
            return rung_levels(self.first_rung, self.reduction_factor, self.length)
        return []

    @property
    def decides_itself(self) -> bool:
        """Whether our engine decides, and not a scheduler of Ray's."""
        return self.scheduler in OUR_SCHEDULERS

    @property
    def step_limit(self) -> int | None:
        """Steps of all trials together: what was asked for, else what halving would spend on as many trials.

        Halving ends by itself; freeze-thaw would train every trial to its full length.
        """
        if self.epoch_budget is not None:
            return math.floor(self.epoch_budget * self.length / self.epochs)
        if self.scheduler != "freeze-thaw" or self.trials is None:
            return None
        extra = self.length - self.rungs[0] if self.first_in_full else 0
        return math.ceil(halving_steps(self.trials, self.rungs, self.reduction_factor)) + extra


def usual_first_rung(steps: int) -> int:
    """The second step in a training of `LONG_TRAINING` or more: the first, mostly warm-up, says little."""
    return 2 if steps >= LONG_TRAINING else 1


def halving_steps(trials: float, rungs: Sequence[int], factor: float) -> float:
    """Steps if each rung lets exactly its share go on; asynchronous halving lets a few more."""
    steps, going_on, reached = 0.0, float(trials), 0
    for rung in rungs:
        steps += going_on * (rung - reached)
        going_on, reached = max(1.0, going_on / factor), rung
    return steps


def architectures_of(space: Space) -> list[str]:
    """Every architecture that the space may propose."""
    if "arch" in space.fixed:
        return [str(space.fixed["arch"])]
    choices = [d for d in space.dimensions if d.name == "arch" and isinstance(d, Choice)]
    return [str(value) for dimension in choices for value in dimension.values]


def mutable_dimensions(space: Space) -> list[Float]:
    """What population-based training may change between epochs: real numbers that every configuration has."""
    return [d for d in space.dimensions if isinstance(d, Float) and d.name in MUTABLE and not d.when and d.low < d.high]


def largest_configurations(plan: SearchPlan) -> list[dict[str, Any]]:
    """Each architecture at the largest batch that the space may propose: what a memory measurement has to try."""
    sizes = [max(d.values) for d in plan.space.dimensions if d.name == "batch_size" and isinstance(d, Choice)]
    batch = {"batch_size": sizes[0]} if sizes else {}
    shared = plan.trial_settings | batch
    return [shared | {"arch": arch} for arch in architectures_of(plan.space)]


def default_name(space_name: str, now: datetime, output: Path) -> str:
    """`swin-20261124-183000`; a search started in the same second gets `-2`."""
    name = f"{space_name}-{now:%Y%m%d-%H%M%S}"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(name for name in names if not (output / name).exists())


def check_name(name: str) -> str:
    """Names become folders, so they hold letters, digits, dots, dashes and underscores only."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise UsageError(f"--name {name!r}: use letters, digits, '.', '-' and '_', and start with a letter or digit")
    return name


def clock(seconds: float) -> str:
    """`1:02:03`, or `02:03` below an hour."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
