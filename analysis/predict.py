"""Predict the classes of images with an exported ensemble. Needs neither Ray nor the training data.

[bold]python -m analysis.predict runs/NAME/ensemble IMAGES -o best_test_preds.csv[/]  writes one row an image.

IMAGES are files, or folders that are searched with all folders below. Without -o the rows go to stdout. An image that
can't be decoded gets a row that says why; the exit code is then 3. Text that a spreadsheet would run as a
formula gets an apostrophe in front.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.errors import UsageError
from trainable.escape import write_csv

if TYPE_CHECKING:
    from analysis.decoding import Decoded
    from analysis.ensemble import Ensemble

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

SOME_BROKEN = 3
"""Exit code where some images couldn't be decoded, and all others were predicted."""
STDOUT = "-"


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    ensemble: Annotated[Path, typer.Argument(metavar="ENSEMBLE", help="Folder that analysis.export wrote.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Image files and folders.")],
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE|-", help="CSV to write.")] = STDOUT,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 256,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> int:
    """Predict all images; returns the exit code."""
    from analysis.images import find_images
    from analysis.manifest import read_manifest

    read_manifest(ensemble)  # before torch is imported: a wrong path fails at once
    files = find_images(images)
    with opened_output(output) as file:
        from analysis.decoding import decoded_batches
        from analysis.ensemble import load_ensemble

        loaded = load_ensemble(ensemble, device)
        batches = decoded_batches(files, loaded.sizes, batch_size)
        broken = write_predictions(loaded, with_progress(batches, len(files), batch_size, output), file)
    if broken:
        print(f"{broken} of {len(files)} images can't be decoded; see the column error", file=sys.stderr)
    return SOME_BROKEN if broken else 0


def write_predictions(ensemble: "Ensemble", batches: Iterable["Decoded"], file: TextIO) -> int:
    """One CSV row an image, in the order of the batches; returns how many images couldn't be decoded."""
    from trainable.predictions import COLUMNS

    broken = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal broken
        for batch in batches:
            yield from batch_rows(ensemble, batch)
            broken += len(batch.errors)

    write_csv(file, [*COLUMNS, "error"], rows())
    return broken


def batch_rows(ensemble: "Ensemble", batch: "Decoded") -> Iterator[dict[str, Any]]:
    """Rows for the images of one batch in their order, the broken ones with their error alone."""
    from trainable.predictions import prediction_rows

    good = [str(path) for path in batch.paths if path not in batch.errors]
    predicted = prediction_rows(good, ensemble.predict(batch.images), ensemble.classes) if good else iter(())
    for path in batch.paths:
        yield {"file": str(path), "error": batch.errors[path]} if path in batch.errors else next(predicted)


def with_progress(batches: Iterable["Decoded"], images: int, batch_size: int, output: str) -> Iterable["Decoded"]:
    """The batches, with a bar on stderr where that is a terminal and the rows don't go to one."""
    from rich.console import Console
    from rich.progress import track

    silent = output == STDOUT or not sys.stderr.isatty()
    total = -(-images // batch_size)
    return track(batches, "predict", total, console=Console(stderr=True), transient=True, disable=silent)


@contextmanager
def opened_output(output: str) -> Iterator[TextIO]:
    """Stdout for `-`; else a file that is there when the block ends without an exception, and as it was otherwise."""
    text: dict[str, Any] = {"mode": "w", "newline": "", "encoding": "utf-8", "errors": "surrogateescape"}
    if output == STDOUT:
        with open(sys.stdout.fileno(), closefd=False, **text) as file:
            yield file
        return
    path = Path(output)
    special = path.exists() and not path.is_file()  # a pipe or /dev/null must not be replaced by a file
    written = path if special else path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        file = written.open(**text)
    except OSError as error:
        raise UsageError(f"-o {output}: can't be written ({error.strerror}); give another file") from None
    try:
        with file:
            yield file
        if not special:
            os.replace(written, path)
    finally:
        if not special:
            written.unlink(missing_ok=True)


if __name__ == "__main__":
    run_app(app)
