"""Predict the classes of images with an exported ensemble. Needs neither Ray nor the training data.

[bold]python -m analysis.predict runs/NAME/ensemble INPUT -o best_test_preds.csv[/]  writes one row an image.

[bold]find . -name '*.jpg' | python -m analysis.predict runs/NAME/ensemble - -o preds.parquet[/]  takes a list.

[bold]python -m analysis.predict runs/NAME/ensemble val --labels folder[/]  also tells how many are right.

INPUT are images, folders that are searched with all folders below, zips (nothing is unpacked to the disk), patterns in
quotes, or - for a list on stdin, one path a line. They are predicted one after the other, in constant memory whatever
their number; what is named twice has two rows. Without -o the rows go to stdout. An image that can't be decoded gets a
row that says why; the exit code is then 3. Text that a spreadsheet would run as a formula gets an apostrophe in front.

The column disagreement is the share of the members, by weight, whose first guess isn't the ensemble's.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from analysis.home import EnsembleFolder
from analysis.outputs import STDOUT, check_writable, is_special, write_output
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.errors import UsageError
from trainable.escape import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.ensemble import Ensemble
    from analysis.images import Source
    from analysis.pipeline import Predicted
    from analysis.rows import Row
    from analysis.score import Score

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

SOME_BROKEN = 3
"""Exit code where some images couldn't be decoded, and all others were predicted."""


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    ensemble: EnsembleFolder,
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Images, folders, zips, patterns, or -.")],
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE|-", help="File to write.")] = STDOUT,
    format_name: Annotated[
        Literal["csv", "jsonl", "parquet"] | None,
        typer.Option("--format", help="Format of the rows.", show_default="by the ending of -o, else csv"),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|folder",
            help="CSV with the columns file,class; or `folder`: the name of an image's folder is its class. Accuracy "
            "and the confusion table follow from it.",
        ),
    ] = None,
    confusion: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="CSV for the confusion table.", show_default="beside -o: X.confusion.csv"),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 256,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> int:
    """Predict all images; returns the exit code."""
    from analysis.images import find_images
    from analysis.labels import read_labels
    from analysis.manifest import read_manifest
    from analysis.rows import COLUMNS, LABELLED_COLUMNS
    from analysis.score import Score
    from analysis.writers import WRITERS, choose_format

    # all that can be wrong is looked at before torch is imported: a wrong path fails at once
    classes = [each.id for each in read_manifest(ensemble).classes]
    write = WRITERS[choose_format(output, format_name)]
    check_writable(output, "-o")
    table = confusion_file(output, labels, confusion)
    label_of = None if labels is None else read_labels(labels, classes)
    sources = find_images(inputs)

    from analysis.ensemble import load_ensemble

    score = Score()
    rows = score.through(predicted_rows(load_ensemble(ensemble, device), sources, batch_size, output), label_of)
    write_output(output, "-o", lambda file: write(file, COLUMNS if labels is None else LABELLED_COLUMNS, rows))
    if score.broken:
        print(f"{score.broken} of {score.images} images can't be decoded; see the column error", file=sys.stderr)
    if labels is not None:
        tell_score(score, classes, labels, table, output)
    return SOME_BROKEN if score.broken else 0


def confusion_file(output: str, labels: str | None, named: str | None) -> str | None:
    """Where the confusion table goes: as named, else beside the output, else nowhere. UsageError."""
    if labels is None:
        if named is not None:
            raise UsageError(f"--confusion {named}: needs the true classes; give --labels too")
        return None
    if named is None:
        special = output == STDOUT or is_special(output)
        return None if special else str(Path(output).with_suffix(".confusion.csv"))
    if named != STDOUT and Path(named).absolute() == Path(output).absolute():
        raise UsageError(f"--confusion {named}: is the file of the predictions; give another")
    check_writable(named, "--confusion")
    return named


def predicted_rows(ensemble: "Ensemble", sources: "Iterator[Source]", batch_size: int, output: str) -> "Iterator[Row]":
    """One row an image, in the order of the sources."""
    from analysis.pipeline import predicted_batches
    from analysis.rows import batch_rows

    for batch in with_progress(predicted_batches(sources, ensemble.votes, ensemble.sizes, batch_size), output):
        yield from batch_rows(batch, ensemble.classes, ensemble.weights)


def with_progress(batches: "Iterable[Predicted]", output: str) -> "Iterator[Predicted]":
    """The batches, counted on stderr where that is a terminal and the rows don't go to one."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:,} images predicted"), TimeElapsedColumn())
    silent = output == STDOUT or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=silent) as bar:
        task = bar.add_task("predict", total=None)
        for batch in batches:
            yield batch
            bar.advance(task, len(batch.names))


def tell_score(score: "Score", classes: "Sequence[str]", labels: str, table: str | None, output: str) -> None:
    """Print the accuracy and the most frequent confusions, and write the table. UsageError where nothing has a label.

    They are printed to stderr where the rows went to stdout.
    """
    from rich.console import Console

    from analysis.score import accuracy_lines, confusions_table, write_confusion

    first = f"the first is {printable(score.first_unlabelled)}"
    if not score.labelled:
        raise UsageError(
            f"--labels {labels}: names the class of no image ({first}), so there is no accuracy; the predictions are "
            "written"
        )
    console = Console(stderr=output == STDOUT)
    console.print(accuracy_lines(score), highlight=False, soft_wrap=True)
    if score.unlabelled:
        print(f"{score.unlabelled} images have no label and don't count; {first}", file=sys.stderr)
    if score.confusions():
        console.print(confusions_table(score))
    if table is not None:
        write_output(table, "--confusion", lambda file: write_confusion(file, score, classes))


if __name__ == "__main__":
    run_app(app)
