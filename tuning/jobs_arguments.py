"""The options behind `--`: what is wrong with them is told here, before a job waits for a cluster to say it."""

import functools
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import typer

from trainable.config import LITE
from trainable.console import UNDERSCORES_ARE_DASHES
from trainable.data.default import DIGITS
from trainable.errors import UsageError
from tuning import run
from tuning.length import FROM_SCRATCH
from tuning.options import given_options
from tuning.planning import FLAGS, GIVEN_ANEW, ON_OTHER_DATA, new_plan, precautions
from tuning.resources import parse_gpus_per_trial

BELONG_TO_JOBS = {
    "address": "the job runs on the cluster that it is submitted to; leave it out",
    "storage": "stands before --",
    "name": "stands before --",
    "resume": "is a command of its own: python -m tuning.jobs resume NAME",
    "output": "the job's files are kept in --storage; leave it out",
}
"""Options of tuning.run that a job gives itself, and what to do instead."""
SPACES = "spaces"
"""Folder of the job's package for a space file."""


class Request(NamedTuple):
    """What a job is to run, checked."""

    arguments: list[str]
    """Of tuning.run, as they hold on the cluster."""
    files: dict[str, Path]
    """Files of this machine that go along, by their path in the package."""
    name: str
    """For the experiment, where it isn't given: space and time."""
    wandb: bool
    """Whether the search may want to reach Weights & Biases."""


def check_new(arguments: Sequence[str]) -> Request:
    """A new search.

    Raises:
        UsageError: An option is unknown, contradicts another, belongs before `--` or names a path that only this
            machine knows.
        typer.exceptions.TyperException: The options can't be parsed.
    """
    asked = parse(arguments)
    refuse_ours(asked)
    check_paths(asked)
    precautions(asked)
    parse_gpus_per_trial(asked.gpus_per_trial)
    plan, _ = new_plan(as_if_here(asked), None)
    files = {}
    more: list[str] = []
    if (space_file := Path(asked.space)).suffix in (".toml", ".py"):
        there = f"{SPACES}/{space_file.name}"
        files, more = {there: space_file}, ["--space", there]  # of two the last one counts
    return Request([*arguments, *more], files, plan.name, asked.wandb in (None, "online"))


def check_resumed(arguments: Sequence[str]) -> None:
    """What may be given to a search that goes on; the errors of `check_new`."""
    asked = parse(arguments)
    refuse_ours(asked)
    precautions(asked)
    fixed = sorted(FLAGS.get(name, f"--{name.replace('_', '-')}") for name in given_options(asked.context) - GIVEN_ANEW)
    if fixed:
        raise UsageError(f"{', '.join(fixed)}: a resumed search keeps its plan; leave this out, or submit a new search")


def parse(arguments: Sequence[str]) -> SimpleNamespace:
    """What tuning.run would get from these options; its help, and then the end, where that is asked for."""
    taken: list[SimpleNamespace] = []

    @functools.wraps(run.main)
    def take(**values: Any) -> None:
        taken.append(SimpleNamespace(**values))

    app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
    app.command(context_settings=UNDERSCORES_ARE_DASHES, help=run.__doc__)(take)
    app(list(arguments), prog_name="python -m tuning.run", standalone_mode=False)
    if not taken:
        raise typer.Exit
    return taken[0]


def refuse_ours(asked: SimpleNamespace) -> None:
    """UsageError for an option that the job gives itself."""
    for name in sorted(given_options(asked.context) & BELONG_TO_JOBS.keys()):
        raise UsageError(f"--{name} behind --: {BELONG_TO_JOBS[name]}")


NAMES = ("auto", "timm", "none", LITE)
"""Values of --pretrained that name no file."""


def check_paths(asked: SimpleNamespace) -> None:
    """UsageError for a relative path: the job doesn't run in this folder."""
    weights = None if asked.pretrained in NAMES else asked.pretrained
    for flag, path in (("--data", asked.data), ("--cache-dir", asked.cache_dir), ("--pretrained", weights)):
        if path is not None and ":/" not in str(path) and not Path(path).is_absolute():
            raise UsageError(f"{flag} {path}: the job doesn't run in this folder; give the full path on the nodes")


def as_if_here(asked: SimpleNamespace) -> SimpleNamespace:
    """The same with the embedded digits in place of what only the cluster has: images, weights, earlier searches."""
    here = SimpleNamespace(**vars(asked))
    if asked.data is not None:  # what is usual for the digits isn't for these images
        here.epochs = asked.epochs or FROM_SCRATCH.epochs
        here.trials = asked.trials or (None if asked.time_budget or asked.epoch_budget else ON_OTHER_DATA.trials)
    here.data = DIGITS
    here.pretrained = asked.pretrained or ("auto" if asked.data else "none")
    here.cache_dir, here.warm_start, here.wandb = None, None, "off"
    return here
