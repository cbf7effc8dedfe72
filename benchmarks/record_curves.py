"""Learning curves of our own search space, recorded once, on which benchmarks.search_quality replays searches.

[bold]python -m benchmarks.record_curves[/]  trains 64 configurations of the space `all` for 8
epochs each on the embedded digits, and writes what every epoch scored and took to curves.parquet.

[bold]python -m benchmarks.record_curves --configurations 200[/]  goes on where that one ended, or where Ctrl-C met it:
configurations that are in the file are kept. All other options must be as they were.

[bold]python -m benchmarks.record_curves --train-images 128 --select-images 120 --set batch_size=8,16,32,64 --output
benchmarks/curves/digits-all.parquet[/]  recorded the file that is there.

Every configuration is drawn at random from the space and trained as by trainable.train, on the CPU. The architectures
take turns until each has 6 configurations; the rest go more often to the fast ones. Training and held-out images are
stratified parts of the published train and val.

The file: a row an epoch, with the configuration's number, its hyper-parameters (null where one doesn't apply), epoch,
select_top1, select_loss, train_loss, diverged (as in trainable/metrics.py, `select` being the held-out images; the
last row where true), seconds (of training and scoring, by the clock of the processor and divided by the threads, so
that other load on the machine counts little), and wall_seconds. The schema's metadata has under `curves` a JSON with
the space, images, seed, threads, arithmetic, versions and the processor.

Time: about a minute of a core a configuration (swin_tiny 20 s, resnet152 three minutes), with 128 training images.
"""

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.compare import hardware
from search_spaces import Space, SpaceError, get_space, narrow, sample
from trainable import metrics
from trainable.config import make_config
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.data.default import DIGITS
from trainable.data.digits import IMAGE_SIZE, write_digits
from trainable.errors import UsageError, UserError
from tuning.arithmetic import usual_images_per_second
from tuning.plan import architectures_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from trainable.data.dataset import Dataset

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

COLUMNS = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(elapsed_when_finished=True))
REFERENCE_SIDE = 32
TURNS = 6
"""Configurations that every architecture has before the fast ones get more."""


class Setup(NamedTuple):
    """What all configurations of a recording share."""

    space: Space
    epochs: int
    train_images: int
    select_images: int
    seed: int
    threads: int


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    space: Annotated[str, typer.Option(help="A built-in space, or a .toml or .py file.")] = "all",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUES", help="Narrow or fix a dimension, as in tuning.run. Repeatable."),
    ] = None,
    configurations: Annotated[int, typer.Option(min=1, help="Configurations in the end.")] = 64,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each.")] = 8,
    train_images: Annotated[int, typer.Option(min=1, help="Images that gradients see.")] = 256,
    select_images: Annotated[int, typer.Option(min=1, help="Held-out images that score.")] = 256,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Fixes draws, images and training.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU cores to use.")] = 1,
    output: Annotated[
        Path, typer.Option(metavar="FILE", help="A .parquet file, to be written or gone on with.")
    ] = Path("curves.parquet"),
) -> None:
    """Train what the file lacks, and write it after each configuration."""
    if output.suffix != ".parquet":
        raise UsageError(f"--output {output}: give a file that ends in .parquet")
    try:
        narrowed = narrow(get_space(space), settings or [])
    except SpaceError as error:
        raise UsageError(str(error)) from None
    setup = Setup(narrowed, epochs, train_images, select_images, seed, threads)
    try:
        record(setup, configurations, output)
    except KeyboardInterrupt:
        print(f"what is done is in {output}; the same command goes on")
        raise


def record(setup: Setup, count: int, output: Path) -> None:
    """Train those of the first `count` configurations that aren't in `output`."""
    import torch

    from benchmarks._curve_files import CONFIGURATION, Recording, write_curves
    from trainable.data.dataset import open_dataset

    torch.set_num_threads(setup.threads)
    recording = Recording(setup.space, facts_of(setup), [])
    if output.exists():
        recording = recording._replace(rows=known_rows(output, recording.facts))
    known = {row[CONFIGURATION] for row in recording.rows}
    missing = {number: each for number, each in enumerate(draw(setup, count)) if number not in known}
    dataset = open_dataset(write_digits(DIGITS.absolute()), IMAGE_SIZE, setup.seed, progress=False)
    output.parent.mkdir(parents=True, exist_ok=True)
    with Progress(*COLUMNS, console=Console(stderr=True), speed_estimate_period=3600) as progress:
        bar = progress.add_task("", total=setup.epochs * sum(map(effort, missing.values())))
        for number, configuration in missing.items():
            progress.update(bar, description=f"{number + 1} of {count}: {configuration['arch']}")
            rows = []
            for epoch in curve(setup, configuration, dataset):
                rows.append({CONFIGURATION: number, **configuration, **epoch})
                progress.advance(bar, effort(configuration))
            recording.rows.extend(rows)
            write_curves(output, recording)
            progress.console.print(line(rows), highlight=False, soft_wrap=True)
    print(f"{count} configurations are in {output}")


