"""One section of a page: what is looked at, what it says in words, and the numbers behind it."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure as Png
    from pandas import DataFrame
    from plotly.graph_objects import Figure


class Section(NamedTuple):
    """What a page shows under one heading; everything but key, title and caption may be left out."""

    key: str
    """Name of its anchor and of its PNG: lower-case letters and dashes, unique on the page."""
    title: str
    """Its heading, plain text."""
    caption: str
    """The finding in words, plain text: what sighted readers see below the heading, and screen readers for the plot."""
    figure: "Figure | None" = None
    """Plotly figure without template, width and colours of text and paper: the page sets those, light and dark."""
    html: str = ""
    """HTML that stands below the figure, already escaped."""
    table: "DataFrame | None" = None
    """The numbers behind the figure, as they are to be read; the page escapes the cells."""
    png: "Callable[[], Png] | None" = None
    """Draws the figure for `report/<key>.png`."""
