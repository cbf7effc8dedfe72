"""Search for the best image classifiers that a budget buys, and export them as one ensemble.

[bold]python -m tuning.run --space swin[/]  searches on the embedded digits, on this machine, in minutes.

[bold]python -m tuning.run --space all --data FOLDER[/]  searches on your images: FOLDER/train/CLASS/*.jpg.

[bold]python -m tuning.run --space swin --dry-run[/]  says what would happen, and roughly for how long.

[bold]python -m tuning.run --resume NAME[/]  goes on with an interrupted search.
"""

import subprocess
import sys
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import typer
from rich.console import Console

from search_spaces import Choice, Space, SpaceError, for_pretrained, get_space, narrow
from trainable.config import make_config
from trainable.console import INTERRUPTED, UNDERSCORES_ARE_DASHES, run_app
from trainable.data.digits import write_digits
from trainable.errors import UsageError, UserError
from tuning import options
from tuning.data import Source, find_source
from tuning.overview import print_overview
from tuning.plan import SearchPlan, check_name, default_name, parse_duration
from tuning.resources import Hardware, Slots, find_hardware, parse_gpus_per_trial, plan_slots
from tuning.storage import (
    check_unchanged,
    code_facts,
    create_experiment,
    find_experiment,
    prepare_output,
    read_experiment,
    write_plan,
)
from tuning.tracking import choose_wandb_mode

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


class Usual(NamedTuple):
    """Trials, epochs and time budget of a command that gives none."""

    trials: int
    epochs: int
    time_budget_s: float | None


ON_DIGITS = Usual(trials=8, epochs=4, time_budget_s=210)
ON_OTHER_DATA = Usual(trials=20, epochs=30, time_budget_s=None)

