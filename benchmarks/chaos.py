"""Breaks searches for a while, resumes them, and looks for what was lost.

[bold]python -m benchmarks.chaos --minutes 5[/]  runs real searches on a Ray cluster of two nodes, with short
epochs, and injects one fault after the other: the driver killed at a random moment, or in the middle of writing a
file; told to stop; the newest file of a kind cut short after a kill, as a power cut leaves it; the process of a trial
killed, or told to leave; the second node killed. Each search is resumed until it has ended, and then looked through.

[bold]--faults 200 --seed 7[/]  ends after so many faults, with other choices.

Prints the faults of each kind, the epochs that were finished and those that were trained more than once, the most of
the latter for one fault, trials lost and files broken. Exits with 1 where something was lost or broken.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks._chaos_checks import broken, epochs_begun, read_begun, wrong
from benchmarks._chaos_search import NAME, OUTCOME, SETTINGS, drive
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.errors import UserError

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

SLOTS = 2
TRIALS = 12
MOST_WRITES = 80
"""A driver that is to die in a write dies in one of so many: a search of `TRIALS` trials makes some 300."""
PATIENCE_S = 90
"""A driver that does nothing for so long hangs."""
FORKS = get_context("forkserver")
"""Drivers are forked from a process that has imported Ray and the search: that takes longer than what they do."""
FORKS.set_forkserver_preload([drive.__module__, "sklearn.gaussian_process", "optuna.study"])

LOG = "driver.txt"
CUT = ("params.json", "result.json", "trial.json", "state.pt", "decisions.jsonl", "study.journal")
"""Kinds of files of which a power cut may leave the newest short."""

IN_A_WRITE = "driver killed in a write"
DRIVER_FAULTS = {
    "driver killed": signal.SIGKILL,
    IN_A_WRITE: None,
    "driver interrupted": signal.SIGINT,
    "driver terminated": signal.SIGTERM,
}
LEAVE, NODE = "trial's process told to leave", "node killed"
TRIAL_FAULTS = ("trial's process killed", LEAVE, NODE)


@dataclass
class Tally:
    """What was done, and what was found."""

    faults: Counter[str] = field(default_factory=Counter)
    searches: int = 0
    epochs: int = 0
    """Different ones that were begun."""
    repeated: int = 0
    """Begun again."""
    broken: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="End after so long, and the search that runs then.")] = 5.0,
    faults: Annotated[int | None, typer.Option(min=1, help="End after so many faults. [no limit]")] = None,
    seed: Annotated[int, typer.Option(help="Of the choice of faults and their moments.")] = 0,
) -> int:
    """Break and resume searches, and print what came of it."""
    os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker"  # it counts what killed drivers couldn't clean up
    rng, tally = random.Random(seed), Tally()
    until = time.monotonic() + 60 * minutes
    with cluster() as nodes:
        while time.monotonic() < until and (faults is None or tally.faults.total() < faults):
            with tempfile.TemporaryDirectory() as folder:
                break_search(Path(folder), rng, nodes, tally)
            print(f"search {tally.searches}: {tally.faults.total()} faults so far", file=sys.stderr, flush=True)
    show(tally)
    return 1 if tally.broken or tally.wrong else 0


@contextmanager
def cluster() -> Iterator[Any]:
    """A Ray cluster of two nodes with one core each; the second may be killed."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "dashboard_port": 0}
    )
    nodes.add_node(num_cpus=1)
    try:
        yield nodes
    finally:
        nodes.shutdown()


def begin(folder: Path, seed: int) -> None:
    """Write down what is to be searched in `folder`."""
    settings = {"epoch_ms": [100, 200], "trials": TRIALS, "epochs": 8, "seed": seed}
    (folder / SETTINGS).write_text(json.dumps(settings))


def break_search(folder: Path, rng: random.Random, nodes: Any, tally: Tally, most: int = 20) -> None:
    """One search, broken up to `most` times and resumed until it has ended."""
    begin(folder, seed=rng.randrange(1000))
    faults: Counter[str] = Counter()
    while not has_ended(folder):
        is_last = faults.total() >= most
        if faults and not is_last and rng.random() < 1 / len(DRIVER_FAULTS) and cut_short(folder, rng):
            faults["file cut short"] += 1
        faults += run_driver(folder, rng, nodes, is_last)
        tally.broken += broken(folder)
    begun = epochs_begun(folder)
    repeated = begun.total() - len(begun)
    if repeated > SLOTS * faults.total():
        tally.wrong.append(f"{repeated} epochs trained again after {faults.total()} faults")
    tally.faults += faults
    tally.searches += 1
    tally.epochs += len(begun)
    tally.repeated += repeated
    tally.wrong += wrong(folder, TRIALS)


