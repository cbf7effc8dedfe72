"""Trials as a table for people."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from trainable import metrics

if TYPE_CHECKING:
    from pandas import DataFrame

UNWRAPPED = 10_000
"""Characters a line where stdout is no terminal, so that logs and pipes get whole rows and paths."""

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
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        words = trials[name].dtype.kind not in "fiu"
        longest = max((len(cell_text(name, value)) for value in trials[name]), default=0)
        title = TITLES.get(name, name)
        # the name of a trial is what one copies: on a narrow terminal the others give way
        width = longest if name == "trial" else None
        table.add_column(title, justify="left" if words else "right", no_wrap=width is not None, min_width=width)
    for row in trials[list(columns)].itertuples(index=False):
        table.add_row(*(cell_text(name, value) for name, value in zip(columns, row, strict=True)))
    return table


def cell_text(name: str, value: Any) -> str:
    """One value as people read it."""
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
    return str(value)
