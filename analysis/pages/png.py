"""Empty figures for PNG files. Matplotlib takes as long to import as all plots of a page, so only this imports it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDTH = 9.0
"""Inches of a figure that doesn't say."""


def new_figure(height: float, width: float = WIDTH) -> "Figure":
    """A figure of so many inches, whose parts arrange themselves."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def whole_numbers(axis: "Axis") -> None:
    """Ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))
