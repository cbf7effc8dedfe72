"""Search for the best image classifiers that a budget buys, and export them as one ensemble.

[bold]python -m tuning.run --space swin[/]  searches on the embedded digits, on this machine, in minutes.

[bold]python -m tuning.run --space all --data FOLDER[/]  searches on your images: FOLDER/train/CLASS/*.jpg.

[bold]python -m tuning.run --space swin --dry-run[/]  says what would happen, and roughly for how long.

[bold]python -m tuning.run --resume NAME[/]  goes on with an interrupted search.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import typer
from filelock import FileLock
from rich.console import Console

from trainable.address import storage_errors
from trainable.console import INTERRUPTED, UNDERSCORES_ARE_DASHES, run_app
from trainable.data.digits import write_digits
from trainable.errors import UserError
from trainable.experiment_files import bring_home, is_checkpoint
from trainable.experiment_lock import hold_experiment
from trainable.pace import Pace
from tuning import options
from tuning.budget import expected_budget
from tuning.copies import check_storage, kept_in_storage
from tuning.data import Source
from tuning.disk import check_disk
from tuning.overview import length_text, pace_line, print_overview
from tuning.pace_ahead import PaceAhead
from tuning.plan import Precautions, SearchPlan
from tuning.planning import (
    check_slots,
    cut_to_space,
    images_of,
    length_options,
    new_plan,
    precautions,
    resumed_plan,
)
from tuning.resources import Hardware, Slots, find_hardware, parse_gpus_per_trial, plan_slots
from tuning.storage import code_facts, create_experiment, note_resumption, prepare_output
from tuning.time_plan import (
    REPORT_S,
    Clock,
    Images,
    LengthOptions,
    check_time,
    clock_of,
    slots_in_time,
    usual_pace,
    with_length,
)
from tuning.warm_start import describe_earlier, read_earlier

if TYPE_CHECKING:
    from tuning.search import Outcome

STARTED = time.time()
"""What a time budget counts from."""
ACTOR_S = 5.0
"""From Ray's start of the first trial's process to its first update."""

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    context: typer.Context,
    space: options.SpaceName = "swin",
    settings: options.Settings = None,
    tries: options.Tries = None,
    trials: options.Trials = None,
    epochs: options.Epochs = None,
    step_updates: options.StepUpdates = None,
    epoch_budget: options.EpochBudget = None,
    time_budget: options.TimeBudget = None,
    search: options.SearchName = None,
    scheduler: options.SchedulerName = None,
    sampler: options.SamplerName = "tpe",
    reduction_factor: options.ReductionFactor = 2.0,
    first_rung: options.FirstRung = None,
    warm_start: options.WarmStart = None,
    seed: options.Seed = 0,
    dry_run: options.DryRun = False,
    gpus_per_trial: options.GpusPerTrial = "auto",
    cpus_per_trial: options.CpusPerTrial = None,
    concurrent: options.Concurrent = None,
    max_slots: options.MaxSlots = None,
    cpu_trials: options.CpuTrials = False,
    address: options.Address = None,
    data: options.DataFolder = None,
    image_size: options.ImageSize = None,
    cache_dir: options.CacheDir = None,
    cache_size: options.CacheSize = "50GB",
    select_share: options.SelectShare = None,
    skip_bad_images: options.SkipBadImages = False,
    pretrained: options.Pretrained = None,
    augment: options.Augment = "full",
    flip: options.Flip = None,
    data_on: options.DataPlace = "auto",
    progressive_resize: options.ProgressiveResize = False,
    precision: options.PrecisionName = "auto",
    name: options.Name = None,
    output: options.Output = Path("runs"),
    storage: options.Storage = None,
    resume: options.Resume = None,
    retries: options.Retries = 2,
    stall_timeout: options.StallTimeout = None,
    min_free: options.MinFree = "2GB",
    max_size: options.MaxSize = "5GB",
    keep_weights: options.KeepWeights = 10,
    refit: options.Refit = "auto",
    dashboard: options.Pages = False,
    study: options.Study = None,
    mlflow: options.Mlflow = None,
    wandb: options.Wandb = None,
    wandb_project: options.WandbProject = "image-search",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Plan what the options ask for, show it, and run it."""
    asked = SimpleNamespace(**locals())
    check_slots(asked)
    hardware, care = find_hardware(), precautions(asked)
    gpus = parse_gpus_per_trial(gpus_per_trial)
    plan, source = resumed_plan(asked, hardware) if resume is not None else new_plan(asked, hardware)
    plan, note = cut_to_space(plan)
    slots = None
    if address is None and (gpus is not None or not hardware.gpu_bytes):  # else Ray or a measurement tells
        slots = plan_slots(hardware.cpus, len(hardware.gpu_bytes), cpus_per_trial, gpus or 0.0, concurrent, max_slots)
        if concurrent is None and cpus_per_trial is None:
            slots = fewer_in_time(plan, source, slots)
    disk = check_disk(plan, slots.concurrent if slots else max(1, len(hardware.gpu_bytes)), care)
    if dry_run or not quiet:
        print_overview(Console(), plan, source, hardware, slots, disk, note)
    return 0 if dry_run else run(plan, source, hardware, slots, asked, care)


