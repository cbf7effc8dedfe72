"""How good a search is: ours, Ray's and Optuna's on recorded learning curves and a virtual clock.

[bold]python -m benchmarks.search_quality --curves FOLDER --methods ours,ray,random --json OUT[/]  replays every search
on every table of the folder and prints the mean normalised regret of the best trial so far: 0 is the best loss in the
table, 1 the median configuration at its best. Lower is better.

[bold]--methods ours:1:2,ours:2:3,ray:1:4[/]  sets the first rung and the reduction factor. Where a name has several
settings, a row has the best of them in hindsight. The first rung of Ray's HyperBand follows from its factor: write 1.
The rungs of syne-dyhpo are a constant distance apart, which takes the place of the factor.

A search gets a budget of full trainings (--budget) and spends it step by step on its slots, which run at the same
time. It may start as many trials as it likes; a trial that pauses or stops frees its slot. Every method tries the same
first configuration, drawn from the seed.

Curves: --curves takes a file, a folder of files, or an experiment of tuning.run (runs/NAME), and may be repeated.
`.npz` files have `hp` (configurations, hyper-parameters), all positive; `hp_names`; `valid_loss` (configurations,
steps), lower is better, NaN where diverged; and perhaps `seconds` (configurations,), the cost of a step. `.parquet`
files come from benchmarks.record_curves. From these and from experiments the loss is 1 - top-1, and the space is their
own, with choices and conditions. Where a trial of an experiment ended early, its last score is taken to have stayed: so
an experiment shows a search's beginning better than its end.
Every method sees the same score, 1 / (1 + regret), which keeps the order of the losses; a diverged step scores 0.

Protocols: `table` takes a proposal for the nearest row that the search hasn't had, on a log scale and with each column
stretched to 0..1. `surrogate` predicts the curve of any proposal by extremely randomised trees fitted to the table.

Methods: ours is the engine of `tuning` with freeze-thaw, ours-asha with promoting successive halving and TPE, and
ours-asha-random with random draws, by default with the rungs of `tuning.run`; optuna-ours is Optuna's successive
halving with the proposals of freeze-thaw. ray is Ray's ASHA with its OptunaSearch, ray-random its ASHA with random
draws; ray-hyperband is Ray's HyperBand with random draws, ray-bohb its HyperBandForBOHB with TuneBOHB; optuna and
optuna-hyperband are TPE with Optuna's successive halving and Hyperband pruners; optuna-gp is its Gaussian process with
successive halving, optuna-gp-full without; syne-asha-stopping, syne-bohb and syne-cqr are Syne Tune's ASHA, BOHB and
ASHACQR; syne-asha-promotion, syne-mobster, syne-hypertune and syne-dyhpo are from its older release; random runs every
trial in full. Peers are unmodified and keep their defaults, except that they know the greatest number of steps. One
that knows no conditions is asked for every hyper-parameter, and what doesn't apply is left out.

Peers' packages: [bold]pip install -c constraints.txt -e '.\\[peers]'[/] for ray-bohb and Syne Tune. The older release
can't share an environment with the newer: [bold]pip install --no-deps --target FOLDER syne-tune==0.14.2 autograd[/],
then run its methods alone with PYTHONPATH=FOLDER and the same --json; the results are shown together afterwards.

--json: one line a search, appended as it ends. A rerun skips what is there, and does ours again where the engine, the
sampler or the policies have changed.

Columns of the table: regret at three shares of the budget, ± half of the 95 % interval over seeds (the tables are
kept); trials started; and the 95th percentile of the milliseconds that the search took to say what a free slot does.
The JSON also has the trials that ran in full (full), and median and 95th percentile of the time to say what a free
slot does (ask_ms) and whether a trial goes on (report_ms).

Hardware: AMD EPYC, 2 cores shared with other work; only the times of the search itself depend on it.

Time: under a second a search of 20 trainings; fitting a surrogate takes 1 to 4 s a table and process.

Result (2026-11-24; 6 TaskSet tables of 1000 x 51, 5 seeds, 4 slots; at 25, 50 and 100 % of the budget, table and then
surrogate): ours 0.27, 0.15, 0.05 and 0.43, 0.37, 0.30; ours-asha 0.40, 0.23, 0.11 and 0.54, 0.44, 0.37; ray 0.52, 0.36,
0.24 and 0.72, 0.69, 0.69; ray:2:2 0.51, 0.27, 0.17 and 0.65, 0.56, 0.45; syne-asha-promotion:2:2 0.38, 0.30, 0.21 and
0.63, 0.51, 0.44; optuna-hyperband 0.60, 0.38, 0.24 and 0.71, 0.59, 0.50; random 0.69, 0.57, 0.43 and 0.79, 0.73, 0.66.
The intervals are ± 0.02 to 0.10. On these tables the first step says next to nothing of the last (rank correlation 0.03
to 0.2; 0.7 to 0.9 after the second). More, also with 16 and 64 slots, in docs/log.md.
"""

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks.compare import report
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.errors import UserError