def draw(setup: Setup, count: int) -> list[dict[str, Any]]:
    """Configurations at random, `arch` among them; a greater `count` adds to those of a smaller one."""
    rng = random.Random(setup.seed)
    known = architectures_of(setup.space)
    speeds = [usual_images_per_second({"arch": arch}, REFERENCE_SIDE) for arch in known]
    drawn = []
    for number in range(count):
        arch = known[number % len(known)] if number < TURNS * len(known) else rng.choices(known, speeds)[0]
        drawn.append(next(each for each in samples(setup.space, rng) if each["arch"] == arch))
    return drawn


def samples(space: Space, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Random configurations without end."""
    while True:
        yield sample(space, rng)


def stratified(dataset: "Dataset", part: str, count: int, seed: int) -> "NDArray[np.int64]":
    """Rows of the published `train` or `val`, (count,), sorted: as many of each class as of the others, or one more.

    Raises:
        UsageError: There are fewer images.
    """
    import numpy as np

    splits = dataset.splits
    rows = np.concatenate([splits.train, splits.select]) if part == "train" else splits.holdout
    rows = np.random.default_rng(seed).permutation(rows)
    labels = dataset.cache.labels[rows]
    place = np.zeros(len(rows), dtype=int)
    for label in range(dataset.num_classes):
        place[labels == label] = np.arange((labels == label).sum())
    if count > len(rows):
        raise UsageError(f"{count} {part} images: there are only {len(rows)}")
    return np.sort(rows[np.lexsort((labels, place))[:count]])


def curve(setup: Setup, configuration: dict[str, Any], dataset: "Dataset") -> Iterator[dict[str, Any]]:
    """Train one configuration; what is kept of each epoch, until the last or until it diverged."""
    import torch

    from benchmarks._curve_files import SCORED, SECONDS, WALL_SECONDS
    from trainable.training import Training

    shared = {"data": DIGITS, "flip": False, "epochs": setup.epochs, "seed": setup.seed}
    config = make_config(shared | configuration, f"space {setup.space.name}")
    train_rows = stratified(dataset, "train", setup.train_images, setup.seed)
    held_out_rows = stratified(dataset, "val", setup.select_images, setup.seed)
    training = Training(config, dataset, train_rows, held_out_rows, torch.device("cpu"), cores=setup.threads)
    while not training.done:
        wall, processor = time.perf_counter(), time.process_time()
        record = training.run_step()
        times = {
            SECONDS: (time.process_time() - processor) / setup.threads,
            WALL_SECONDS: time.perf_counter() - wall,
        }
        yield {name: record[name] for name in SCORED} | times


def facts_of(setup: Setup) -> dict[str, Any]:
    """What the curves hang on, as JSON values."""
    import torch

    from trainable.device import choose_arithmetic
    from trainable.versions import library_versions

    return {
        **setup._asdict(),
        "space": setup.space.model_dump(mode="json"),
        "data": "digits",
        "image_size": IMAGE_SIZE,
        "arithmetic": choose_arithmetic("auto", torch.device("cpu")).reason,
        "versions": library_versions(),
        "processor": hardware().partition(",")[0],
    }


def known_rows(output: Path, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of an earlier recording.

    Raises:
        UserError: It was one of something else.
    """
    from benchmarks._curve_files import read_curves

    _, before, rows = read_curves(output)
    for name, value in facts.items():
        if before.get(name) != value:
            raise UserError(
                f"{output} was recorded with another {name}: {before.get(name)}, now {value}; name another --output"
            )
    return rows


def effort(configuration: dict[str, Any]) -> float:
    """Time of an epoch in comparison to other configurations."""
    return 1 / usual_images_per_second(configuration, REFERENCE_SIDE)


def line(rows: list[dict[str, Any]]) -> str:
    """One configuration for people."""
    best = max(row[metrics.SELECT_TOP1] for row in rows)
    seconds, wall = (sum(row[name] for row in rows) for name in ("seconds", "wall_seconds"))
    return (
        f"configuration {rows[0]['configuration']}, {rows[0]['arch']}: best top-1 {best:.2%}, "
        f"{seconds:.0f} s of a core, {wall:.0f} s in all"
    )


if __name__ == "__main__":
    run_app(app)
