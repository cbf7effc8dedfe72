"""Train trials of a finished search again, in slots like the search's.

[bold]python -m tuning.again runs/NAME 0007-swin_tiny 0012-resnet18[/]  trains them as they were, up to their best
epoch: their weights are there again. On a CPU they are the same, bit for bit, with as many --cpus-per-trial.

[bold]python -m tuning.again runs/NAME 0007-swin_tiny --refit[/]  trains on train and select, for the full length.

What is finished isn't trained twice, and an interrupted training goes on when the same command runs again.
[bold]python -m analysis.export[/] calls this command for its --retrain and --refit.
"""

import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from trainable.again import (
    Again,
    Failure,
    open_images,
    outcome_text,
    raise_failures,
    read_trainings,
    train_again,
)
from trainable.again_progress import AgainProgress
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.errors import UsageError, UserError
from trainable.escape import printable
from trainable.experiment_lock import hold_experiment
from tuning import options
from tuning.resources import Slots, find_hardware, gpu_fraction, parse_gpus_per_trial, plan_slots
from tuning.storage import EXPERIMENT

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    folder: Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="Folder of the search: runs/NAME.")],
    trials: Annotated[list[str], typer.Argument(metavar="TRIAL...", help="Names of trials: 0007-swin_tiny.")],
    refit: Annotated[bool, typer.Option("--refit", help="On train and select together, for the full length.")] = False,
    gpus_per_trial: options.GpusPerTrial = "auto",
    cpus_per_trial: options.CpusPerTrial = None,
    concurrent: options.Concurrent = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Look at what is asked for, train what isn't there yet, and say what came of it."""
    if not (folder / EXPERIMENT).is_file():
        raise UsageError(f"{folder}: no search is there (no {EXPERIMENT}); give its folder: runs/NAME")
    share = parse_gpus_per_trial(gpus_per_trial)
    console = Console(quiet=quiet)
    lock = hold_experiment(folder)
    trainings = read_trainings(folder, trials, refit)
    todo = [again for again in trainings if again.weights is None]
    failures = train(todo, share, cpus_per_trial, concurrent, console, verbose) if todo else []
    lock.release()
    for again in trainings:
        if again.weights is not None:
            print(printable(outcome_text(again)))
    raise_failures(failures, len(trainings))


def train(
    todo: Sequence[Again],
    gpus_per_trial: float | None,
    cpus_per_trial: float | None,
    concurrent: int | None,
    console: Console,
    verbose: bool,
) -> list[Failure]:
    """Start Ray, and train all in its slots; returns those that failed. Ctrl-C ends it, with what is finished kept."""
    for again in {(again.config.data, again.image_size, again.config.seed): again for again in todo}.values():
        open_images(again, progress=not console.quiet)  # decodes once, before several processes want to
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # Ray's servers then listen on 127.0.0.1 alone
    import ray

    from tuning.search import start_ray

    try:
        start_ray(None, find_hardware().cpus, verbose)
        slots = free_slots(todo, gpus_per_trial, cpus_per_trial, concurrent)
        console.print(f"trainings at once: {slots.concurrent} ({slots.reason})", highlight=False)
        return train_in_slots(todo, slots, console)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this process passes the same one on
        done = sum(again.weights is not None for again in todo)
        print(f"stopped: {done} of {len(todo)} are finished and kept; the same command goes on")
        raise
    finally:
        ray.shutdown()


def free_slots(
    todo: Sequence[Again], gpus_per_trial: float | None, cpus_per_trial: float | None, concurrent: int | None
) -> Slots:
    """Slots on what Ray has, as a search's; the share of a GPU that is None is measured. Not yet run on a GPU."""
    import ray

    from trainable.memory import measure_peak_bytes

    cpus, gpus = (ray.cluster_resources().get(kind, 0.0) for kind in ("CPU", "GPU"))
    if gpus_per_trial is None and gpus:
        measure = ray.remote(num_gpus=1, max_calls=1)(measure_peak_bytes)
        configs = [again.config.model_dump(mode="json") for again in todo]
        gpus_per_trial = gpu_fraction(*ray.get(measure.remote(configs)))
    return plan_slots(cpus, gpus, cpus_per_trial, gpus_per_trial or 0.0, concurrent)


def train_in_slots(todo: Sequence[Again], slots: Slots, console: Console) -> list[Failure]:
    """Train all, as many at once as there are slots; returns those that failed, which the others don't suffer from."""
    import ray
    from ray.exceptions import RayError

    resources: dict[str, Any] = {"num_cpus": slots.cpus_per_trial, "num_gpus": slots.gpus_per_trial}
    task = ray.remote(num_returns="streaming", max_retries=0, **resources)(train_in_slot)
    waiting, failures = deque(todo), []
    running: dict[Any, Again] = {}
    """By Ray's generator of their epochs."""
    with AgainProgress(todo, console) as progress:
        while waiting or running:
            while waiting and len(running) < slots.concurrent:
                again = waiting.popleft()
                running[task.remote(again)] = again
            epochs: Any = ray.wait(list(running), num_returns=1)[0][0]
            again = running[epochs]
            try:
                record: Any = ray.get(next(epochs))
                progress.epoch(again, record)
            except StopIteration:
                progress.end(again)
                del running[epochs]
            except RayError as error:
                failures.append(Failure(again, failure_reason(error)))
                progress.end(again, failures[-1].reason)
                del running[epochs]
    return failures


def train_in_slot(again: Again) -> Iterator[dict[str, Any]]:
    """`train_again` in a process of Ray's, with the cores and the share of a GPU that Ray gave it."""
    import ray
    import torch

    from trainable.device import choose_device

    resources = ray.get_runtime_context().get_assigned_resources()
    cores = max(1, int(resources.get("CPU", 1)))
    torch.set_num_threads(cores)
    device = choose_device("auto" if resources.get("GPU") else "cpu")
    if device.type == "cuda":  # not yet run on a GPU
        torch.cuda.set_per_process_memory_fraction(min(1.0, resources["GPU"]))
    yield from train_again(again, device, cores)


def failure_reason(error: Exception) -> str:
    """Why a training failed, in a line."""
    from ray.exceptions import OutOfMemoryError, WorkerCrashedError

    from tuning.failures import is_disk_full

    cause = getattr(error, "cause", None) or error
    if isinstance(cause, (OutOfMemoryError, WorkerCrashedError)):
        return "its process was killed, perhaps since memory ran out; the same command goes on, with less --concurrent"
    if is_disk_full(cause):
        return "the disk is full; make room, then the same command goes on"
    lines = str(cause).splitlines() or [""]
    return lines[0] if isinstance(cause, UserError) else f"{type(cause).__name__}: {lines[0]}"


if __name__ == "__main__":
    run_app(app)
