"""Each side of `benchmarks.equal_seconds` as a process of its own: how it is started, and what is read from it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from sklearn.metrics import balanced_accuracy_score

from analysis.evidence import SplitEvidence, read_evidence
from analysis.manifest import Manifest, read_manifest
from analysis.pooling import pool
from benchmarks._equal_task import Outcome, Task
from trainable import metrics
from trainable.config import LITE
from trainable.errors import UserError
from tuning.storage import RESULTS, read_lines

FROZEN, STOCK, ONE, OURS = "frozen", "stock", "one", "ours"
ROOT = Path(__file__).parents[1]
EXPERIMENT, LOG = "ours", "log.txt"
ENVIRONMENT = {
    "RAY_worker_niceness": "0",  # Ray's 15 would let any other program starve the trials
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # servers of a local Ray listen on this machine alone
}
PATIENCE, STARTING_S, ENDING_S = 2.0, 900.0, 30.0
"""A side may take so many times its seconds and so many seconds more; what is told to end, so many seconds."""
REASON = 400
"""Most letters of why a side failed."""


class Run(NamedTuple):
    """A finished run."""

    outcome: Outcome
    wall_s: float
    """From the command until there was a model to be scored."""


class Side(NamedTuple):
    """One way of spending the seconds."""

    command: Callable[[Task], list[str]]
    read: Callable[[Task, float], Outcome]
    """What came out, of the task and of when the process ended, as Unix time."""
    code: tuple[str, ...]
    """Files and folders whose sources decide the result."""


def run_side(name: str, task: Task) -> Run:
    """Run a side to its end.

    Raises:
        UserError: It failed, or took far too long; the message says why.
    """
    side = SIDES[name]
    task.file.write_text(task.model_dump_json())
    started = time.time()
    run_process(side.command(task), task.output / LOG, PATIENCE * task.seconds + STARTING_S)
    outcome = side.read(task, time.time())
    return Run(outcome, outcome.ready - started - outcome.uncounted_s)


def run_process(command: Sequence[str], log: Path, patience_s: float) -> None:
    """Wait for a command, in a session of its own so that Ctrl-C reaches it through `end` alone.

    Raises:
        UserError: It ended with an error, whose last line the message has, or took more than `patience_s`.
    """
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, env=os.environ | ENVIRONMENT, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            raise UserError(f"took more than {patience_s:g} s") from None
        finally:
            end(process)
    if process.returncode:
        raise UserError(f"ended with {process.returncode}: {last_line(log)}")


def end(process: subprocess.Popen) -> None:
    """Ask a process that still runs to end, and make it and what it started, if it doesn't."""
    if process.poll() is not None:
        return
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(ENDING_S)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def last_line(log: Path) -> str:
    """The last thing that a process said."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][-REASON:] if lines else "it said nothing"


def code_of(paths: Iterable[str]) -> str:
    """A digest of the Python sources in files and folders below the project's."""
    digest = sha256()
    for path in paths:
        place = ROOT / path
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def commit() -> str:
    """The git commit of the project, with `+` if it was changed since; empty where there is none."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def own_process(module: str) -> Callable[[Task], list[str]]:
    """The command of a side that is a module of the benchmark."""
    return lambda task: [sys.executable, "-m", f"benchmarks.{module}", str(task.file)]


def read_outcome(task: Task, _ended: float) -> Outcome:
    """What such a side has written."""
    return Outcome.read(task.output)


def search_command(task: Task) -> list[str]:
    """Our search, as a user starts it."""
    options = {
        "--space": task.space,
        "--data": task.data,
        "--image-size": task.image_size,
        "--time-budget": f"{task.seconds:g}s",
        "--seed": task.seed,
        "--name": EXPERIMENT,
        "--output": task.output,
        "--pretrained": LITE if task.weights else "none",
        "--gpus-per-trial": 0,
        "--wandb": "off",
    }
    return [sys.executable, "-m", "tuning.run", *(str(part) for option in options.items() for part in option)]


def read_search(task: Task, ended: float) -> Outcome:
    """What our search has left.

    Raises:
        UserError: It exported nothing, or scored other holdout images than those of the task.
    """
    folder = task.output / EXPERIMENT
    manifest, holdout = read_manifest(folder / "ensemble"), read_evidence(folder / "ensemble").holdout
    if sorted(holdout.files) != sorted(task.holdout_files):
        raise UserError("the ensemble was scored on other holdout images than those of the other sides")
    trials = [list(read_lines(file)) for file in sorted(folder.glob(f"*/{RESULTS}"))]
    records = [record for trial in trials for record in trial]
    last = [trial[-1] for trial in trials if trial]
    updates = [record[metrics.UPDATES] for record in last if metrics.UPDATES in record]
    processes = {record.get("pid") for record in records}  # at most as many trials ran at once
    single = manifest.single
    return Outcome(
        top1=manifest.holdout.top1,
        loss=manifest.holdout.loss,
        balanced=balanced_accuracy(manifest, holdout),
        holdout_images=manifest.holdout.images,
        select_top1=manifest.select.top1,
        ready=ended,
        trials=len(last),
        epochs=sum(record[metrics.EPOCH] for record in last if record.get(metrics.UPDATES) != 0),
        updates=sum(updates) if len(updates) == len(last) else None,
        inside_s=sum(metrics.epoch_seconds(record) for record in records),
        slots=min(task.cores, len(processes)),
        about={
            "members": len(manifest.members),
            "single": {"trial": single.trial, "top1": single.holdout.top1, "select_top1": single.select.top1},
            "steps": len(records),
        },
    )


def balanced_accuracy(manifest: Manifest, holdout: SplitEvidence) -> float:
    """Mean recall of the classes."""
    temperatures = [member.temperature for member in manifest.members]
    together = pool(holdout.logits, temperatures, manifest.weights, manifest.temperature)
    return float(balanced_accuracy_score(holdout.labels, together.argmax(1)))


SIDES = {
    FROZEN: Side(own_process("_equal_frozen"), read_outcome, ("benchmarks/_equal_frozen.py",)),
    STOCK: Side(own_process("_equal_stock"), read_outcome, ("benchmarks/_equal_stock.py",)),
    ONE: Side(own_process("_equal_one"), read_outcome, ("benchmarks/_equal_one.py", "search_spaces", "trainable")),
    OURS: Side(search_command, read_search, ("analysis", "search_spaces", "trainable", "tuning")),
}
"""In the order in which they run."""
