"""What the same wall seconds buy: a search written by hand, one training without a search, and ours.

[bold]python -m benchmarks.equal_seconds --data tiny-imagenet-20.zip --image-size 64 --png equal-seconds.png[/]

Sides, in turn on the same images and cores of this machine, never at once:

- stock: Ray Tune with OptunaSearch and ASHA as one writes it by hand (benchmarks/_equal_stock.py). Its best checkpoint.
- one: a single training of the space's cheapest architecture at its published start, with all cores, whose length fills
the seconds (benchmarks/_equal_one.py). Its last weights.
- ours: python -m tuning.run --time-budget. Its ensemble.

All are scored on the same holdout images, which decide nothing and which no side trains on. Archives are unpacked and
images decoded for our cache beforehand, which is counted for no side; stock decodes its files anew in every epoch.

Wall: from the command until there is a model to be scored; for ours, to the command's end, with export, scoring and
report. Stock and one get the seconds from when their search or training begins, so that what they take to start comes
on top; ours has to start within them. Not counted for one: the updates that its speed is measured by.

Busy: the share of the slots' wall time that was spent in training and evaluation by epochs that were recorded.
Optimism: top-1 on the images that chose what is scored, minus top-1 on holdout, in points. Figures are means over the
seeds, ± standard error; differences are those of runs with the same seed. A seed fixes splits, search and training.

Finished runs are lines of --results. A run that is there isn't repeated, if data, size, space, seconds, seed, cores and
the sources that decide the side's result are the same; one that failed is.

Hardware: 2 cores of an AMD EPYC with AVX512-BF16, no other work.

Time: a run takes its seconds and up to a minute.

Result, tiny-imagenet-20 at 32 px, 300 s, one seed: ours 57.4 %, one 44.1 % (resnet); ours 45.5 %, one 43.9 % (swin). No
spread is known yet; see docs/log.md.
"""

import json
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks.compare import Quick, hardware, report
from search_spaces import SpaceError, did_you_mean, get_space
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.data.default import DIGITS, choose_data
from trainable.data.digits import write_digits
from trainable.errors import UsageError, UserError
from tuning.storage import cut_half_line

if TYPE_CHECKING:
    from benchmarks._equal_task import Images

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

COLUMNS = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
EVERY_SIDE = "stock,one,ours"
STOCK_SPACES = ("resnet", "swin")
"""What the search by hand has architectures for."""
QUICK_SECONDS, QUICK_IMAGE = 2.0, 8
QUICK_TASKS: dict[str, dict[str, Any]] = {
    "stock": {"seconds": 100.0, "stock_trials": 1, "stock_epochs": 1, "cores": 1},
    "frozen": {"cores": 1},
    "one": {"cores": 1},
    "ours": {"seconds": 60.0},
}
"""What differs where a run only has to show that it works: a process of Ray takes longer to start than the seconds."""


DataSets = Annotated[
    list[Path] | None, typer.Option(metavar="PATH", help="Labelled images. Repeatable. \\[the embedded digits]")
]
ImageSize = Annotated[int | None, typer.Option(min=8, help="Side in pixels. \\[the images' own]")]
Seeds = Annotated[int, typer.Option(min=1, help="Runs of each side.")]
Sides = Annotated[str, typer.Option(metavar="A,B", help="Which sides.")]
StockEpochs = Annotated[int, typer.Option(min=1, help="Length of a full training in stock's search.")]
Results = Annotated[Path, typer.Option(metavar="FILE", help="Keep results here, a line a run, and go on from them.")]
Png = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw accuracy against seconds.")]
Keep = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Keep there what the runs write. \\[it is deleted]")]


class Cell(NamedTuple):
    """One run, by what its result hangs on."""

    data: str
    images: str
    """The data set's fingerprint."""
    image_size: int
    space: str
    seconds: float
    seed: int
    side: str
    code: str
    """Digest of the sources and options that decide the side's result."""
    cores: int

    def __str__(self) -> str:
        return f"{self.side}, {self.data}, {Path(self.space).stem}, {self.seconds:g} s, seed {self.seed}"


