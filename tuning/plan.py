"""What a search will do, decided and checked before anything starts. Needs neither torch nor Ray."""

import itertools
import re
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from search_spaces import Choice, Space
from trainable.errors import UsageError
from tuning.engine import rung_levels

Scheduler = Literal["asha", "asha-stop", "median", "none"]
Sampler = Literal["tpe", "random"]
WandbMode = Literal["off", "offline", "online"]

DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s?)?")

IMAGES_PER_SECOND = {
    "resnet18": 30,
    "resnet34": 15,
    "resnet50": 12,
    "resnet101": 7,
    "resnet152": 5,
    "vit_small": 40,
    "deit_small": 40,
    "swin_tiny": 85,
}
"""Training images/s of one CPU core in fp32 at 32 px, for estimates before anything was measured here."""
UNKNOWN_ARCHITECTURE = 20
REFERENCE_PIXELS = 32 * 32


class SearchPlan(BaseModel):
    """A search, complete: saved as experiment.json, and what a resumed search goes on with."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    space: Space
    """What may vary."""
    trial: dict[str, Any]
    """What every trial shares: the fields of `TrialConfig` that don't vary, as JSON values."""
    trials: int = Field(ge=1)
    """How many configurations are tried."""
    epochs: int = Field(ge=1)
    """Epochs of a full training."""
    time_budget_s: float | None = Field(default=None, gt=0)
    """Wall time after which the search ends, in seconds."""
    scheduler: Scheduler = "asha"
    """What ends trials early: successive halving that pauses and promotes, Ray's that stops, median rule, or none."""
    reduction_factor: float = Field(default=2, gt=1)
    """Successive halving lets the top 1/`reduction_factor` of a rung go on."""
    first_rung: int = Field(default=1, ge=1)
    """Epochs before a trial may be stopped."""
    sampler: Sampler = "tpe"
    """Optuna's sampler."""
    seed: int = 0
    """Fixes splits, sampling and training."""
    name: str
    """The experiment's folder below `output`."""
    output: Path
    """Folder of all experiments, absolute."""
    keep_weights: int = Field(default=10, ge=1)
    """Weights are kept for this many best trials; predictions and metrics for all."""
    wandb: WandbMode = "off"
    """Where Weights & Biases gets the metrics."""
    wandb_project: str = "image-search"
    """Its project."""

    @property
    def folder(self) -> Path:
        """The experiment's own folder."""
        return self.output / self.name

    @property
    def rungs(self) -> list[int]:
        """Epochs at which successive halving compares trials; empty for other schedulers."""
        if self.scheduler not in ("asha", "asha-stop"):
            return []
        return rung_levels(self.first_rung, self.reduction_factor, self.epochs)


class Budget(NamedTuple):
    """Roughly what a plan costs."""

    epochs: float
    """Epochs of all trials together."""
    full_trainings: float
    """The same in units of a full training."""
    images: float
    """Training images that pass through a model."""


def expected_budget(plan: SearchPlan, train_images: int) -> Budget:
    """Epochs expected if each rung lets exactly its share go on; asynchronous halving lets a few more."""
    rungs = [rung for rung in plan.rungs if rung < plan.epochs]
    epochs, going_on, reached = 0.0, float(plan.trials), 0
    for rung in rungs:
        epochs += going_on * (rung - reached)
        going_on, reached = max(1.0, going_on / plan.reduction_factor), rung
    epochs += going_on * (plan.epochs - reached)
    if plan.scheduler == "median":
        epochs = plan.trials * plan.epochs / 2
    return Budget(epochs, epochs / plan.epochs, epochs * train_images)


def estimated_seconds(plan: SearchPlan, budget: Budget, image_size: int, cores: float) -> float:
    """Wall seconds on `cores` CPU cores, from reference throughputs: right within a factor of three at best."""
    architectures = architectures_of(plan.space)
    seconds_an_image = sum(1 / IMAGES_PER_SECOND.get(arch, UNKNOWN_ARCHITECTURE) for arch in architectures)
    seconds_an_image *= image_size**2 / REFERENCE_PIXELS / len(architectures)
    seconds = budget.images * seconds_an_image / cores
    return min(seconds, plan.time_budget_s) if plan.time_budget_s else seconds


def architectures_of(space: Space) -> list[str]:
    """Every architecture that the space may propose."""
    if "arch" in space.fixed:
        return [str(space.fixed["arch"])]
    choices = [d for d in space.dimensions if d.name == "arch" and isinstance(d, Choice)]
    return [str(value) for dimension in choices for value in dimension.values]


def largest_configurations(plan: SearchPlan) -> list[dict[str, Any]]:
    """Each architecture at the largest batch that the space may propose: what a memory measurement has to try."""
    sizes = [max(d.values) for d in plan.space.dimensions if d.name == "batch_size" and isinstance(d, Choice)]
    batch = {"batch_size": sizes[0]} if sizes else {}
    shared = plan.trial | plan.space.fixed | {"epochs": plan.epochs} | batch
    return [shared | {"arch": arch} for arch in architectures_of(plan.space)]


def parse_duration(text: str) -> float:
    """`90`, `90s`, `30m`, `2h` or `1h30m` -> seconds."""
    match = DURATION.fullmatch(text.strip().lower())
    if not text.strip() or match is None:
        raise UsageError(f"--time-budget {text}: give a duration such as 30m, 2h or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    total = 3600 * hours + 60 * minutes + seconds
    if total <= 0:
        raise UsageError(f"--time-budget {text}: give more than 0 seconds")
    return total


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
