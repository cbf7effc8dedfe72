"""From what was asked on the command line to a plan: defaults, and every contradiction found before anything starts."""

import math
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

from rich.console import Console

from search_spaces import (
    Choice,
    Space,
    cardinality,
    names,
)
from trainable.address import open_place
from trainable.config import make_config
from trainable.data.splits import SELECT_SHARE
from trainable.durations import parse_duration
from trainable.errors import UsageError
from trainable.pace import Pace
from trainable.sizes import parse_size
from tuning.arithmetic import training_gmacs
from tuning.chosen_space import choose_space, starting_point
from tuning.copies import bring_records_home
from tuning.data import Source, find_source
from tuning.engine import BEST_STARTS
from tuning.first import fine_tuning_starts, first_configurations, probes, wanted_configurations
from tuning.length import FINE_TUNING, FROM_SCRATCH
from tuning.options import given_options
from tuning.plan import (
    NOT_RESUMED,
    OUR_SCHEDULERS,
    Precautions,
    Scheduler,
    SearchPlan,
    architectures_of,
    check_name,
    default_name,
    mutable_dimensions,
)
from tuning.resources import Hardware
from tuning.storage import find_experiment, read_experiment
from tuning.time_plan import DOUBT, START_S, Images, LengthOptions, check_time, usual_pace, with_length, with_reserve
from tuning.tracking import check_mlflow, choose_wandb_mode
from tuning.warm_start import find_earlier


class Usual(NamedTuple):
    """Trials, epochs and time budget of a command that gives none."""

    trials: int
    epochs: int | None
    """None for what the images and the budget suggest."""
    time_budget_s: float | None


ON_DIGITS = Usual(trials=8, epochs=4, time_budget_s=210)
ON_OTHER_DATA = Usual(trials=20, epochs=None, time_budget_s=None)

CHEAP_BELOW_S = 3600
"""Searches with a shorter time budget start with the cheap geometry."""

SLOT_OPTIONS = {"address", "gpus_per_trial", "cpus_per_trial", "concurrent", "max_slots", "cpu_trials"}
WATCHERS = {"dashboard", "study", "mlflow"}
HOW_TO_RUN = {"resume", "output", "dry_run", "quiet", "verbose", "retries", "stall_timeout", "min_free", "max_size"}
GIVEN_ANEW = {"trials", "epoch_budget", "time_budget", "storage"} | HOW_TO_RUN | SLOT_OPTIONS | WATCHERS
"""Options that may be given with --resume; all others belong to the plan, which a resumed search keeps."""
FLAGS = {"settings": "--set", "tries": "--try"}
"""Options that are spelled differently from their parameter."""

READERS = {
    "reduction_factor": ("asha", "asha-stop", "hyperband"),
    "first_rung": ("asha", "asha-stop", "median", "pbt"),
    "epoch_budget": ("asha",),
    "warm_start": ("asha",),
}
"""The schedulers that an option means something to; freeze-thaw reads all of them."""


def new_plan(asked: SimpleNamespace, hardware: Hardware | None) -> tuple[SearchPlan, Source]:
    """The plan that the options ask for, checked as far as can be without torch; None stands for an unknown machine."""
    source = find_source(asked.data, asked.image_size, asked.cache_dir, select_share(asked))
    usual = ON_DIGITS if source.is_digits else ON_OTHER_DATA
    time_budget_s = chosen_time_budget(asked, usual)
    cheap = time_budget_s is not None and time_budget_s < CHEAP_BELOW_S
    space, weights = choose_space(asked, source, hardware, cheap)
    recipe = FINE_TUNING if weights.found else FROM_SCRATCH
    if not 1 < asked.reduction_factor < math.inf:
        raise UsageError(f"--reduction-factor {asked.reduction_factor:g}: must be above 1; 2 lets half of a rung go on")
    scheduler = choose_scheduler(asked)
    trials = wanted_trials(asked, usual, scheduler)
    tunes_ours = bool(weights.found) and asked.space in names()
    first, starts = chosen_first(asked, space, trials, source, tunes_ours, scheduler in OUR_SCHEDULERS)
    plan = SearchPlan(
        space=space,
        trial=shared_settings(asked, source, space) | starting_point(weights, source),
        weights=weights.note,
        trials=trials,
        first=first,
        starts=starts,
        epochs=asked.epochs or usual.epochs or recipe.epochs,
        epoch_budget=asked.epoch_budget,
        time_budget_s=time_budget_s,
        scheduler=scheduler,
        reduction_factor=asked.reduction_factor,
        sampler=asked.sampler,
        warm_start=find_earlier(asked.warm_start or [], asked.output, space),
        seed=asked.seed,
        name=check_name(asked.name) if asked.name else default_name(space.name, datetime.now(), asked.output),
        output=asked.output.absolute(),
        storage=storage_folder(asked),
        keep_weights=asked.keep_weights,
        **watchers(asked),
        wandb=choose_wandb_mode(asked.wandb),
        wandb_project=asked.wandb_project,
    )
    plan = timed_plan(plan, length_options(asked, source), source, hardware)
    check_budgets(plan)
    check_scheduler(plan, given_options(asked.context))
    check_configurations(plan)
    return plan, source


