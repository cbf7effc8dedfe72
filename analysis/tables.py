"""Trials as a table for people."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainable import metrics
from trainable.escape import printable

if TYPE_CHECKING:
    from pandas import DataFrame

UNWRAPPED = 10_000
"""Characters a line where stdout is no terminal, so that logs and pipes get whole rows and paths."""

GAP = 2
"""Characters between two columns."""

TITLES = {
    metrics.BEST_EPOCH: "best epoch",
    metrics.BEST_TOP1: "select top-1",
    metrics.SELECT_TOP5: "top-5",
    metrics.SELECT_LOSS: "loss",
    "has_weights": "weights",
}
"""Headings of columns whose name isn't one."""


def wide_console() -> Console:
    """A console that never wraps or shortens where stdout is no terminal."""
    return Console() if sys.stdout.isatty() else Console(width=UNWRAPPED)


def trials_table(trials: "DataFrame", columns: Sequence[str]) -> Table:
    """The named columns of `analysis.experiment.load_experiment`, in its order."""
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for name in columns:
        words = trials[name].dtype.kind not in "fiu"
        # the name of a trial is what one copies: on a narrow terminal the others give way
        width = longest_text(trials, name) if name == "trial" else None
        title = Text(column_title(name))  # not a plain string, in which rich would look for markup
        table.add_column(title, justify="left" if words else "right", no_wrap=width is not None, min_width=width)
    for row in trials[list(columns)].itertuples(index=False):
        table.add_row(*(Text(cell_text(name, value)) for name, value in zip(columns, row, strict=True)))
    return table


def fitting_columns(trials: "DataFrame", columns: Sequence[str], width: int) -> list[str]:
    """The leading ones of the columns that fit on a line of `width` characters; the first in any case."""
    fitting, used = list(columns[:1]), longest_text(trials, columns[0])
    for name in columns[1:]:
        used += GAP + longest_text(trials, name)
        if used > width:
            break
        fitting.append(name)
    return fitting


def longest_text(trials: "DataFrame", name: str) -> int:
    """Characters of a column's longest cell or of its title."""
    return max(len(column_title(name)), *(len(cell_text(name, value)) for value in trials[name]))


def column_title(name: str) -> str:
    """The heading of a column: names of configuration values come from a trial's params.json."""
    return TITLES.get(name) or printable(name)


def cell_text(name: str, value: Any) -> str:
    """One value as people read it; the names of trials and architectures are what some file says."""
    if value is None or value != value:  # NaN: the only value that differs from itself
        return "-"
    if name in (metrics.BEST_TOP1, metrics.SELECT_TOP5):
        return f"{value:.2%}"
    if name == "seconds":
        return f"{value:.0f}"
    if name == "has_weights":
        return "yes" if value else "no"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{value:.3g}"
    return printable(str(value))
