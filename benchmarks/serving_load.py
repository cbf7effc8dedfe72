"""What batching brings to the server under load: throughput with it over throughput without, and how long answers take.

[bold]python -m benchmarks.serving_load runs/NAME/ensemble[/]  starts two servers of the ensemble, one that batches
images of different requests and one with --max-batch 1, and loads them in turn, round after round, with 32 clients that
each send one image, wait for its answer, and send the next.

Clients, proxy and models share the machine: on few cores and with small models the figures are mostly those of HTTP.

Columns: images a second, median over the rounds with extremes; the median and 95th percentile of the milliseconds from
a request to its answer; images a batch, as the server counts them. The ratio is the median of the rounds' own ratios.

Result (2026-11-27, 2 cores of an Intel Xeon at a load average of 24, swin_tiny and resnet34 at 32 px, 4 rounds of 4 s):
22.2 (14.8 .. 26.3) against 8.87 (8.21 .. 9.35) images/s, ratio 2.54 (1.65 .. 3), p95 2151 against 3936 ms, 13.9 images
a batch. Before images waited in front of Ray's queue while a batch computes: 2.0 images a batch and a ratio of 1.56.
"""

import asyncio
import io
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple

import httpx
import numpy as np
import typer
from PIL import Image

from analysis.manifest import read_manifest
from benchmarks.compare import JsonFile, Quick, measure_in_turn, ratio_of_pairs, report, spread
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.errors import UserError

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

TIMEOUT_S = 120
WARM_UP_S = 1.0


class Load(NamedTuple):
    """How a server is asked."""

    clients: int
    seconds: float
    body: bytes
    """An image file."""


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    ensemble: Annotated[Path, typer.Argument(metavar="ENSEMBLE", help="Folder that analysis.export wrote.")],
    clients: Annotated[int, typer.Option(min=1, max=256, help="That ask at a time.")] = 32,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of one measurement.")] = 4.0,
    rounds: Annotated[int, typer.Option(min=1, help="Measurements of each server.")] = 5,
    max_batch: Annotated[int, typer.Option(min=2, help="Of the server that batches.")] = 32,
    batch_wait_ms: Annotated[float, typer.Option(min=0, help="Of the server that batches.")] = 5.0,
    quick: Quick = False,
    json_file: JsonFile = None,
) -> None:
    """Measure both servers and print a row for each."""
    if quick:
        clients, seconds, rounds = 4, 0.5, 1
    size = max(member.image_size for member in read_manifest(ensemble).members)
    load = Load(clients, seconds, noise(size))
    with server(ensemble, max_batch, batch_wait_ms, clients) as batching, server(ensemble, 1, 0, clients) as single:
        urls = {f"batches of at most {max_batch}": batching, "without batching": single}
        took: dict[str, list[float]] = {name: [] for name in urls}
        for url in urls.values():
            throughput(url, load._replace(seconds=min(seconds, WARM_UP_S)), [])
        before = {name: batch_counts(url) for name, url in urls.items()}
        sides = {name: (lambda url=url, name=name: throughput(url, load, took[name])) for name, url in urls.items()}
        rates = measure_in_turn(sides, rounds, "load")
        sizes = {name: mean_batch(batch_counts(url), before[name]) for name, url in urls.items()}
    rows = [row_of(name, rates[name], took[name], sizes[name]) for name in urls]
    ratio = ratio_of_pairs(*rates.values())
    title = f"{clients} clients, {rounds} rounds of {seconds:g} s; with batching / without: {ratio}"
    report(title, rows, {"ratio": ratio._asdict(), "rows": rows}, json_file)


@contextmanager
def server(ensemble: Path, max_batch: int, batch_wait_ms: float, clients: int) -> Iterator[str]:
    """The URL of a server of its own, which ends with the block."""
    command = [sys.executable, "-m", "analysis.serve", str(ensemble), "--port", "0", "--rate", "none",
               "--max-batch", str(max_batch), "--batch-wait-ms", str(batch_wait_ms),
               "--max-concurrent", str(2 * clients)]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        found = re.search(r"http://\S+", process.stdout.readline() if process.stdout else "")
        if found is None:
            raise UserError(f"{ensemble}: the server didn't start; try it: python -m analysis.serve {ensemble}")
        yield found[0]
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT_S)


def noise(size: int) -> bytes:
    """A square PNG of this side in pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def throughput(url: str, load: Load, took: list[float]) -> float:
    """Images a second that all clients together get answers for; the seconds of each request are added to `took`."""
    return asyncio.run(ask_all(url, load, took))


async def ask_all(url: str, load: Load, took: list[float]) -> float:
    """Ask until the time is over, and wait for the answers that are still due."""
    limits = httpx.Limits(max_connections=load.clients, max_keepalive_connections=load.clients)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=TIMEOUT_S) as session:
        begun = time.perf_counter()

        async def ask() -> int:
            asked = 0
            while (sent := time.perf_counter()) < begun + load.seconds:
                (await session.post("/predict", content=load.body)).raise_for_status()
                took.append(time.perf_counter() - sent)
                asked += 1
            return asked

        answers = await asyncio.gather(*(ask() for _ in range(load.clients)))
        return sum(answers) / (time.perf_counter() - begun)


def batch_counts(url: str) -> tuple[float, float]:
    """Images that went through the models so far, and in how many batches."""
    text = httpx.get(f"{url}/metrics", timeout=TIMEOUT_S).text
    found = dict(re.findall(r"^ensemble_batch_size_(sum|count) (\S+)$", text, re.MULTILINE))
    return float(found["sum"]), float(found["count"])


def mean_batch(after: tuple[float, float], before: tuple[float, float]) -> float:
    """Images a batch between two looks."""
    return (after[0] - before[0]) / (after[1] - before[1])


def row_of(name: str, rates: list[float], took: list[float], batch: float) -> dict[str, str]:
    """For the table."""
    median, p95 = 1000 * np.quantile(took, [0.5, 0.95])
    return {
        "server": name,
        "images/s": str(spread(rates)),
        "median ms": f"{median:.0f}",
        "p95 ms": f"{p95:.0f}",
        "images a batch": f"{batch:.1f}",
    }


if __name__ == "__main__":
    run_app(app)
