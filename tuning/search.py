"""Runs a planned search on Ray Tune, from `ray.init` to the last trial; a resumed one goes on where it was."""

import logging
import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune import Callback, CheckpointConfig
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import ConcurrencyLimiter, SearchAlgorithm, Searcher
from rich.console import Console
from rich.progress import track

from trainable.address import patiently
from trainable.allocator import fast_allocator
from trainable.config import ARCHITECTURES, TrialConfig
from trainable.data.dataset import open_images_of
from trainable.errors import UserError
from trainable.memory import measure_peak_bytes
from trainable.pace import Pace, measure_pace
from trainable.sizes import size_text
from trainable.trial import Trial
from trainable.versions import library_versions
from tuning.cluster import data_opener, plan_cluster, read_nodes
from tuning.executor import Executor
from tuning.failures import FailureLog, is_disk_full, lost_processes_are_failures
from tuning.monitoring import Metrics
from tuning.newcomers import Newcomers
from tuning.past import PastTrial, check_space, mend, read_past, trial_folders
from tuning.plan import Precautions, SearchPlan, architectures_of, largest_configurations
from tuning.progress import Progress
from tuning.ray_engine import EngineGenerator, EngineScheduler
from tuning.ray_watch import RayWatch
from tuning.record_log import RecordLog, TensorBoardLog
from tuning.resources import PIN_SHARE, Rule, Slots, cores_for_at_most, parse_gpus_per_trial
from tuning.scheduler import make_scheduler
from tuning.searcher import ResumingGenerator, make_searcher
from tuning.slots import Places, SlotWatch
from tuning.stalls import StallWatch
from tuning.storage import experiment_id, experiment_images
from tuning.time_plan import Clock, clock_of, first_configuration
from tuning.tracking import trackers
from tuning.warm_start import Earlier
from tuning.watch_pages import watched_study
from tuning.weights import WeightKeeper

TOGETHER = ("hyperband", "pbt")
"""Schedulers that need all trials from the start, to fill HyperBand's brackets or to be the population: the sampler
proposes them before it sees a score."""

MOST_AT_ONCE = 10_000
"""Trials that Ray may prepare at once where nodes may join; the engine gives no more than have a slot."""

RAY_TOKEN = Path.home() / ".ray" / "auth_token"


class Outcome(NamedTuple):
    """How a search ended."""

    scored: int
    """Trials that have finished an epoch and didn't fail."""
    failed: int
    interrupted: bool
    """Whether it was told to stop before its end."""
    stopped_by: str | None = None
    """The reason of the failures that ended it."""


def prepare_data(plan: SearchPlan, progress: bool) -> dict[str, Any]:
    """Decode and split the data set before any trial starts; returns the facts that identify it."""
    config = TrialConfig.model_validate(plan.trial_settings)
    check_architectures(architectures_of(plan.space))
    dataset = open_images_of(config, progress, fresh=True)
    return {
        "dataset": dataset.cache.fingerprint,
        "classes": dataset.num_classes,
        "image_size": dataset.image_size,
        "images": {name: len(rows) for name, rows in dataset.splits._asdict().items()},
        "versions": library_versions() | {name: version(name) for name in ("ray", "optuna")},
    }


def check_architectures(names: list[str]) -> None:
    """UsageError for a name that is neither ours nor timm's; timm takes seconds to import, so it's asked last."""
    others = [name for name in names if name not in ARCHITECTURES]
    if others:
        from trainable.architectures import timm_name

        for name in others:
            timm_name(name)