if TYPE_CHECKING:
    from benchmarks._replay_curves import Table

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


class Cell(NamedTuple):
    """One search, by what its result hangs on."""

    table: str
    digest: str
    """Of the table's file."""
    protocol: str
    slots: int
    method: str
    version: str
    """Of the method."""
    seed: int
    budget: float
    """Full trainings."""


class Budget(NamedTuple):
    """Slot time of a search."""

    full_trainings: float
    """Of mean cost; counts where no seconds are given."""
    seconds: float | None

    def trainings(self, table: "Table") -> float:
        """In full trainings of the table's mean cost."""
        if self.seconds is None:
            return self.full_trainings
        return self.seconds / (table.steps * float(table.seconds.mean()))

    def __str__(self) -> str:
        return f"{self.full_trainings:g} trainings" if self.seconds is None else f"{self.seconds:g} s"


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    curves: Annotated[
        list[Path], typer.Option(metavar="PATH", exists=True, help="A table, or a folder of them. Repeatable.")
    ],
    methods: Annotated[str, typer.Option(metavar="A,B", help="What is compared.")] = "ours,ray,random",
    protocols: Annotated[str, typer.Option(metavar="A,B", help="table, surrogate, or both.")] = "table",
    seeds: Annotated[int, typer.Option(min=1, help="Searches of each method on each table.")] = 5,
    slots: Annotated[str, typer.Option(metavar="N,M", help="Trials at once.")] = "4",
    budget: Annotated[float, typer.Option(min=0.1, help="Slot time of a search, in full trainings.")] = 20.0,
    budget_seconds: Annotated[
        float | None, typer.Option(min=1, metavar="S", help="Slot time in recorded seconds, in place of --budget.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Searches replayed at once, one process each.")] = 1,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Keep results here, and go on from them.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw regret against budget.")] = None,
) -> None:
    """Replay what isn't there yet, then print and draw everything that was asked for."""
    from benchmarks._replay_releases import check_installed
    from benchmarks._replay_tables import find_tables

    files = find_tables(curves)
    limit = Budget(budget, budget_seconds)
    cells = wanted(list(files.values()), split(methods), split(protocols), seeds, whole_numbers(slots), limit)
    known = read(json_file)
    missing = [cell for cell in cells if cell not in known]
    for method in dict.fromkeys(cell.method for cell in missing):
        check_installed(method.split(":")[0])
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(f"{len(missing)} of {len(cells)} searches", total=len(missing))
        for cell, record in replay_all(missing, files, jobs):
            known[cell] = record
            append(json_file, record)
            progress.advance(bar)
    show([known[cell] for cell in cells], f"{len(files)} tables x {seeds} seeds, budget {limit}", plot)


