"""Write an experiment's report: one HTML page that needs no network, and its plots as PNGs.

[bold]python -m analysis.report runs/NAME[/]  writes runs/NAME/report/index.html, also while the search runs.

[bold]python -m analysis.report runs/NAME --time-budget 5s[/]  leaves out what takes longer, and says so on the page.
"""

import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from analysis.home import ExperimentFolder, send_back
from analysis.pages.clock import Clock
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.errors import UserError

if TYPE_CHECKING:
    from analysis.pages.parts import Part
    from analysis.pages.records import Search
    from analysis.pages.section import Section

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

REPORT, PAGE = "report", "index.html"
PNG_DPI = 150
IMPORT_COST = 0.5
"""Seconds of importing what all parts of the page need, on one usual core."""


class Written(NamedTuple):
    """A report on the disk."""

    page: Path
    left_out: list[str]
    """The parts for which there was no time, in words."""


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    folder: ExperimentFolder,
    time_budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Seconds from start to end, such as 20s. The answer, the curves and the failures are always there.",
            show_default="all parts, however long they take",
        ),
    ] = None,
) -> None:
    """Write the report and say where it is."""
    begun = time.monotonic() - time.process_time()  # the interpreter's start counts
    written = make_report(folder, Clock(seconds_of(time_budget), begun))
    print(f"{'report':8} {written.page}")
    if written.left_out:
        print(f"{'left out':8} {', '.join(written.left_out)}: no time within {time_budget}")
    send_back(folder, REPORT)


def seconds_of(time_budget: str | None) -> float | None:
    """The option's value in seconds."""
    if time_budget is None:
        return None
    from trainable.durations import parse_duration

    return parse_duration(time_budget, "--time-budget")


def write_report(folder: Path, time_budget_s: float | None = None) -> Path:
    """Write the report of the experiment in `folder`; returns the page's path.

    An earlier report is replaced. What doesn't fit into `time_budget_s` is left out. UsageError where `folder` is no
    experiment, UserError where it has no trial yet or the report can't be written.
    """
    return make_report(folder, Clock(time_budget_s)).page


def make_report(folder: Path, clock: Clock) -> Written:
    """As `write_report`, but says what was left out."""
    from analysis.experiment import read_facts

    read_facts(folder)  # before pandas and plotly are imported: a wrong path fails at once
    with clock.timed(IMPORT_COST):
        from analysis.pages.answer import answer
        from analysis.pages.page import render_page
        from analysis.pages.parts import make_parts
        from analysis.pages.records import read_search
        from trainable.files import write_text

    search = read_search(folder)
    made, target = make_parts(search, clock, bar), folder / REPORT
    try:
        target.mkdir(exist_ok=True)
        page = render_page(folder.resolve().name, made.sections, "analysis.report", answer(search))
        write_text(target / PAGE, page)
        if made.with_pngs:
            write_pngs(made.sections, target)
        else:
            remove_pngs(made.sections, target)
    except OSError as error:
        raise UserError(f"{target}: can't be written ({error.strerror or error}); free it and try again") from None
    return Written(target / PAGE, made.left_out)


def bar(parts: "Iterable[Part]") -> "Iterable[Part]":
    """Shows how far the parts are, where stderr is a terminal."""
    if not sys.stderr.isatty():
        return parts
    from rich.console import Console
    from rich.progress import track

    return track(list(parts), "report", console=Console(stderr=True), transient=True)


def all_sections(search: "Search") -> "list[Section]":
    """The sections of the whole report, in their order."""
    from analysis.pages.parts import make_parts

    return make_parts(search, Clock(), bar).sections


def write_pngs(sections: "list[Section]", target: Path) -> None:
    """Write each section's PNG, named by its key."""
    from trainable.files import write_atomically

    for section in sections:
        if section.png is not None:
            save = partial(section.png().savefig, format="png", dpi=PNG_DPI)
            write_atomically(target / f"{section.key}.png", save)


def remove_pngs(sections: "list[Section]", target: Path) -> None:
    """Those of an earlier report, which the page would contradict."""
    for section in sections:
        (target / f"{section.key}.png").unlink(missing_ok=True)


if __name__ == "__main__":
    run_app(app)
