"""Two or more experiments beside each other: what was searched, what it cost, and which ensemble is better.

[bold]python -m analysis.compare runs/NAME runs/OTHER[/]  prints a table and writes compare.html in the current folder.

Differences are to the first experiment, on the holdout images that both ensembles saw, with paired 95 % intervals.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.home import at_home
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.errors import UsageError
from trainable.escape import printable

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.table import Table

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

PAGE = Path("compare.html")
SUFFIXES = (".html", ".htm")


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    folders: Annotated[
        list[Path],
        typer.Argument(parser=at_home, metavar="EXPERIMENT...", help="Folders of searches: runs/NAME, or s3://..."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="HTML page to write.")] = PAGE,
) -> None:
    """Print the tables and write the page."""
    check_folders(folders)
    check_output(output)
    from analysis.pages.comparison import found_table, read_entries, searched_table, warnings
    from analysis.pages.comparison_plots import comparison_sections, page_title
    from analysis.pages.page import render_page
    from analysis.pages.paired import differences, differences_table
    from analysis.tables import wide_console
    from trainable.files import write_text

    entries = read_entries(folders)
    careful, told = warnings(entries), differences(entries)
    console = wide_console()
    for table in (searched_table(entries), found_table(entries), differences_table(entries[0].name, told)):
        console.print(table_of(table))
        console.print()
    for line in careful:
        print(f"careful: {printable(line)}", file=sys.stderr)
    try:
        write_text(
            output, render_page(page_title(entries), comparison_sections(entries, careful, told), "analysis.compare")
        )
    except OSError as error:
        raise UsageError(f"-o {output}: can't be written ({error.strerror or error}); give another file") from None
    print(output)


def check_folders(folders: Sequence[Path]) -> None:
    """UsageError where there are fewer than two, one comes twice, or one is no experiment."""
    from analysis.experiment import read_facts

    for folder in folders:
        read_facts(folder)
    if len(folders) < 2:
        raise UsageError(f"{folders[0]}: one experiment is nothing to compare; give two or more: runs/NAME runs/OTHER")
    seen: dict[Path, Path] = {}
    for folder in folders:
        if earlier := seen.get(folder.resolve()):
            raise UsageError(f"{folder}: comes twice (as {earlier}); give each experiment once")
        seen[folder.resolve()] = folder


def check_output(output: Path) -> None:
    """UsageError where `output` doesn't end as a page does: an earlier file there is replaced."""
    if output.suffix.lower() not in SUFFIXES:
        raise UsageError(f"-o {output}: the page is HTML; give a name that ends in {SUFFIXES[0]}")


def table_of(frame: "DataFrame") -> "Table":
    """The frame's texts for the console; names in it are what folders are called."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in frame.columns:
        table.add_column(Text(printable(column)), overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


if __name__ == "__main__":
    run_app(app)