def start_ray(address: str | None, cpus: int, verbose: bool) -> str:
    """Start Ray on this machine or join a cluster; returns the address of its dashboard."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # keeps Ray 2.60 from warning about it
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new output can't be silenced; ours replaces it
    os.environ.setdefault("RAY_worker_killing_policy_by_group", "true")  # where memory is short, one trial at a time
    if not verbose:
        os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # tracebacks of trials that ran when a search ended
    level = logging.INFO if verbose else logging.ERROR
    shared: dict[str, Any] = {"log_to_driver": verbose, "logging_level": level}
    try:
        if address:
            context = ray.init(address=address, **shared)
        else:
            here = "local"  # without it Ray would join a cluster that runs on this machine
            host = os.environ.get("DASHBOARD_HOST", "127.0.0.1")  # a container publishes it from all its addresses
            with fast_allocator():
                context = ray.init(here, num_cpus=cpus, include_dashboard=True, dashboard_host=host, **shared)
    except ConnectionError:
        raise UserError(f"--address {address}: no Ray cluster answers there; start one by `ray start --head`") from None
    except RuntimeError as error:
        if not (versions := other_versions(str(error))):
            raise
        raise UserError(f"--address {address}: {versions}; install the same versions on both sides") from None
    if not verbose:
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # Progress tells of failures, in a line
    hide_token()
    return f"http://{context.dashboard_url}" if context.dashboard_url else "not running"


def other_versions(error: str) -> str | None:
    """`the cluster has Ray 2.50.0 and Python 3.12.1, this machine ...`, where that is what Ray complains of."""
    found = re.findall(r"(?:Ray|Python): (\S+)", error)
    if "Version mismatch" not in error or len(found) != 4:
        return None
    return "the cluster has Ray {} and Python {}, this machine Ray {} and Python {}".format(*found)


def hide_token() -> None:
    """Ray writes the token that its dashboard asks for where every user of the machine can read it."""
    if RAY_TOKEN.is_file() and os.stat(RAY_TOKEN).st_uid == os.getuid():
        RAY_TOKEN.chmod(0o600)


def gpu_slots(
    plan: SearchPlan,
    gpus_per_trial: str,
    cpus_per_trial: float | None,
    concurrent: int | None,
    max_slots: int | None = None,
    cpu_trials: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Slots:
    """Slots on the nodes that Ray has; `auto` measures what the largest configuration needs of each type of GPU, and
    tells of a measurement that takes long."""
    share, alike = parse_gpus_per_trial(gpus_per_trial), not plan.decides_itself
    rule = Rule(share, cpus_per_trial, concurrent, max_slots, cpu_trials, alike)
    slots = plan_cluster(rule, largest_configurations(plan), measure_peak_bytes, say)
    return slots._replace(concurrent=max_slots) if alike and max_slots else slots  # Ray lets what doesn't fit wait


def run_search(
    plan: SearchPlan,
    slots: Slots,
    expected_epochs: float | None,
    dashboard: str,
    console: Console,
    resumed: bool,
    earlier: Sequence[Earlier] = (),
    trainable: type[tune.Trainable] = Trial,
    care: Precautions = Precautions(),
    pages: bool = False,
    clock: Clock | None = None,
) -> Outcome:
    """Run the plan's trials, or the rest of them; returns when all ended, time ran out, or Ctrl-C stopped it."""
    clock = clock or clock_of(plan)
    experiment, images = experiment_id(plan.folder), experiment_images(plan.folder)
    with full_disk_is_told(plan):
        past = mended(plan, experiment, console) if resumed else []
    progress = Progress(plan, expected_epochs, dashboard, console, clock)
    progress.remember(past)
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # its JSON logger loses epochs, see RecordLog
    executor = None
    if plan.decides_itself:
        with full_disk_is_told(plan):
            executor = Executor(plan, slots.concurrent, past, earlier, care.retries, progress.say, clock.training_ends)
    ended = executor.ended(past) if executor else [trial for trial in past if trial.ended]
    weights = WeightKeeper(plan.folder, care.limits(plan.keep_weights), progress.say, executor, ended, plan.place)
    callbacks: list[Callback] = [RecordLog(plan.folder), TensorBoardLog(), progress, weights]
    callbacks += [StallWatch(plan.folder, care.stall_timeout_s, progress.say), RayWatch(plan.name)]
    callbacks += [
        Metrics(progress, lambda: executor.slots if executor else slots.concurrent),
        *trackers(plan, progress.say),
    ]
    places = None
    if executor is not None and slots.rule is not None:
        places = Places(slots.kinds, executor.occupies)
        newcomers = Newcomers(data_opener(plan), images, progress.say)
        largest = largest_configurations(plan)
        callbacks.append(SlotWatch(slots.rule, places, executor, largest, measure_peak_bytes, newcomers, progress.say))
    if executor is None:
        callbacks.insert(0, FailureLog(plan.folder))  # before `progress` tells of them
    with (
        full_disk_is_told(plan),
        progress,
        clean_stop() as interrupt,
        lost_processes_are_failures(),
        ExitStack() as stack,
    ):
        searcher, scheduler = make_deciders(plan, slots, past, executor, weights.is_held, interrupt.is_set, places)
        stack.enter_context(watched_study(plan, experiment, pages, progress.say))
        tune.run(
            for_search(trainable, images, clock.training_ends),
            name=plan.name,
            storage_path=plan.storage or str(plan.output),
            config=plan.trial_settings,
            num_samples=plan.trials or -1,
            search_alg=searcher,
            scheduler=scheduler,
            resources_per_trial=slot_resources(plan, slots),
            reuse_actors=True,
            checkpoint_config=CheckpointConfig(checkpoint_at_end=True, num_to_keep=2),  # one may turn out broken
            max_failures=care.retries if executor is None else 0,  # ours are tried again as a resumed search would
            time_budget_s=None if plan.decides_itself else clock.training_left(),  # our engine ends what it started
            trial_name_creator=trial_name,
            trial_dirname_creator=trial_name,
            callbacks=callbacks,
            verbose=0,
            log_to_file=True,
            raise_on_failed_trial=False,
        )
        if executor is not None and not interrupt.is_set():
            executor.end_rest()
    now = patiently(partial(read_past, plan.folder, experiment, plan.place))
    failed = sum(trial.failed for trial in now)
    scored = sum(bool(trial.records) and not trial.failed for trial in now)
    return Outcome(scored, failed, interrupt.is_set(), executor.stopped_by if executor else None)


