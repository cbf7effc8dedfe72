"""Choose the members of an ensemble, and show what more members, or a smaller ensemble, would bring.

[bold]python -m analysis.select runs/NAME[/]  shows the best ensemble of each size, and which one would be exported.

[bold]python -m analysis.select runs/NAME --max-params 30e6 --max-latency-ms 20[/]  within these limits.

Out of bag: of as many members chosen on halves of `select`, on the other halves; lower is better, and it decides. An
ensemble that is worse there than the best candidate alone, by more than a standard error, isn't exported.

Greedy selection (Caruana et al. 2004) on the `select` images: the holdout images aren't looked at. Candidates are the
trials' best epochs, their latest epochs and soups (means of weights); then mirrored and cropped views are tried.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from analysis.home import ExperimentFolder
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.errors import UsageError
from trainable.escape import printable

if TYPE_CHECKING:
    from rich.table import Table

    from analysis.retraining import Refit
    from analysis.selection import Selection, Wanted

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

Members = Annotated[int, typer.Option(min=1, help="Most members; fewer are taken where more don't help.")]
MetricName = Annotated[Literal["log-loss", "top1"], typer.Option(help="What the selection improves.")]
Pick = Annotated[
    Literal["knee", "best"],
    typer.Option(help="knee: the smallest ensemble with 95 % of the largest gain; best: the best within the limits."),
]
MaxParams = Annotated[
    float | None,
    typer.Option(metavar="NUMBER", help="Most parameters of all members together, 30e6 say.", show_default="no limit"),
]
MaxLatency = Annotated[
    float | None,
    typer.Option(metavar="MS", help="Longest time of one image, measured here on --device.", show_default="no limit"),
]
Extras = Annotated[
    bool, typer.Option("--extras/--no-extras", help="Also try latest epochs, soups, and views of the images.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    folder: ExperimentFolder,
    members: Members = 5,
    metric: MetricName = "log-loss",
    pick: Pick = "knee",
    max_params: MaxParams = None,
    max_latency_ms: MaxLatency = None,
    extras: Extras = True,
    device: Device = "auto",
) -> None:
    """Select, and print the front."""
    from analysis.experiment import load_experiment, read_facts
    from analysis.tables import wide_console

    facts, trials = read_facts(folder), load_experiment(folder)
    from analysis.selection import select_members
    from trainable.device import choose_device

    wanted = make_wanted(members, metric, pick, max_params, max_latency_ms, extras)
    with TemporaryDirectory() as scratch:
        selection = select_members(folder, trials, facts, wanted, Path(scratch), choose_device(device))
    wide_console().print(front_table(selection))
    print_notes(selection)
    print(f"{'export':8} python -m analysis.export {folder}")


def make_wanted(
    members: int,
    metric: Literal["log-loss", "top1"],
    pick: Literal["knee", "best"],
    max_params: float | None,
    max_latency_ms: float | None,
    extras: bool,
    retrain: bool = False,
    refit: "Refit" = "no",
) -> "Wanted":
    """The options as the selection takes them; UsageError for limits below zero."""
    from analysis.front import Limits
    from analysis.selection import Wanted

    for option, value in (("--max-params", max_params), ("--max-latency-ms", max_latency_ms)):
        if value is not None and not value > 0:
            raise UsageError(f"{option} {value:g}: must be above 0")
    limits = Limits(members, None if max_params is None else int(max_params), max_latency_ms)
    return Wanted(limits, metric, pick, extras, retrain, refit)


def front_table(selection: "Selection") -> "Table":
    """One row for each number of members, the chosen one marked."""
    from rich.table import Table
    from rich.text import Text

    from analysis.figures import figures_on_select

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("", "select top-1", "log loss", "out of bag", "parameters", "ms an image", "members"):
        table.add_column(title, justify="left" if title in ("", "members") else "right")
    for choice in selection.front:
        figures = figures_on_select(selection, choice)
        names = (
            f"{weight:.0%} {selection.library.candidates[index].trial}"
            for index, weight in zip(choice.members, choice.weights, strict=True)
        )
        cost = f"{choice.cost.parameters:,}", f"{choice.cost.latency_ms:.1f}"
        mark = "->" if choice == selection.choice else ""
        scores = f"{figures.top1:.2%}", f"{figures.loss:.4f}", f"{choice.out_of_bag:.4f}"
        table.add_row(mark, *scores, *cost, Text(printable(", ".join(names))))
    return table


def print_notes(selection: "Selection") -> None:
    """What was tried beside single trials."""
    for note in selection.notes:
        print(f"{'tried':8} {printable(note)}")


if __name__ == "__main__":
    run_app(app)