class Asked(NamedTuple):
    """What is to be compared."""

    data: list[Path]
    image_size: int | None
    spaces: list[str]
    seconds: list[float]
    seeds: int
    sides: list[str]
    stock_epochs: int
    cores: int
    quick: bool
    weights: Mapping[str, Path] = MappingProxyType({})
    """See `Task.weights`."""


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    data: DataSets = None,
    image_size: ImageSize = None,
    space: Annotated[list[str] | None, typer.Option(help="Search space. Repeatable. \\[resnet and swin]")] = None,
    seconds: Annotated[
        list[float] | None, typer.Option(min=1, help="What each side may take. Repeatable. \\[300 and 900]")
    ] = None,
    seeds: Seeds = 3,
    sides: Sides = EVERY_SIDE,
    stock_epochs: StockEpochs = 10,
    results: Results = Path("equal-seconds.jsonl"),
    png: Png = None,
    keep: Keep = None,
    quick: Quick = False,
) -> None:
    """Do the runs that aren't there yet, then print and draw all that were asked for."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the side that runs is ended too
    roots = data or [choose_data(None).root]
    spaces, lengths = space or list(STOCK_SPACES), seconds or [300.0, 900.0]
    if quick:
        roots, image_size, spaces, lengths, seeds = [DIGITS.absolute()], QUICK_IMAGE, spaces[:1], [QUICK_SECONDS], 1
    cores = len(os.sched_getaffinity(0))
    names = split_names(sides, EVERY_SIDE.split(","))
    asked = Asked(roots, image_size, spaces, lengths, seeds, names, stock_epochs, cores, quick)
    compare(asked, results, png, keep)


def compare(asked: Asked, results: Path, png: Path | None, keep: Path | None) -> None:
    """Do the runs that aren't there yet, then print and draw all that were asked for."""
    check(asked)
    images = open_all(asked)
    cells, known = wanted(asked, images), read(results)
    missing = [cell for cell in cells if "failed" in known.get(cell, {"failed": ""})]
    try:
        for cell, record in run_all(missing, asked, images, keep):
            known[cell] = record
            append(results, record)
    except KeyboardInterrupt:
        done = len(cells) - len(missing) + sum(cell in known and "failed" not in known[cell] for cell in missing)
        print(f"stopped; {done} of {len(cells)} runs are in {results}, and the same command goes on from there")
        raise
    show([known[cell] for cell in cells], png)