def has_ended(folder: Path) -> bool:
    """Whether a driver came to the end of the search, and wasn't told to stop before."""
    path = folder / OUTCOME
    return path.exists() and not json.loads(path.read_text())["interrupted"]


def run_driver(folder: Path, rng: random.Random, nodes: Any, is_last: bool) -> Counter[str]:
    """Start or resume the search, and break what runs until its driver has ended; returns the faults."""
    kind = "none" if is_last else rng.choice(list(DRIVER_FAULTS))
    write = rng.randrange(1, MOST_WRITES) if kind == IN_A_WRITE else 0
    faults: Counter[str] = Counter()
    driver = FORKS.Process(target=drive, args=(folder, nodes.address, SLOTS, write, folder / LOG))
    driver.start()
    try:
        for _ in range(0 if is_last else rng.randrange(3)):
            if wait_for_epoch(folder, driver):
                time.sleep(rng.uniform(0, 0.3))
                faults.update(break_trial(folder, rng, nodes))
        number = DRIVER_FAULTS.get(kind)
        if number and wait_for_epoch(folder, driver):
            time.sleep(rng.uniform(0, 1))
            faults[kind] += signalled(driver.pid, number)
        driver.join(PATIENCE_S)
    finally:
        driver.kill()
        driver.join()
    if driver.exitcode == -signal.SIGKILL and kind == IN_A_WRITE:
        faults[kind] += 1
    elif driver.exitcode not in (0, -signal.SIGKILL):
        raise UserError(f"the driver ended with {driver.exitcode}: {(folder / LOG).read_text()[-3000:]}")
    return faults


def wait_for_epoch(folder: Path, driver: BaseProcess) -> bool:
    """Wait until another epoch has begun; returns whether the driver still runs then."""
    known, patience = len(read_begun(folder)), time.monotonic() + PATIENCE_S
    while driver.is_alive() and len(read_begun(folder)) <= known:
        if time.monotonic() > patience:
            raise UserError(f"no epoch has begun for {PATIENCE_S} s: {(folder / LOG).read_text()[-3000:]}")
        time.sleep(0.02)
    return driver.is_alive()


def break_trial(folder: Path, rng: random.Random, nodes: Any) -> list[str]:
    """Kill the process of a trial, or the second node; returns what was done."""
    kind = rng.choices(TRIAL_FAULTS, (4, 2, 1))[0]
    if kind == NODE:
        nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
        nodes.add_node(num_cpus=1)
        return [kind]
    number = signal.SIGTERM if kind == LEAVE else signal.SIGKILL
    return [kind] if signalled(read_begun(folder)[-1].process, number) else []


def signalled(process: int | None, number: int) -> bool:
    """Send a signal; returns whether there was still such a process."""
    try:
        os.kill(process or 0, number)
    except ProcessLookupError:
        return False
    return bool(process)


def cut_short(folder: Path, rng: random.Random) -> bool:
    """Take the end off the newest file of a kind, as a power cut might; returns whether there was one."""
    files = list((folder / NAME).rglob(rng.choice(CUT)))
    if not files:
        return False
    newest = max(files, key=lambda path: path.stat().st_mtime_ns)
    os.truncate(newest, int(newest.stat().st_size * rng.random()))
    return True


def show(tally: Tally) -> None:
    """Print the tally."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("fault")
    table.add_column("injected", justify="right")
    for kind, count in [*tally.faults.most_common(), ("all", tally.faults.total())]:
        table.add_row(kind, str(count))
    Console().print(table)
    lost = [text for text in tally.wrong if "gone" in text or "instead of" in text]
    print(f"{tally.searches} searches, {tally.epochs} epochs finished, {tally.repeated} of them trained again")
    others = len(tally.wrong) - len(lost)
    print(f"trials lost {len(lost)}, files broken {len(tally.broken)}, other disagreements {others}")
    for text in tally.broken + tally.wrong:
        print(f"  {text}")


if __name__ == "__main__":
    run_app(app)
