"""What all benchmarks share: interleaved measurement, the ratio of pairs with its spread, and the output.

Both sides of a comparison are measured in turn, round after round, in one run of the program, so that other load on
the machine meets both. A ratio is the median of the rounds' own ratios, which is why there is no figure without rounds.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures to FILE.")]
Quick = Annotated[bool, typer.Option("--quick", help="Only show that it runs: the figures mean nothing.")]


class Spread(NamedTuple):
    """A figure measured several times: its median, lowest and highest value."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} .. {self.high:.3g})"


def spread(values: Iterable[float]) -> Spread:
    """Median and extremes of at least one value."""
    values = list(values)
    return Spread(median(values), min(values), max(values))


def ratio_of_pairs(numerators: list[float], denominators: list[float]) -> Spread:
    """The ratios of values that were measured in the same round."""
    return spread(above / below for above, below in zip(numerators, denominators, strict=True))


def measure_in_turn(sides: Mapping[str, Callable[[], float]], rounds: int, title: str) -> dict[str, list[float]]:
    """What each side's function returned in each round; the side that begins changes from round to round."""
    values: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for number in in_progress(range(rounds), title):
        for name in names if number % 2 == 0 else reversed(names):
            values[name].append(sides[name]())
    return values


def in_progress(steps: Iterable[Any], title: str) -> Iterator[Any]:
    """The steps behind a progress bar on stderr, so that stdout holds nothing but the result."""
    yield from track(steps, description=title, console=Console(stderr=True), transient=True)


def images_per_second(run_once: Callable[[], int], at_least_s: float) -> float:
    """Throughput of `run_once`, which returns how many images it went through, repeated for `at_least_s` seconds."""
    images, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < at_least_s or not images:
        images += run_once()
    return images / elapsed


def hardware() -> str:
    """The processor, how many cores this process may use, and how busy the machine was over the last minute."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{model}, {len(os.sched_getaffinity(0))} cores, load average {os.getloadavg()[0]:.1f}"


def report(title: str, rows: list[dict[str, str]], figures: dict[str, Any], json_file: Path | None) -> None:
    """Print `rows`, which share their keys, as a table, and write `figures` to `json_file`."""
    table = Table(title=title, caption=hardware())
    for column in rows[0]:
        table.add_column(column, justify="left" if column == next(iter(rows[0])) else "right")
    for row in rows:
        table.add_row(*row.values())
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps({"hardware": hardware(), **figures}, indent=1) + "\n")
