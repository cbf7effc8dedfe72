"""What tuning.jobs prints."""

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainable import metrics
from trainable.escape import printable
from tuning.jobs_cluster import Job
from tuning.jobs_results import Experiment, Standing
from tuning.plan import clock

WIDE = 200
"""Columns where no terminal says how many there are."""


def print_jobs(jobs: Sequence[Job], address: str) -> None:
    """One row for each job: its name, how it stands, since when and for how long, and where it is kept."""
    if not jobs:
        print(f"no search was submitted to {address}")
        return
    table = Table("name", "status", "started", "time", "storage", box=None, pad_edge=False, header_style="dim")
    for job in jobs:
        started = f"{datetime.fromtimestamp(job.started_s):%Y-%m-%d %H:%M}"
        cells = (job.name, job.says, started, clock(job.seconds), job.storage)
        table.add_row(*(Text(printable(cell), overflow="fold") for cell in cells))
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def print_standing(standing: Standing | None, experiment: Experiment) -> None:
    """How far the search is."""
    if standing is None:
        print("nothing is written there yet")
        return
    print(f"{'trials':8} {standing.trials}, {standing.epochs} epochs together")
    if (best := standing.best) is not None:
        name, epoch = printable(best["trial_name"]), best[metrics.EPOCH]
        print(f"{'best':8} {best[metrics.SCORE]:.1%} by {name} at epoch {epoch:g}")
    if experiment.has_ensemble:
        print(f"{'ensemble':8} is there; bring it home by: python -m tuning.jobs fetch {experiment.name}")


def print_next(name: str, storage: str, address: str | None) -> None:
    """What can be done with a search that was just submitted."""
    option = f" --address {address}" if address else ""
    print(f"{'search':8} {name}, kept in {storage}")
    for word, command in (("follow", f"logs {name} -f"), ("stop", f"stop {name}"), ("fetch", f"fetch {name}")):
        print(f"{word:8} python -m tuning.jobs {command}{option}", flush=True)


def print_fetched(folder: Path, files: int) -> None:
    """What came, and what to do with it."""
    print(f"{'fetched':8} {files} files to {folder}")
    if (report := folder / "report" / "index.html").is_file():
        print(f"{'report':8} {report}")
    if (folder / "ensemble" / "ensemble.json").is_file():
        print(f"{'ensemble':8} {folder / 'ensemble'}")
        print(f"{'predict':8} python -m analysis.predict {folder / 'ensemble'} IMAGES -o predictions.csv")
    else:
        print(f"{'ensemble':8} not there yet: it is made when the search ends; fetch again then")
