"""Look at a data set before an evening is spent on it: sizes, splits, samples, augmentation, and what is wrong with it.

[bold]python -m analysis.dataset DATA[/]  prints a summary with warnings, and writes four PNGs to dataset/NAME.

DATA is a folder, an archive or an address as the search reads it, such as s3://BUCKET/images.zip, fetched or unpacked
once per machine; without one, what the search would take: a downloaded Tiny-ImageNet, or the embedded digits. Splits
are those of a search with the same --seed. Warnings leave the exit code at 0.
"""

import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from trainable.config import LARGEST_IMAGE, SMALLEST_IMAGE
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.errors import UsageError
from trainable.escape import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from pandas import DataFrame, Series
    from rich.table import Table

    from analysis.dataset_checks import Scan
    from trainable.address import Place
    from trainable.data.layouts import ClassName, Layout

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

SIZES = "size_distribution_histograms.png"
COUNTS = "split_image_counts.png"
SAMPLES = "samples.png"
AUGMENTATION = "augmentation.png"


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="Folder or archive of labelled images, or its address.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the PNGs.", show_default="dataset/NAME of DATA")
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(min=SMALLEST_IMAGE, max=LARGEST_IMAGE, help="Side in pixels.", show_default="as the search's"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Fixes the splits and what is shown.")] = 0,
    hashes: Annotated[
        bool, typer.Option("--hashes/--no-hashes", help="Look for the same picture in two splits.")
    ] = True,
    augment: Annotated[Literal["light", "full"], typer.Option(help="Augmentation to show.")] = "full",
    flip: Annotated[
        bool | None, typer.Option("--flip/--no-flip", help="Mirror images.", show_default="yes, except for the digits")
    ] = None,
    cache_dir: Annotated[
        Path | None, typer.Option(help="Where fetched images are kept.", show_default="the user's cache folder")
    ] = None,
) -> None:
    """Scan the data set, print what there is, and draw."""
    from trainable.address import open_place
    from trainable.data.dataset import open_files
    from trainable.data.default import USING_DIGITS, choose_images
    from trainable.data.digits import write_digits
    from trainable.data.layouts import natural_image_size

    root, is_digits = choose_images(data)
    folder = output if output is not None else Path("dataset") / name_of(root)
    check_output(folder, open_place(root, "DATA"))
    if is_digits and data is None:
        print(USING_DIGITS)
    if is_digits and isinstance(root, Path) and not root.exists():
        write_digits(root)
    files = open_files(root, cache_dir)
    side = image_size or natural_image_size(files.layout)
    prepare_output(folder)
    look = Look(side, seed, hashes, augment, not is_digits if flip is None else flip)
    report(files.layout, folder, look, str(root))


def name_of(root: Path | str) -> str:
    """What its figures' folder is called."""
    from trainable.data.origin import cache_name

    if isinstance(root, Path) and not root.is_file():
        return root.resolve().name
    return cache_name(str(root))


class Look(NamedTuple):
    """How a data set is looked at: the options that have been settled."""

    image_size: int
    seed: int
    hashes: bool
    augment: Literal["light", "full"]
    flip: bool


def report(layout: "Layout", folder: Path, look: Look, told: str) -> None:
    """Print the summary of what is `told` as the data and the warnings, then draw into `folder`."""
    from analysis.dataset_checks import class_counts, find_twins, scan, split_summary, warnings_about
    from analysis.tables import wide_console

    started = time.perf_counter()
    scanned = scan(layout, look.image_size, look.seed, look.hashes)
    seconds = time.perf_counter() - started
    twins = find_twins(scanned.images, scanned.thumbnails) if look.hashes else None
    counts = class_counts(scanned.images, len(layout.classes))
    looked_at = len(scanned.images) + len(scanned.broken)
    print(f"{printable(told)}: {looked_at:,} images of {len(layout.classes):,} classes, {layout.kind}")
    print(f"looked at in {seconds:.1f} s ({looked_at / seconds:,.0f} images/s), for training at {look.image_size} px\n")
    wide_console().print(summary_table(split_summary(scanned.images), counts, layout.classes))
    print()
    found = warnings_about(scanned, twins, counts, layout.classes, look.image_size)
    for line in found:
        print(f"warning: {printable(line)}")
    unlooked = "" if look.hashes else "; not looked for with --no-hashes: duplicates"
    print(f"{len(found) or 'no'} warning{'s' * (len(found) != 1)}{unlooked}")
    for name, figure in draw(layout, scanned, counts, look).items():
        save(figure, folder / name)
        print(f"wrote {printable(str(folder / name))}")