def run(
    plan: SearchPlan,
    source: Source,
    hardware: Hardware,
    slots: Slots | None,
    asked: SimpleNamespace,
    care: Precautions,
) -> int:
    """Prepare the data, search, export; returns the exit code."""
    console = Console(quiet=asked.quiet)
    if asked.resume is None:
        prepare_output(plan)
        check_storage(plan)
        check_study(plan)
    if source.is_digits:
        write_digits(Path(source.root))
    console.print("loading torch, timm and Ray ...", style="dim")
    if asked.address is None:  # before Ray is imported: its servers then listen on 127.0.0.1 alone
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    from tuning.cluster import check_nodes  # ten seconds of imports, with the next two
    from tuning.ray_watch import open_to_strangers
    from tuning.search import gpu_slots, measure_in_slot, prepare_data, run_search, start_ray

    facts = prepare_data(plan, progress=not asked.quiet) | code_facts()
    lock = open_experiment(plan, facts, asked, console) if asked.resume is not None else None
    ahead = None
    if lock is None and plan.first_in_full and slots is not None and not asked.address and not hardware.gpu_bytes:
        ahead = PaceAhead(plan, slots)
    dashboard = start_ray(asked.address, hardware.cpus, asked.verbose)
    if warning := open_to_strangers(asked.address):
        console.print(warning, style="yellow", highlight=False, soft_wrap=True)
    asks = " (asks for the token in ~/.ray/auth_token)" if dashboard.startswith("http") else ""
    console.print(f"Ray dashboard: {dashboard}{asks}", highlight=False)
    if slots is None:
        wanted = asked.gpus_per_trial, asked.cpus_per_trial, asked.concurrent, asked.max_slots, asked.cpu_trials
        slots = gpu_slots(plan, *wanted, say=lambda text: console.print(text, style="dim", highlight=False))
        console.print(f"trials at once: {slots.concurrent} ({slots.reason})", highlight=False)
        check_nodes(plan, slots, facts["dataset"], console)
    if lock is None:
        if plan.first_in_full:
            pace = ahead.result() if ahead else measure_in_slot(plan, slots)
            plan = at_pace(plan, pace, length_options(asked, source), facts, console)
        lock = open_experiment(plan, facts, asked, console)
    earlier = read_earlier(plan, facts["dataset"])
    if plan.warm_start:
        console.print(f"warm start: {describe_earlier(earlier)}", highlight=False)
    if warning := pace_line(plan, slots):
        console.print(warning, style="yellow", highlight=False, soft_wrap=True)
    console.print(f"after any interruption: {resume_command(plan)}", highlight=False, soft_wrap=True)
    budget = expected_budget(plan, source.train_images or 0, None)
    epochs = budget and budget.epochs
    clock = clock_of(plan, STARTED)
    with kept_in_storage(plan, lambda text: console.print(text, highlight=False, soft_wrap=True)):
        outcome = run_search(
            plan,
            slots,
            epochs,
            dashboard,
            console,
            asked.resume is not None,
            earlier,
            care=care,
            pages=asked.dashboard,
            clock=clock,
        )
        lock.release()
        return finish(plan, outcome, console, clock, asked.refit)