@contextmanager
def full_disk_is_told(plan: SearchPlan) -> Iterator[None]:
    """UserError in place of whatever is raised because a write found no room, in this process or a trial's."""
    try:
        yield
    except Exception as error:
        if not is_disk_full(error):
            raise
        folder = min((plan.folder, Path(tempfile.gettempdir())), key=lambda folder: shutil.disk_usage(folder).free)
        free = size_text(shutil.disk_usage(folder).free)
        raise UserError(
            f"{folder}: the disk is full ({free} are free); what was finished is kept: make room, then go on by "
            f"--resume {plan.name}"
        ) from None


def mended(plan: SearchPlan, experiment: str, console: Console) -> list[PastTrial]:
    """The trials of an interrupted search, after a look into their files."""
    for path in track(trial_folders(plan.folder), "checking checkpoints ...", console=console, transient=True):
        for name in patiently(partial(mend, path, experiment, plan.place)):
            console.print(f"{path.name}/{name} isn't what was written: what was before it counts", highlight=False)
    past = patiently(partial(read_past, plan.folder, experiment, plan.place))
    check_space(past, plan)
    epochs = sum(len(trial.records) for trial in past)
    console.print(f"resumed: {len(past)} trials with {epochs} epochs are known", highlight=False)
    return past


def for_search(trainable: type[tune.Trainable], fingerprint: str, deadline: float) -> type[tune.Trainable]:
    """The Trainable of a search on the images of that fingerprint, with a deadline: its configurations tell neither."""
    return type(trainable.__name__, (trainable,), {"images": fingerprint, "deadline": deadline})


def measure_in_slot(plan: SearchPlan, slots: Slots) -> Pace | None:
    """How fast a slot trains the first configuration; on a GPU with as many others as share it. Not run on a GPU.

    None if it can't be trained, which the trials will then say better.
    """
    resources: dict[str, Any] = {"num_cpus": slots.cpus_per_trial, "num_gpus": slots.gpus_per_trial}
    if slots.kinds and (pin := slots.kinds[0].pin):
        resources["resources"] = {pin: PIN_SHARE}
    measure = ray.remote(max_calls=1, max_retries=0, **resources)(measure_pace)
    try:
        pace = ray.get(measure.remote(first_configuration(plan), max(1, int(slots.cpus_per_trial))))
    except RayError:
        return None
    together = max(1, int(1 / slots.gpus_per_trial)) if slots.gpus_per_trial else 1
    return Pace(pace.train * together, pace.evaluate)


def slot_resources(plan: SearchPlan, slots: Slots) -> dict[str, float]:
    """What Ray reserves for a trial; where nothing else limits the trials at once, so much that no more fit."""
    cpus = cores_for_at_most(read_nodes(), slots) if plan.scheduler in TOGETHER else slots.cpus_per_trial
    return {"cpu": cpus, "gpu": slots.gpus_per_trial}


def make_deciders(
    plan: SearchPlan,
    slots: Slots,
    past: Sequence[PastTrial],
    executor: Executor | None,
    is_held: Callable[[], bool],
    is_stopped: Callable[[], bool],
    places: Places | None,
) -> tuple[SearchAlgorithm, TrialScheduler]:
    """What proposes and what schedules: both ask our engine, or both are Ray's own."""
    together = plan.scheduler in TOGETHER
    # Trials that Ray prepares at once: as many as may run, else the first ones start one by one.
    at_once = slots.concurrent if places is None else MOST_AT_ONCE
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(plan.trials if together else at_once)
    if executor is not None:
        return EngineGenerator(executor, is_held, is_stopped, places), EngineScheduler(executor, places)
    searcher: Searcher = make_searcher(plan, plan.folder, past)
    if not together:
        searcher = ConcurrencyLimiter(searcher, slots.concurrent)
    return ResumingGenerator(searcher, past, plan.folder, is_held, is_stopped), make_scheduler(plan, past)


def trial_name(trial: RayTrial) -> str:
    """`0001-swin_tiny`: Ray's count of proposals, which a resumed search goes on with, and the architecture."""
    number = int(trial.experiment_tag.split("_")[0])
    return f"{number:04}-{trial.config['arch']}"


@contextmanager
def clean_stop() -> Iterator[threading.Event]:
    """Let the first Ctrl-C or SIGTERM set the event and stop the search cleanly; a second one stops it at once.

    Ray stops cleanly at SIGUSR1 too, which leaves SIGINT to us: its own handler doesn't say afterwards that it ran.
    """
    interrupt = threading.Event()

    def stop(*_: object) -> None:
        if interrupt.is_set():
            raise KeyboardInterrupt
        interrupt.set()
        os.kill(os.getpid(), signal.SIGUSR1)

    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