def summary_table(summary: "DataFrame", counts: "DataFrame", classes: "Sequence[ClassName]") -> "Table":
    """A line for each split (of `split_summary`), with its smallest and its largest class (of `class_counts`)."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("split", "images", "classes", "smallest class", "largest class", "shorter side, px", "MB"):
        table.add_column(title, justify="right" if title in ("images", "classes", "MB") else "left")
    for name, row in summary.iterrows():
        sizes = counts.sum(axis=1) if name == "all" else counts.get(name)
        sides = f"{row.side_min} to {row.side_max}, median {row.side_median}"
        side = f"{row.side_min}" if row.side_min == row.side_max else sides
        cells = (str(name), f"{row.images:,}", f"{row.classes:,}", *extremes(sizes, classes), side)
        table.add_row(*(Text(cell) for cell in (*cells, f"{row.bytes / 1e6:,.1f}")))
    return table


def extremes(sizes: "Series | None", classes: "Sequence[ClassName]") -> tuple[str, str]:
    """The smallest and the largest class with their images, from the images of each; None where there are no labels."""
    from analysis.dataset_plots import short

    if sizes is None:
        return "-", "-"
    if sizes.min() == sizes.max():
        return f"each {sizes.min():,}", f"each {sizes.max():,}"
    values = sizes.to_numpy()
    rows = int(values.argmin()), int(values.argmax())
    smallest, largest = (f"{short(classes[row].words, 24)} {values[row]:,}" for row in rows)
    return smallest, largest


def draw(layout: "Layout", scanned: "Scan", counts: "DataFrame", look: Look) -> "dict[str, Figure]":
    """The figures by the names of their files."""
    from analysis import dataset_plots as plots
    from trainable.config import TrialConfig

    classes, images = layout.classes, scanned.images
    pictures = plots.pick_samples(images, layout.root, look.image_size, look.seed)
    mix_prob = TrialConfig.model_fields["mix_prob"].default
    rows = plots.augmented_rows(pictures, classes, look.augment, look.flip, mix_prob, look.seed)
    return {
        SIZES: plots.size_histograms(images, look.image_size),
        COUNTS: plots.count_bars(images, counts, classes),
        SAMPLES: plots.sample_grid(pictures, classes),
        AUGMENTATION: plots.augmentation_grid(rows, look.augment, mix_prob),
    }


def check_output(folder: Path, root: "Place") -> None:
    """UsageError where `folder` is the data set, or inside: its files would become part of the data."""
    if isinstance(root, Path) and folder.resolve().is_relative_to(root.resolve()):
        raise UsageError(f"--output {folder}: lies in the data set {root}; give a folder outside")


def prepare_output(folder: Path) -> None:
    """Make the folder. UsageError where nothing can be written there."""
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileExistsError:
        raise UsageError(f"--output {folder}: is a file; give a folder") from None
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"--output {folder}: can't be written ({reason}); give another folder") from None


def save(figure: "Figure", path: Path) -> None:
    """Write the PNG, whole or not at all. UsageError where it can't be written."""
    from trainable.files import write_atomically

    with warnings.catch_warnings():
        # characters that matplotlib's font lacks are drawn as boxes; the summary has them
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        try:
            write_atomically(path, lambda temporary: figure.savefig(temporary, format="png"))
        except OSError as error:
            raise UsageError(f"--output {path}: can't be written ({error.strerror}); give another folder") from None


if __name__ == "__main__":
    run_app(app)