def fewer_in_time(plan: SearchPlan, source: Source, slots: Slots) -> Slots:
    """As many slots as the time budget has long trainings for, with the cores of all; told in their reason."""
    images = images_of(source)
    if images is None or plan.time_budget_s is None or not plan.decides_itself:
        return slots
    count = slots_in_time(plan, images, usual_pace(plan, images, slots.cpus_per_trial), slots.concurrent)
    return slots.shared_by(count, "the time budget holds few trainings")


def at_pace(
    plan: SearchPlan, pace: Pace | None, asked: LengthOptions, facts: dict[str, Any], console: Console
) -> SearchPlan:
    """The plan with the length that the measured pace makes of its time; as it was if that couldn't be measured."""
    if pace is None:
        return plan
    images = Images(facts["images"]["train"], facts["images"]["holdout"], facts["image_size"])
    used_s = time.time() - STARTED + ACTOR_S
    check_time(plan, images, pace, used_s)
    plan = with_length(plan, asked, images, pace, used_s, is_measured=True)
    console.print(f"speed: {1 / pace.train:.0f} images/s; {length_text(plan)}", highlight=False, soft_wrap=True)
    return plan


def open_experiment(plan: SearchPlan, facts: dict[str, Any], asked: SimpleNamespace, console: Console) -> FileLock:
    """Make the experiment's folder, or look at what changed since it ran last; nobody else may search there then."""
    if asked.resume is None:
        create_experiment(plan, facts)
    lock = hold_experiment(plan.folder)
    if asked.resume is not None and (changes := note_resumption(plan, facts)):
        console.print(f"changed since it ran last: {', '.join(changes)}", highlight=False)
    return lock


def check_study(plan: SearchPlan) -> None:
    """UserError where a search that begins can't write to its --study; one that goes on does so without."""
    if plan.study is not None:
        from tuning.study_database import open_database

        open_database(plan.study).engine.dispose()


def finish(plan: SearchPlan, outcome: "Outcome", console: Console, clock: Clock, refit: str) -> int:
    """Export what the search found and write its report, or say why there is nothing; returns the exit code."""
    if outcome.interrupted:
        print(f"stopped; go on by: {resume_command(plan)}")
        return INTERRUPTED
    if outcome.stopped_by:
        what_next = f"mend that, then: {resume_command(plan)}"
        raise UserError(f"three trials in a row failed alike: {outcome.stopped_by}; {what_next}")
    if not outcome.scored:
        raise UserError(f"no trial finished an epoch, {outcome.failed} failed; see {plan.folder}/*/failure.txt")
    if plan.place is not None:
        with storage_errors("--storage", plan.storage):
            bring_home(plan.place, plan.folder, is_checkpoint, console)
    code = analyse("export", plan, "--refit", refit, *clock.option(keep_s=REPORT_S))
    code = analyse("report", plan, *clock.option()) or code
    print(f"{'resume':8} {resume_command(plan)}")
    return code


def analyse(command: str, plan: SearchPlan, *options: str) -> int:
    """Run a command of `analysis` on the experiment in a process of its own, as it is run by hand; its exit code."""
    return subprocess.run(
        [sys.executable, "-m", f"analysis.{command}", str(plan.folder), *options], check=False
    ).returncode


def resume_command(plan: SearchPlan) -> str:
    """What goes on with the search, with the folder of experiments where it isn't the usual one."""
    option = "" if plan.output == Path("runs").absolute() else f" --output {plan.output}"
    option += f" --storage {plan.storage}" if plan.storage else ""
    return f"python -m tuning.run --resume {plan.name}{option}"


if __name__ == "__main__":
    run_app(app)
