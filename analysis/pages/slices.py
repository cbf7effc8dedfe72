"""Each hyper-parameter against the score, and what good trials have in common: Optuna's plots, fitted to the page."""

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from optuna.visualization import plot_parallel_coordinate, plot_slice
from plotly.colors import sample_colorscale

from analysis.pages.palette import SCALE
from analysis.pages.section import Section
from analysis.pages.study import Comparable, study_of, thinned, varying
from analysis.pages.text import compact, count, plot_text
from trainable.escape import printable

MOST_DRAWN = 250
"""Trials with a point in each slice."""
MOST_LINES = 60
"""Trials with a line in the parallel coordinates, best first: each is a trace of its own."""
IN_A_ROW = 4
"""Slices beside each other."""
ROW_PX, WORDS_PX, NUMBERS_PX = 140, 110, 55
"""Heights of a slice, and of what is below it: words or numbers, and the name of the next."""
AXIS_PX = 105
"""Width of one axis of the parallel coordinates, below which the words overlap."""


def slices_section(known: Comparable) -> Section:
    """Optuna's slice plot, in rows of a few."""
    drawn = thinned(known.study, MOST_DRAWN)
    best = drawn.best_trial
    values = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in best.params.items()
    )
    text = (
        f"Each point is a trial, its height its score after epoch {compact(known.epoch)}; orange points came last, so "
        f"one sees where the search went. The best then had {printable(values)}."
    )
    return Section("slices", "Each hyper-parameter by itself", text, in_rows(plot_slice(drawn, params=varying(drawn))))


def in_rows(figure: go.Figure) -> go.Figure:
    """Optuna's row of slices as rows of `IN_A_ROW`, each slice with its name above it."""
    axes, scores = list(figure.select_xaxes()), list(figure.select_yaxes())
    columns = min(IN_A_ROW, len(axes))
    rows = [axes[start : start + columns] for start in range(0, len(axes), columns)]
    gaps = [WORDS_PX if any(axis.type == "category" for axis in row) else NUMBERS_PX for row in rows]
    height, top = len(rows) * ROW_PX + sum(gaps), 0
    for place, (axis, score, trace) in enumerate(zip(axes, scores, figure.data, strict=True)):
        row, column = divmod(place, columns)
        top = row * ROW_PX + sum(gaps[:row])
        left, upper, lower = column / columns, 1 - top / height, 1 - (top + ROW_PX) / height
        figure.add_annotation(
            text=plot_text(axis.title.text), showarrow=False, xref="paper", yref="paper", x=left, y=upper,
            xanchor="left", yanchor="bottom",
        )  # fmt: skip
        axis.update(domain=[left, left + 0.86 / columns], title=None, **ticks(axis, trace.x))
        score.update(domain=[lower, upper], title=None, tickformat=".0%", nticks=6, showticklabels=column == 0)
        trace.update(x=[unquoted(value) for value in trace.x])
    marker = {"size": 6, "line": {"width": 0}, "opacity": 0.8, "colorscale": SCALE,
              "colorbar": {"xpad": 0, "thickness": 12, "title": {"text": "trial"}}}  # fmt: skip
    figure.update_traces(marker=marker, hovertemplate="%{x}: %{y:.2%}<extra></extra>")
    figure.update_layout(title=None, width=None, height=height + 40, margin={"t": 30, "b": 10}, meta={"min_width": 660})
    return figure


def ticks(axis: go.layout.XAxis, values: Sequence[Any]) -> dict[str, Any]:
    """What stands below a slice: few numbers, all categories, or the powers of ten within a logarithmic axis."""
    if axis.type == "category":
        return {"categoryarray": [unquoted(word) for word in axis.categoryarray], "tickangle": 90}
    if axis.type != "log" or not len(values):
        return {"nticks": 4, "tickformat": "~g", "tickangle": 0}
    low, high = min(values), max(values)
    powers = [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    return {"tickvals": powers if len(powers) > 1 else [low, *powers, high], "tickformat": ".2~g", "tickangle": 0}


def unquoted(value: object) -> object:
    """Optuna writes words of categories as Python does, 'so'."""
    return plot_text(value.strip("'")) if isinstance(value, str) else value


def parallel_section(known: Comparable) -> Section:
    """Optuna's parallel coordinates of the best trials."""
    trials = sorted(known.study.trials, key=lambda trial: trial.value or 0.0, reverse=True)[:MOST_LINES]
    figure = plot_parallel_coordinate(study_of(trials), params=varying(known.study), target_name="select top-1")
    recolour(figure)
    axes = len(figure.layout.xaxis.tickvals or ())
    figure.update_layout(
        title=None, height=420, margin={"t": 20, "l": 40}, plot_bgcolor=None, meta={"min_width": AXIS_PX * axes}
    )
    figure.update_xaxes(tickangle=0)
    figure.update_annotations(font={"color": None})
    text = (
        f"Each line is a trial, coloured by select top-1 after epoch {compact(known.epoch)}: where orange lines meet, "
        f"good trials agree. Drawn are {'the best ' if len(trials) < known.known else ''}{len(trials)} of "
        f"{count(known.known, 'trial')}."
    )
    return Section("parallel", "What good trials have in common", text, figure)


def recolour(figure: go.Figure) -> None:
    """Give the lines, and the bar that explains them, colours that also read on a dark page."""
    for trace in figure.data:
        if trace.mode == "lines":
            trace.update(line={"color": sample_colorscale(SCALE, [trace.y[0]])[0]}, opacity=0.7)
        else:
            trace.marker.update(colorscale=SCALE, reversescale=False, colorbar={"thickness": 12})
