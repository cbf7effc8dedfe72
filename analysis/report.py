"""Write an experiment's report: one HTML page that needs no network, and its plots as PNGs.

[bold]python -m analysis.report runs/NAME[/]  writes runs/NAME/report/index.html, also while the search runs.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from analysis.home import ExperimentFolder, send_back
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.errors import UserError

if TYPE_CHECKING:
    from analysis.pages.records import Search
    from analysis.pages.section import Section

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

REPORT, PAGE = "report", "index.html"
PNG_DPI = 150


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(folder: ExperimentFolder) -> None:
    """Write the report and say where it is."""
    print(f"{'report':8} {write_report(folder)}")
    send_back(folder, REPORT)


def write_report(folder: Path) -> Path:
    """Write the report of the experiment in `folder`; returns the page's path.

    An earlier report is replaced. UsageError where `folder` is no experiment, UserError where it has no trial yet or
    the report can't be written.
    """
    from analysis.experiment import read_facts

    read_facts(folder)  # before pandas and plotly are imported: a wrong path fails at once
    from analysis.pages.answer import answer
    from analysis.pages.page import render_page
    from analysis.pages.records import read_search
    from trainable.files import write_text

    search = read_search(folder)
    sections = all_sections(search)
    target = folder / REPORT
    try:
        target.mkdir(exist_ok=True)
        write_pngs(sections, target)
        write_text(target / PAGE, render_page(folder.resolve().name, sections, "analysis.report", answer(search)))
    except OSError as error:
        raise UserError(f"{target}: can't be written ({error.strerror or error}); free it and try again") from None
    return target / PAGE


def all_sections(search: "Search") -> "list[Section]":
    """What the page shows below the answer, with a bar where stderr is a terminal."""
    from rich.console import Console
    from rich.progress import track

    silent = not sys.stderr.isatty()
    makers = section_makers()
    steps = track(makers, "report", console=Console(stderr=True), transient=True, disable=silent)
    return [section for make in steps for section in make(search)]


def section_makers() -> "list[Callable[[Search], list[Section]]]":
    """What makes each part of the page, in the page's order."""
    from analysis.pages.architectures import architectures_section
    from analysis.pages.curves import curves_section
    from analysis.pages.failures import failures_section
    from analysis.pages.importance import importance_sections
    from analysis.pages.progress import progress_section
    from analysis.pages.reproduce import reproduce_section
    from analysis.pages.timeline import timeline_section

    return [
        lambda search: [curves_section(search)],
        lambda search: [progress_section(search)],
        importance_sections,
        lambda search: [architectures_section(search)],
        lambda search: [timeline_section(search)],
        ensemble_part,
        lambda search: [failures_section(search)],
        lambda search: [reproduce_section(search)],
    ]


def ensemble_part(search: "Search") -> "list[Section]":
    """The sections about the ensemble; one that says why not, where what it rests on can't be read."""
    if search.manifest is None:
        return []
    from analysis.pages.ensemble_plots import ensemble_sections
    from analysis.pages.section import Section

    try:
        return ensemble_sections(search.folder)
    except UserError as error:
        return [Section("ensemble", "The ensemble", f"Its plots can't be drawn: {error}.")]


def write_pngs(sections: "list[Section]", target: Path) -> None:
    """Write each section's PNG, named by its key."""
    from trainable.files import write_atomically

    for section in sections:
        if section.png is not None:
            save = partial(section.png.savefig, format="png", dpi=PNG_DPI)
            write_atomically(target / f"{section.key}.png", save)


if __name__ == "__main__":
    run_app(app)