def wanted(
    files: list[Path], methods: list[str], protocols: list[str], seeds: int, slots: list[int], budget: Budget
) -> list[Cell]:
    """Every search that was asked for: seed by seed, so that an interrupted run has all methods.

    Raises:
        UserError: A method or protocol is unknown, or a table can't be read.
    """
    from benchmarks._replay_curves import PROTOCOLS
    from benchmarks._replay_methods import parse_method, version_of
    from benchmarks._replay_tables import load_table

    if unknown := [name for name in protocols if name not in PROTOCOLS]:
        raise UserError(f"unknown protocol {unknown[0]!r}; known: {', '.join(PROTOCOLS)}")
    for method in methods:
        parse_method(method)
    versions = {method: version_of(method) for method in methods}
    tables = [load_table(file) for file in files]
    return [
        Cell(table.name, table.digest, protocol, number, method, versions[method], seed, budget.trainings(table))
        for seed in range(seeds)
        for protocol in protocols
        for number in slots
        for method in methods
        for table in tables
    ]


def replay_all(cells: list[Cell], files: dict[str, Path], jobs: int) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """The result of each search as it ends."""
    if jobs == 1:
        for cell in cells:
            yield cell, replay(cell, files[cell.table])
        return
    with ProcessPoolExecutor(min(jobs, len(cells) or 1), get_context("spawn")) as pool:
        futures = {pool.submit(replay, cell, files[cell.table]): cell for cell in cells}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def replay(cell: Cell, file: Path) -> dict[str, Any]:
    """One search on the virtual clock: a line of the JSON file."""
    import numpy as np
    import optuna

    from benchmarks._replay_clock import Clock
    from benchmarks._replay_curves import PROTOCOLS
    from benchmarks._replay_methods import make_method
    from benchmarks._replay_tables import load_table

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for library in ("ray.tune", "syne_tune"):
        logging.getLogger(library).setLevel(logging.ERROR)
    table = load_table(file)
    slot_time = cell.budget * table.steps
    method = make_method(cell.method, table, cell.seed)
    done = Clock(method, PROTOCOLS[cell.protocol](table), cell.slots).run(slot_time)
    times = {"ask_ms": done.ask_s, "report_ms": done.report_s}
    return {
        **cell._asdict(),
        "trials": done.trials,
        "full": done.full,
        **{name: [round(1000 * ms, 3) for ms in np.quantile(values, [0.5, 0.95])] for name, values in times.items()},
        "regret": [round(regret, 5) for regret in done.regrets(slot_time)],
    }


def show(records: list[dict[str, Any]], title: str, plot: Path | None) -> None:
    """A table for each protocol and number of slots, and the picture if one is wanted."""
    from benchmarks._replay_summary import draw, grouped, table_rows

    groups = grouped(records)
    for protocol, slots in dict.fromkeys((group.protocol, group.slots) for group in groups):
        shown = {group: groups[group] for group in groups if (group.protocol, group.slots) == (protocol, slots)}
        report(f"Mean regret, {protocol}, {slots} slots: {title}", table_rows(shown), {}, None)
    if plot is not None:
        draw(records, plot)


def read(file: Path | None) -> dict[Cell, dict[str, Any]]:
    """The results of earlier runs.

    Raises:
        UserError: The file holds something else.
    """
    if file is None or not file.exists():
        return {}
    try:
        records = [json.loads(line) for line in file.read_text().splitlines()]
        return {Cell(**{name: record[name] for name in Cell._fields}): record for record in records}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} doesn't hold results of this benchmark ({error}); name another --json") from None


def append(file: Path | None, record: dict[str, Any]) -> None:
    """Add a line to the results."""
    if file is not None:
        with file.open("a") as stream:
            stream.write(json.dumps(record) + "\n")


def split(text: str) -> list[str]:
    """`a,b` without blanks and repetitions."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def whole_numbers(text: str) -> list[int]:
    """`4,16`.

    Raises:
        UserError: Something in it is no positive whole number.
    """
    if not all(part.isdecimal() and int(part) for part in split(text)) or not split(text):
        raise UserError(f"--slots {text!r}: write positive whole numbers, such as 4,16")
    return [int(part) for part in split(text)]


if __name__ == "__main__":
    run_app(app)