def split_names(text: str, known: Sequence[str]) -> list[str]:
    """`stock,ours` in the order in which the known sides run.

    Raises:
        UsageError: One of them is unknown.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"--sides: unknown side {unknown[0]!r}; {did_you_mean(unknown[0], known)}")
    return [name for name in known if name in names]


def check(asked: Asked) -> None:
    """UsageError where a space is unknown, stock has none of that name, or two data sets have the same name."""
    names = [root.name for root in asked.data]
    if len(set(names)) < len(names):
        raise UsageError(f"--data: two of {', '.join(names)} have the same name; rename one")
    for name in asked.spaces:
        try:
            get_space(name)
        except SpaceError as error:
            raise UsageError(f"--space: {error}") from None
        if "stock" in asked.sides and not asked.weights and name not in STOCK_SPACES:
            listed = ", ".join(STOCK_SPACES)
            raise UsageError(f"--space {name}: stock knows only {listed}; leave it out: --sides one,ours")


def open_all(asked: Asked) -> "dict[tuple[Path, int], Images]":
    """Every data set with the splits of every seed, decoded and unpacked on this machine."""
    from benchmarks._equal_task import open_images

    for root in asked.data:
        if choose_data(root).is_digits:
            write_digits(root)
    return {
        (root, seed): open_images(root, asked.image_size, seed) for root in asked.data for seed in range(asked.seeds)
    }


def wanted(asked: Asked, images: "Mapping[tuple[Path, int], Images]") -> list[Cell]:
    """Every run that was asked for: seed by seed, so that an interrupted benchmark has all sides."""
    from benchmarks._equal_sides import SIDES, code_of

    codes = {name: "quick" if asked.quick else code_of(SIDES[name].code) for name in asked.sides}
    if "stock" in codes:
        codes["stock"] += f", {asked.stock_epochs} epochs"
    return [
        Cell(
            data=root.name,
            images=images[root, seed].dataset.cache.fingerprint[:12],
            image_size=images[root, seed].dataset.image_size,
            space=space,
            seconds=seconds,
            seed=seed,
            side=side,
            code=codes[side],
            cores=asked.cores,
        )
        for seed in range(asked.seeds)
        for root in asked.data
        for space in asked.spaces
        for seconds in asked.seconds
        for side in asked.sides
    ]


def run_all(
    cells: Sequence[Cell], asked: Asked, images: "Mapping[tuple[Path, int], Images]", keep: Path | None
) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """The result of each run as it ends."""
    roots = {root.name: root for root in asked.data}
    with Progress(*COLUMNS, console=Console(stderr=True), transient=True) as progress:
        for number, cell in enumerate(cells, 1):
            bar = progress.add_task(f"{number} of {len(cells)}: {cell}")
            root = roots[cell.data]
            record = run(cell, root, images[root, cell.seed], asked, keep)
            progress.remove_task(bar)
            progress.console.print(line(cell, record), highlight=False, soft_wrap=True)
            yield cell, record


def run(cell: Cell, root: Path, images: "Images", asked: Asked, keep: Path | None) -> dict[str, Any]:
    """One run: a line of the results, which says why where it failed."""
    from benchmarks._equal_sides import commit, run_side
    from benchmarks._equal_task import Task, facts_of

    facts = {"hardware": hardware(), "commit": commit(), "began": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}
    with own_folder(cell, keep) as output:
        task = Task(
            data=root.absolute(),
            flip=not choose_data(root).is_digits,
            space=cell.space,
            seconds=cell.seconds,
            seed=cell.seed,
            cores=cell.cores,
            output=output,
            stock_epochs=asked.stock_epochs,
            weights=dict(asked.weights),
            **facts_of(images),
        )
        if asked.quick:
            task = task.model_copy(update=QUICK_TASKS[cell.side])
        try:
            done = run_side(cell.side, task)
        except (UserError, OSError, ValueError, KeyError) as error:  # nothing of a side may stop the others
            return cell._asdict() | facts | {"failed": " ".join(str(error).split())}
    outcome = done.outcome.model_dump(mode="json", exclude={"ready"})
    return cell._asdict() | facts | outcome | {"wall_s": done.wall_s, "inside": done.outcome.share(done.wall_s)}


@contextmanager
def own_folder(cell: Cell, keep: Path | None) -> Iterator[Path]:
    """An empty folder for a run, which is deleted afterwards unless it is to be kept."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="equal-seconds-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
        return
    keep.mkdir(parents=True, exist_ok=True)
    name = f"{cell.data}-{Path(cell.space).stem}-{cell.seconds:g}s-{cell.seed}-{cell.side}-"
    yield Path(tempfile.mkdtemp(prefix=name, dir=keep.absolute()))


def line(cell: Cell, record: Mapping[str, Any]) -> str:
    """A run for people, as it ends."""
    if "failed" in record:
        return f"{cell}: failed, {record['failed']}"
    return f"{cell}: top-1 {record['top1']:.2%}, log loss {record['loss']:.3f}, after {record['wall_s']:.0f} s"


def show(records: Sequence[dict[str, Any]], png: Path | None) -> None:
    """A table for each data set, what failed, and the picture if one is wanted.

    Raises:
        UserError: Some runs failed.
    """
    from benchmarks._equal_tables import grouped, save, table_rows

    groups = grouped(records)
    for data, size in dict.fromkeys(group[:2] for group in groups):
        own = {group: sides for group, sides in groups.items() if group[:2] == (data, size)}
        report(f"{data}, {size} px: what equal seconds buy", table_rows(own), {}, None)
    if png is not None and groups:
        save(groups, png)
    failed = [record for record in records if "failed" in record]
    for record in failed:
        print(line(cell_of(record), record))
    if failed:
        raise UserError(f"{len(failed)} of {len(records)} runs failed; the same command tries them again")


def cell_of(record: Mapping[str, Any]) -> Cell:
    """The run that a line of the results is of."""
    return Cell(*(record[name] for name in Cell._fields))


def read(file: Path) -> dict[Cell, dict[str, Any]]:
    """The results of earlier runs, the latest of each; a line that was cut off in the middle is dropped.

    Raises:
        UserError: The file holds something else.
    """
    if not file.exists():
        return {}
    cut_half_line(file)
    try:
        records = [json.loads(text) for text in file.read_text().splitlines()]
        return {cell_of(record): record for record in records}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} doesn't hold results of this benchmark ({error}); name another --results") from None


def append(file: Path, record: Mapping[str, Any]) -> None:
    """Add a line to the results."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as stream:
        stream.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    run_app(app)