SLOT_OPTIONS = {"address", "gpus_per_trial", "cpus_per_trial", "concurrent"}
GIVEN_ANEW = {"resume", "output", "dry_run", "quiet", "verbose", "trials", "time_budget"} | SLOT_OPTIONS
"""Options that may be given with --resume; all others belong to the plan, which a resumed search keeps."""


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    context: typer.Context,
    space: options.SpaceName = "swin",
    settings: options.Settings = None,
    trials: options.Trials = None,
    epochs: options.Epochs = None,
    time_budget: options.TimeBudget = None,
    scheduler: options.SchedulerName = "asha",
    reduction_factor: options.ReductionFactor = 2.0,
    first_rung: options.FirstRung = 1,
    sampler: options.SamplerName = "tpe",
    seed: options.Seed = 0,
    dry_run: options.DryRun = False,
    gpus_per_trial: options.GpusPerTrial = "auto",
    cpus_per_trial: options.CpusPerTrial = None,
    concurrent: options.Concurrent = None,
    address: options.Address = None,
    data: options.DataFolder = None,
    image_size: options.ImageSize = None,
    cache_dir: options.CacheDir = None,
    skip_bad_images: options.SkipBadImages = False,
    pretrained: options.Pretrained = None,
    augment: options.Augment = "full",
    flip: options.Flip = None,
    precision: options.PrecisionName = "auto",
    name: options.Name = None,
    output: options.Output = Path("runs"),
    resume: options.Resume = None,
    keep_weights: options.KeepWeights = 10,
    wandb: options.Wandb = None,
    wandb_project: options.WandbProject = "image-search",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Plan what the options ask for, show it, and run it."""
    asked = SimpleNamespace(**locals())
    hardware = find_hardware()
    gpus = parse_gpus_per_trial(gpus_per_trial)
    plan, source = resumed_plan(asked) if resume is not None else new_plan(asked)
    slots = None
    if address is None and (gpus is not None or not hardware.gpu_bytes):  # else Ray or a measurement tells
        slots = plan_slots(hardware.cpus, len(hardware.gpu_bytes), cpus_per_trial, gpus or 0.0, concurrent)
    if dry_run or not quiet:
        print_overview(Console(), plan, source, hardware, slots)
    return 0 if dry_run else run(plan, source, hardware, slots, asked)


def new_plan(asked: SimpleNamespace) -> tuple[SearchPlan, Source]:
    """The plan that the options ask for, checked as far as can be without torch."""
    source = find_source(asked.data, asked.image_size)
    usual = ON_DIGITS if source.is_digits else ON_OTHER_DATA
    space = choose_space(asked.space, asked.settings or [], asked.pretrained)
    trial = {
        "data": str(source.root),
        "image_size": source.image_size,
        "cache_dir": str(asked.cache_dir.absolute()) if asked.cache_dir else None,
        "skip_bad_images": asked.skip_bad_images,
        "pretrained": pretrained_weights(asked.pretrained),
        "augment": asked.augment,
        "flip": not source.is_digits if asked.flip is None else asked.flip,
        "precision": asked.precision,
        "seed": asked.seed,
    }
    if asked.reduction_factor <= 1:
        raise UsageError(f"--reduction-factor {asked.reduction_factor:g}: must be above 1; 2 lets half of a rung go on")
    plan = SearchPlan(
        space=space,
        trial=trial,
        trials=asked.trials or usual.trials,
        epochs=asked.epochs or usual.epochs,
        time_budget_s=parse_duration(asked.time_budget) if asked.time_budget else usual.time_budget_s,
        scheduler=asked.scheduler,
        reduction_factor=asked.reduction_factor,
        first_rung=asked.first_rung,
        sampler=asked.sampler,
        seed=asked.seed,
        name=check_name(asked.name) if asked.name else default_name(space.name, datetime.now(), asked.output),
        output=asked.output.absolute(),
        keep_weights=asked.keep_weights,
        wandb=choose_wandb_mode(asked.wandb),
        wandb_project=asked.wandb_project,
    )
    if plan.first_rung > plan.epochs:
        raise UsageError(f"--first-rung {plan.first_rung}: is beyond --epochs {plan.epochs}; lower it")
    check_configurations(plan)
    return plan, source


def resumed_plan(asked: SimpleNamespace) -> tuple[SearchPlan, Source]:
    """The plan of the experiment to go on with, with more trials or another time budget where they are given."""
    given = [name for name in asked.context.params if asked.context.get_parameter_source(name).name == "COMMANDLINE"]
    kept = {*given} - GIVEN_ANEW
    changes = sorted("--set" if name == "settings" else f"--{name.replace('_', '-')}" for name in kept)
    if changes:
        raise UsageError(
            f"{', '.join(changes)}: a resumed search keeps its plan; leave this out, or start a new search"
        )
    plan = read_experiment(find_experiment(asked.resume, asked.output))
    changed: dict[str, Any] = {}
    if asked.trials is not None:
        changed["trials"] = asked.trials
        if plan.scheduler != "asha":
            raise UsageError(f"--trials: only --scheduler asha can be given more; this search has {plan.scheduler}")
        if asked.trials < plan.trials:
            raise UsageError(f"--trials {asked.trials}: {plan.name} has {plan.trials}; a resumed search can have more")
    if asked.time_budget is not None:
        changed["time_budget_s"] = parse_duration(asked.time_budget)
    return plan.model_copy(update=changed), find_source(Path(plan.trial["data"]), plan.trial["image_size"])


def choose_space(name_or_path: str, settings: list[str], pretrained: str | None) -> Space:
    """The space by name or path, moved to fine-tuning ranges where weights are pretrained, then narrowed by --set."""
    try:
        space = get_space(name_or_path)
    except SpaceError as error:
        raise UsageError(f"--space {name_or_path}: {error}") from None
    try:
        return narrow(for_pretrained(space) if pretrained else space, settings)
    except SpaceError as error:
        raise UsageError(f"--set: {error}") from None


def pretrained_weights(option: str | None) -> bool | str:
    """`timm` -> True, a file -> its absolute path, nothing -> False."""
    if option is None or option == "timm":
        return option == "timm"
    if not Path(option).is_file():
        raise UsageError(f"--pretrained {option}: no such file; give timm, or a .safetensors or .pth file")
    return str(Path(option).absolute())


def check_configurations(plan: SearchPlan) -> None:
    """Refuse spaces whose ends no training could use, such as a dropout rate above 1."""
    shared = plan.trial | plan.space.fixed | {"epochs": plan.epochs}
    make_config(shared, f"space {plan.space.name}", UsageError)
    for dimension in plan.space.dimensions:
        ends = dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high)
        for value in ends:
            make_config(shared | {dimension.name: value}, f"space {plan.space.name}", UsageError)


def run(plan: SearchPlan, source: Source, hardware: Hardware, slots: Slots | None, asked: SimpleNamespace) -> int:
    """Prepare the data, search, export; returns the exit code."""
    console = Console(quiet=asked.quiet)
    resumed = asked.resume is not None
    if not resumed:
        prepare_output(plan)
    if source.is_digits:
        write_digits(source.root)
    console.print("loading torch, timm and Ray ...", style="dim")
    from tuning.search import gpu_slots, prepare_data, run_search, start_ray  # ten seconds of imports

    facts = prepare_data(plan, progress=not asked.quiet)
    if resumed:
        check_unchanged(plan, facts)
        write_plan(plan)
    else:
        create_experiment(plan, facts | code_facts())
    dashboard = start_ray(asked.address, hardware.cpus, asked.verbose)
    console.print(f"Ray dashboard: {dashboard} (asks for the token in ~/.ray/auth_token)", highlight=False)
    if slots is None:
        slots = gpu_slots(plan, asked.gpus_per_trial, asked.cpus_per_trial, asked.concurrent)
        console.print(f"trials at once: {slots.concurrent} ({slots.reason})", highlight=False)
    outcome = run_search(plan, slots, source.train_images, dashboard, console, resumed)
    resume_command = f"python -m tuning.run --resume {plan.name}{output_option(plan)}"
    if outcome.interrupted:
        print(f"stopped; go on by: {resume_command}")
        return INTERRUPTED
    if not outcome.ended:
        raise UserError(f"no trial ended well, {outcome.failed} failed; see {plan.folder}/*/error.txt")
    code = export(plan)
    print(f"{'resume':8} {resume_command}")
    return code


def export(plan: SearchPlan) -> int:
    """Let `analysis` choose and export the ensemble, in a process of its own: the same command works by hand."""
    return subprocess.run([sys.executable, "-m", "analysis.export", str(plan.folder)], check=False).returncode


def output_option(plan: SearchPlan) -> str:
    """` --output FOLDER`, where it isn't the usual one."""
    return "" if plan.output == Path("runs").absolute() else f" --output {plan.output}"


if __name__ == "__main__":
    run_app(app)
