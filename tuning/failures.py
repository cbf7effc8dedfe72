"""Trials that break: why, in one line, and what is left of it in their folder."""

import re
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from trainable.files import write_atomically
from tuning.past import FAILURE

LOG_TAIL = 40
"""Lines of a failed trial's stderr and stdout that are kept."""
EXCEPTION = re.compile(r"^[\w.]*(Error|Exception|Interrupt|Exit)\b.*")


def failure_reason(trial: Trial) -> str:
    """The last exception in what Ray noted of a trial's failures."""
    text = Path(trial.error_file).read_text() if trial.error_file else ""
    last = text.rpartition("Failure # ")[2]
    lines = [line.strip() for line in last.splitlines()[1:] if line.strip()]
    exceptions = [line for line in lines if EXCEPTION.match(line)]
    return (exceptions or lines or ["no reason was given"])[-1]


def cause_of(reason: str) -> str:
    """A reason without what differs from trial to trial: numbers, ids and paths."""
    return re.sub(r"\S*/\S*|[\w.+-]*\d[\w.+-]*", "", reason)


def is_memory(reason: str) -> bool:
    """Whether Ray's memory monitor ended the process since the machine's memory ran short."""
    return "OutOfMemoryError" in reason or "running low on memory" in reason


def write_failure(trial: Trial) -> None:
    """Keep in the trial's folder why it failed for good, and how its log ends."""
    parts = [failure_reason(trial)]
    storage: Any = trial.storage
    for name in ("stderr", "stdout"):
        path = Path(storage.trial_working_directory, name)
        if path.is_file():
            tail = path.read_text(errors="replace").splitlines()[-LOG_TAIL:]
            parts += [f"--- the end of {name}", *tail]
    folder = Path(str(trial.path))
    folder.mkdir(exist_ok=True)
    write_atomically(folder / FAILURE, lambda temporary: temporary.write_text("\n".join(parts) + "\n"))


class FailureLog(Callback):
    """Keeps the reasons of failures where Ray itself decides which are final."""

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        """A trial failed for good."""
        write_failure(trial)
