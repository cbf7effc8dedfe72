"""Trials that break: why, in one line, and what is left of it in their folder."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune import Callback
from ray.tune.experiment import Trial

from trainable.files import write_text
from tuning.past import FAILURE

LOG_TAIL = 40
"""Lines of a failed trial's stderr and stdout that are kept."""
EXCEPTION = re.compile(r"^[\w.]*(Error|Exception|Interrupt|Exit)\b.*")
OUT_OF_MEMORY = re.compile(r"running low on memory.*? was (.*?) \(", re.DOTALL)
"""In Ray's report on a process that its memory monitor ended; what follows tells how much was used."""
GUESSES = re.compile(r" Some common causes include.*")
"""What Ray says of each process that is gone, whatever ended it."""
NODE_IS_GONE = (
    "node has died",
    "node has crashed",
    "owner has died",
    "actor's node was",  # terminated (un)expectedly, preempted
    "node it was running on is",
    "actor never ran",
)
"""In what Ray says of a machine that left, of which `failure_reason` keeps the last line."""
DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded|Errno (28|122)\b")


def failure_reason(trial: Trial) -> str:
    """The last exception in what Ray noted of a trial's failures."""
    text = Path(trial.error_file).read_text() if trial.error_file else ""
    last = text.rpartition("Failure # ")[2]
    if memory := OUT_OF_MEMORY.search(last):
        return f"OutOfMemoryError: Ray ended its process since the machine was low on memory: {memory[1]}"
    lines = [GUESSES.sub("", line.strip()) for line in last.splitlines()[1:] if line.strip()]
    exceptions = [line for line in lines if EXCEPTION.match(line)]
    return (exceptions or lines or ["no reason was given"])[-1]


def cause_of(reason: str) -> str:
    """A reason without what differs from trial to trial: numbers, ids and paths."""
    return re.sub(r"\S*/\S*|[\w.+-]*\d[\w.+-]*", "", reason)


def is_memory(reason: str) -> bool:
    """Whether Ray's memory monitor ended the process since the machine's memory ran short."""
    return reason.startswith(("OutOfMemoryError", "ray.exceptions.OutOfMemoryError"))


def is_node(reason: str) -> bool:
    """Whether the machine that the trial ran on is gone, which says nothing about the trial."""
    return any(text in reason for text in NODE_IS_GONE)


def is_unreachable(reason: str) -> bool:
    """Whether Ray lost touch with the process: its machine is gone, which isn't known yet, or only it died."""
    return "actor is temporarily unavailable" in reason


def is_disk_full(reason: object) -> bool:
    """Whether a write found no room; also where what says so, an exception, came of another."""
    while isinstance(reason, BaseException):
        if DISK_FULL.search(str(reason)):
            return True
        reason = reason.__cause__ or reason.__context__
    return isinstance(reason, str) and bool(DISK_FULL.search(reason))


def end_if_disk_is_full(reason: str) -> None:
    """OSError for a trial that broke since its disk is full: so would the next ones, and none of them is to blame."""
    if is_disk_full(reason):
        raise OSError(errno.ENOSPC, reason)


@contextmanager
def lost_processes_are_failures() -> Iterator[None]:
    """Let a process that Ray ended for its memory, or that went with its node, be the failure of one trial.

    Ray's actor manager knows processes that died; these two come as errors of their own, and end the whole search.
    """
    original = RayActorManager._actor_task_failed

    def failed(self: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, (RayActorError, RayTaskError)):
            exception = RayActorError(error_msg=str(exception))
        original(self, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = failed  # type: ignore[method-assign]
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = original  # type: ignore[method-assign]


def write_failure(trial: Trial, experiment: Path) -> None:
    """Keep in the trial's folder below `experiment` why it failed for good, and how its log ends."""
    parts = [failure_reason(trial)]
    storage: Any = trial.storage
    for name in ("stderr", "stdout"):
        path = Path(storage.trial_working_directory, name)
        if path.is_file():
            tail = path.read_text(errors="replace").splitlines()[-LOG_TAIL:]
            parts += [f"--- the end of {name}", *tail]
    folder = experiment / str(trial)
    folder.mkdir(exist_ok=True)
    write_text(folder / FAILURE, "\n".join(parts) + "\n")


class FailureLog(Callback):
    """Keeps the reasons of failures where Ray itself decides which are final."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """Of the experiment."""

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        """A trial failed for good."""
        end_if_disk_is_full(failure_reason(trial))
        write_failure(trial, self.folder)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        """Ray tries a trial again."""
        end_if_disk_is_full(failure_reason(trial))
