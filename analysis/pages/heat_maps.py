"""A square of numbers as a heat map, by plotly and by matplotlib."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import plotly.graph_objects as go

from analysis.pages.png import new_figure
from analysis.pages.text import plot_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LETTER, SHORT_NAME = 7, 60
"""Pixels of a letter in a tick, and of a column's name, above which names don't fit beside each other."""
CELL, NARROWEST_CELL = 30, 24
"""Height of a cell and its least width, in pixels."""
MOST_WRITTEN = 16
"""Columns, above which numbers don't fit into their cells."""


class HeatMap(NamedTuple):
    """What is drawn; all arrays are (rows, columns)."""

    values: np.ndarray
    """What is coloured, from 0; NaN stays empty."""
    texts: np.ndarray
    """str: what stands in the cells."""
    notes: np.ndarray
    """str: what is told where one points, escaped."""
    rows: list[str]
    columns: list[str]
    row_title: str
    column_title: str
    colour: str
    """As `#rrggbb`, of the highest value."""


def draw(shown: HeatMap) -> go.Figure:
    """By plotly; the first row is on top."""
    red, green, blue = (int(shown.colour[at : at + 2], 16) for at in (1, 3, 5))
    figure = go.Figure()
    figure.add_heatmap(
        z=shown.values, customdata=shown.notes, hovertemplate="%{customdata}<extra></extra>", zmin=0,
        zmax=highest(shown.values), xgap=1, ygap=1, showscale=False, hoverongaps=True,
        colorscale=[[0, f"rgba({red},{green},{blue},0.04)"], [1, f"rgba({red},{green},{blue},0.75)"]],
    )  # fmt: skip
    if (
        len(shown.columns) <= MOST_WRITTEN
    ):  # points with the page's colour of text: a heat map's own can't be read on dark
        rows, columns = np.indices(shown.texts.shape)
        figure.add_scatter(
            x=columns.ravel(), y=rows.ravel(), text=shown.texts.ravel(), mode="text", hoverinfo="skip", showlegend=False
        )
    for update, title, names in (
        (figure.update_xaxes, shown.column_title, shown.columns),
        (figure.update_yaxes, shown.row_title, shown.rows),
    ):
        ticks = {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": [plot_text(n) for n in names]}
        update(title={"text": title}, showgrid=False, zeroline=False, **ticks)
    longest = LETTER * max(map(len, shown.columns))
    slanted = longest > SHORT_NAME
    figure.update_xaxes(tickangle=-45 if slanted else None)
    figure.update_yaxes(autorange="reversed")
    height = 150 + CELL * len(shown.rows) + (0.7 * longest if slanted else 0)
    width = 60 + LETTER * max(map(len, shown.rows)) + NARROWEST_CELL * len(shown.columns)
    figure.update_layout(height=max(300, height), meta={"min_width": width})
    return figure


def draw_png(shown: HeatMap) -> "Figure":
    """By matplotlib."""
    from matplotlib.colors import LinearSegmentedColormap

    side = 2.5 + 0.45 * len(shown.rows)
    figure = new_figure(side, side + 1)
    axes = figure.add_subplot()
    colours = LinearSegmentedColormap.from_list("shown", ["#ffffff", shown.colour])
    axes.imshow(shown.values, cmap=colours, vmin=0, vmax=highest(shown.values))
    for (row, column), text in np.ndenumerate(shown.texts if len(shown.columns) <= MOST_WRITTEN else np.empty((0, 0))):
        axes.text(column, row, text, ha="center", va="center", fontsize=9)
    axes.set_xticks(range(len(shown.columns)), shown.columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(shown.rows)), shown.rows)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)
    axes.set(xlabel=shown.column_title, ylabel=shown.row_title)
    return figure


def highest(values: np.ndarray) -> float:
    """The largest number; 1 where there is none above 0."""
    known = values[np.isfinite(values)]
    return float(known.max()) if known.size and known.max() > 0 else 1.0
