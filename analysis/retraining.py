"""Has trials of a search trained again: in slots on Ray where it is installed, else one after the other, here."""

import importlib.util
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from trainable.again import Again, read_trainings
from trainable.errors import UserError
from trainable.escape import printable
from trainable.experiment_lock import hold_experiment

if TYPE_CHECKING:
    from pandas import DataFrame

Refit = Literal["auto", "yes", "no"]
"""Whether members are trained again on train and select: auto, if that fits into the time that is left."""

RAY_S = 10.0
"""What Ray takes to start and to end."""
REASON = "error: "
"""With which a command of ours begins the last line of its stderr where it fails."""


def train_again(folder: Path, trials: Sequence[str], refit: bool) -> list[Path]:
    """Train the trials of these names again, unless that was done before; returns the folders, see `trainable.again`.

    Args:
        folder: Of the experiment.
        trials: Names of their folders.
        refit: On train and select together, for the full length; else as they were, up to their best epoch.

    Raises:
        UsageError: There is no such experiment or trial.
        UserError: One can't be trained again; those that could be are kept.
    """
    trainings = read_trainings(folder, trials, refit)
    todo = [again for again in trainings if again.weights is None]
    if todo:
        (train_on_ray if takes_ray(todo) else train_here)(folder, todo)
    missing = [again.name for again in trainings if again.weights is None]
    if missing:
        raise UserError(f"{folder}: {', '.join(missing)} can't be trained again: it ended without a word")
    return [again.folder for again in trainings]


def refit_seconds(folder: Path, names: Sequence[str], trials: "DataFrame") -> float:
    """What a refit of these trials takes, one after the other, as fast as they were trained in the search.

    Args:
        folder: Of the experiment.
        names: Those of the trials; of one that is refit already nothing is left to do.
        trials: As `load_experiment` gives them.
    """
    paces = dict(zip(trials["trial"], trials["seconds"] / trials["epochs"], strict=True))
    todo = [again for again in read_trainings(folder, names, refit=True) if again.weights is None]
    start = RAY_S if takes_ray(todo) else 0.0
    return start + sum(again.probe_s or paces[again.name] * again.epochs for again in todo)


def takes_ray(todo: Sequence[Again]) -> bool:
    """Whether these are trained in slots: probes take less time here than Ray's start."""
    return has_ray() and any(not again.config.is_probe for again in todo)


def has_ray() -> bool:
    """Whether the search's part of this project and Ray are installed, neither of which is imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("tuning", "ray"))


def train_on_ray(folder: Path, todo: Sequence[Again]) -> None:
    """Let `tuning.again` train all, in a process of its own; UserError with the reason that it gives."""
    command = [sys.executable, "-m", "tuning.again", str(folder), *(again.name for again in todo)]
    command += ["--refit"] if todo[0].refit else []
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace")
    try:
        _, complaints = process.communicate()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.communicate()  # it ends Ray, and keeps what is finished
        raise
    rest, _, last = complaints.rstrip().rpartition("\n")
    if process.returncode == 0:
        return
    print(rest, end="\n" if rest else "", file=sys.stderr)
    raise UserError(last.removeprefix(REASON) or f"tuning.again ended with exit code {process.returncode}")


def train_here(folder: Path, todo: Sequence[Again]) -> None:
    """Train one after the other in this process, with all cores that torch takes; UserError that names what failed."""
    import torch

    from trainable.again import Failure, open_images, outcome_text, raise_failures, train_again
    from trainable.again_progress import AgainProgress
    from trainable.device import choose_device

    device, cores = choose_device(), torch.get_num_threads()
    failures = []
    lock = hold_experiment(folder)
    try:
        open_images(todo[0], progress=True)  # decodes, with a bar of its own
        with AgainProgress(todo, Console()) as progress:
            for again in todo:
                try:
                    for record in train_again(again, device, cores):
                        progress.epoch(again, record)
                    progress.end(again)
                except (OSError, UserError) as error:  # a full disk, say
                    failures.append(Failure(again, str(error)))
                    progress.end(again, str(error))
    finally:
        lock.release()
    for again in todo:
        if again.weights is not None:
            print(printable(outcome_text(again)))
    raise_failures(failures, len(todo))