def chosen_time_budget(asked: SimpleNamespace, usual: Usual) -> float | None:
    """In seconds."""
    if asked.time_budget:
        return parse_duration(asked.time_budget)
    return None if asked.epoch_budget else usual.time_budget_s


def select_share(asked: SimpleNamespace) -> float | Literal["auto"]:
    """What `--select-share` says."""
    if asked.select_share is None:
        return "auto"
    if not 0 < asked.select_share < 1:
        raise UsageError(
            f"--select-share {asked.select_share:g}: some images have to decide and some to train; "
            "give a share between 0 and 1, such as 0.1"
        )
    return float(asked.select_share)


def length_options(asked: SimpleNamespace, source: Source) -> LengthOptions:
    """What of the length was asked for; on the digits the usual one, unless a time budget is given."""
    epochs = asked.epochs or (ON_DIGITS.epochs if source.is_digits and not asked.time_budget else None)
    return LengthOptions(epochs, asked.step_updates, asked.first_rung, len(asked.tries or []))


def chosen_first(
    asked: SimpleNamespace,
    space: Space,
    trials: int | None,
    source: Source,
    tunes_ours: bool,
    engine_decides: bool,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What is tried before anything is proposed, and where each architecture's fine-tuning starts.

    If a space of ours is fine-tuned: probes, then the user's configurations; then of the starts those that the engine
    chooses by the probes. Other searches have the published configurations: with a time budget the cheapest first.
    """
    tries, side = asked.tries or [], source.image_size
    if tunes_ours:
        most = None if trials is None else max(1, trials // 2)
        first = probes(space)[:most] + wanted_configurations(space, tries, trials)
        starts = fine_tuning_starts(space)
        return (first, starts) if engine_decides else (first + starts[:BEST_STARTS], [])
    first = first_configurations(space, tries, trials)
    if asked.time_budget is None or side is None:
        return first, []
    ranked = sorted(first[len(tries) :], key=lambda each: training_gmacs(space.fixed | each, side))
    return first[: len(tries)] + ranked, []


def timed_plan(plan: SearchPlan, asked: LengthOptions, source: Source, hardware: Hardware | None) -> SearchPlan:
    """The plan with the length that the usual pace of its slots suggests; UsageError if its time can't suffice."""
    images = images_of(source)
    if images is None or hardware is None or hardware.gpu_bytes:
        return with_length(plan, asked, images, None)
    pace = usual_pace(plan, images, hardware.cpus)
    check_time(plan, images, Pace(pace.train / DOUBT, pace.evaluate / DOUBT), START_S)
    return with_length(plan, asked, images, pace)


def images_of(source: Source) -> Images | None:
    """What a length depends on, as the listing tells; None if that isn't known yet."""
    if source.train_images is None or source.image_size is None:
        return None
    return Images(source.train_images, source.holdout_images or 0, source.image_size)


def shared_settings(asked: SimpleNamespace, source: Source, space: Space) -> dict[str, Any]:
    """What every trial has, as JSON values, but for what the space varies."""
    varied = {dimension.name for dimension in space.dimensions}
    settings = {
        "data": str(source.root),
        "image_size": source.image_size,
        "cache_dir": str(asked.cache_dir.absolute()) if asked.cache_dir else None,
        "cache_bytes": parse_size(asked.cache_size, "--cache-size"),
        "skip_bad_images": asked.skip_bad_images,
        "augment": asked.augment,
        "flip": not source.is_digits if asked.flip is None else asked.flip,
        "data_on": asked.data_on,
        "progressive_resize": asked.progressive_resize,
        "precision": asked.precision,
        "seed": asked.seed,
        "select_share": select_share(asked),
    }
    return {name: value for name, value in settings.items() if name not in varied}


def choose_scheduler(asked: SimpleNamespace) -> Scheduler:
    """Freeze-thaw, unless a sampler or another scheduler is asked for."""
    sampler_given = "sampler" in given_options(asked.context)
    apart = asked.search == "halving" or sampler_given or asked.scheduler not in (None, "freeze-thaw")
    if apart and "freeze-thaw" in (asked.search, asked.scheduler):
        raise UsageError("--search freeze-thaw: proposes and schedules by itself; leave out --sampler and --scheduler")
    return (asked.scheduler or "asha") if apart else "freeze-thaw"


def wanted_trials(asked: SimpleNamespace, usual: Usual, scheduler: Scheduler) -> int | None:
    """The usual number, but as many as the budget buys where only an epoch or time budget is given."""
    budget_given = asked.epoch_budget or asked.time_budget
    if asked.trials is None and budget_given and scheduler in OUR_SCHEDULERS:
        return None
    return asked.trials or usual.trials


def check_budgets(plan: SearchPlan) -> None:
    """Refuse budgets that contradict each other."""
    if plan.first_rung > plan.length:
        raise UsageError(
            f"--first-rung {plan.first_rung}: is beyond --epochs {plan.epochs:g}, which are {plan.length} steps; "
            "lower it"
        )
    if plan.epoch_budget is None:
        return
    if plan.epoch_budget < plan.epochs:
        raise UsageError(
            f"--epoch-budget {plan.epoch_budget}: is less than one training of --epochs {plan.epochs:g}; raise it, "
            "or lower --epochs"
        )
    least = plan.epochs_of((plan.trials or 1) * plan.first_rung)
    if plan.epoch_budget < least:
        raise UsageError(
            f"--epoch-budget {plan.epoch_budget}: --trials {plan.trials} to the first rung ({plan.first_rung}) take "
            f"{least:g} epochs; raise it, or try fewer"
        )


def resumed_plan(asked: SimpleNamespace, hardware: Hardware) -> tuple[SearchPlan, Source]:
    """The plan of the experiment to go on with, with more trials or another time budget where they are given."""
    changes = sorted(
        FLAGS.get(name, f"--{name.replace('_', '-')}") for name in given_options(asked.context) - GIVEN_ANEW
    )
    if changes:
        raise UsageError(
            f"{', '.join(changes)}: a resumed search keeps its plan; leave this out, or start a new search"
        )
    plan = known_plan(asked)
    if plan.scheduler in NOT_RESUMED:
        raise UsageError(
            f"--resume {asked.resume}: Ray can't take up an interrupted --scheduler {plan.scheduler}; "
            "start a new search, with asha if it may be interrupted"
        )
    changed = {name: getattr(asked, name) for name in ("trials", "epoch_budget") if getattr(asked, name) is not None}
    for name, value in changed.items():
        flag, before = f"--{name.replace('_', '-')}", getattr(plan, name)
        if not plan.decides_itself:
            raise UsageError(f"{flag}: --scheduler {plan.scheduler} can't be given more; start a new search")
        if before is not None and value < before:
            raise UsageError(f"{flag} {value}: {plan.name} has {before}; a resumed search can have more")
    changed |= watchers(asked)
    if asked.time_budget is not None:
        changed["time_budget_s"] = parse_duration(asked.time_budget)
    cache_dir = plan.trial["cache_dir"] and Path(plan.trial["cache_dir"])
    share = plan.trial.get("select_share", SELECT_SHARE)
    source = find_source(plan.trial["data"], plan.trial["image_size"], cache_dir, share)
    return with_reserve(plan.model_copy(update=changed), images_of(source), hardware.cpus), source


def known_plan(asked: SimpleNamespace) -> SearchPlan:
    """The plan of the experiment in `--output`, whose records are brought from its storage where that is further."""
    if asked.storage is not None:
        place = open_place(asked.storage, "--storage") / asked.resume
        bring_records_home(place, asked.output.absolute() / asked.resume, Console(quiet=asked.quiet))
    plan = read_experiment(find_experiment(asked.resume, asked.output))
    if asked.storage is not None:
        return plan.model_copy(update={"storage": storage_folder(asked)})
    if plan.place is not None:
        bring_records_home(plan.place, plan.folder, Console(quiet=asked.quiet))
    return read_experiment(plan.folder)


def storage_folder(asked: SimpleNamespace) -> str | None:
    """`--storage` as it is kept: an address, or an absolute path; None where it is `--output`."""
    if asked.storage is None:
        return None
    place = open_place(asked.storage, "--storage")
    return None if place == asked.output.absolute() else str(place)


def check_slots(asked: SimpleNamespace) -> None:
    """Refuse two numbers of trials at once."""
    if asked.concurrent and asked.max_slots:
        raise UsageError(
            f"--max-slots {asked.max_slots}: --concurrent {asked.concurrent} says already how many trials run at once; "
            "leave one out"
        )


def watchers(asked: SimpleNamespace) -> dict[str, Any]:
    """Where else the study and the metrics are to be seen, of the options that are given; all that needs is there."""
    if asked.dashboard:
        from tuning.watch_pages import check_pages

        check_pages()
    given: dict[str, Any] = {}
    if asked.study is not None:
        from tuning.study_database import check_study_address

        given["study"] = check_study_address(asked.study)
    if asked.mlflow is not None:
        given["mlflow"] = check_mlflow(asked.mlflow)
    return given


def precautions(asked: SimpleNamespace) -> Precautions:
    """How the search guards itself."""
    stall = asked.stall_timeout
    return Precautions(
        retries=asked.retries,
        stall_timeout_s=parse_duration(stall, "--stall-timeout") if stall else None,
        free_bytes=parse_size(asked.min_free, "--min-free"),
        most_bytes=parse_size(asked.max_size, "--max-size"),
    )


def cut_to_space(plan: SearchPlan) -> tuple[SearchPlan, str | None]:
    """The plan with no more trials than its space has configurations, and a note where that changed it."""
    size = cardinality(plan.space)
    if size is None or (plan.trials is not None and size >= plan.trials):
        return plan, None
    only = "only 1 configuration" if size == 1 else f"only {size} configurations"
    return plan.model_copy(update={"trials": size}), f"the space has {only}; the search ends when they are tried"


def check_scheduler(plan: SearchPlan, given: set[str]) -> None:
    """Refuse what the plan's scheduler would ignore, and what it can't do."""
    if plan.scheduler == "freeze-thaw":
        return
    for name, schedulers in READERS.items():
        if name in given and plan.scheduler not in schedulers:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{flag}: --scheduler {plan.scheduler} doesn't use it, only {', '.join(schedulers)}; leave it out"
            )
    if plan.scheduler != "pbt":
        return
    if len(architectures_of(plan.space)) > 1:
        raise UsageError(
            "--scheduler pbt: copies weights between trials, so it needs one architecture; add --set arch=NAME"
        )
    if not mutable_dimensions(plan.space):
        raise UsageError(
            "--scheduler pbt: nothing in the space can change during a training, such as lr; take another scheduler"
        )
    if plan.storage:
        raise UsageError("--scheduler pbt: links checkpoints within one folder; leave --storage out")
    if (plan.trials or 0) < 2 or plan.length < 2:
        raise UsageError("--scheduler pbt: copies between trials after an epoch, so it needs 2 --trials and 2 --epochs")


def check_configurations(plan: SearchPlan) -> None:
    """Refuse spaces whose ends no training could use, such as a dropout rate above 1."""
    shared = plan.trial_settings
    make_config(shared, f"space {plan.space.name}", UsageError)
    for dimension in plan.space.dimensions:
        ends = dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high)
        for value in ends:
            make_config(shared | {dimension.name: value}, f"space {plan.space.name}", UsageError)
