"""Learning curves: select top-1 by epoch, a line a trial, with a point a step."""

import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.pages.palette import ALARM, NEUTRAL, architecture_colours
from analysis.pages.png import new_figure, whole_numbers
from analysis.pages.records import Search
from analysis.pages.section import Section
from analysis.pages.text import compact, count, listed, plot_text, share
from trainable import metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BEST, SAMPLED = 300, 200
"""Trials with a line: so many of the best, and of the rest a sample."""
FEW = 12
"""Epochs that each have a number below them."""
SHORT = 2
"""Epochs up to which fractions have numbers too, if there are several steps an epoch."""
LONGEST = 60
"""Points of a line; longer curves are thinned."""

SYMBOLS = {
    "finished": ("circle", "o"),
    "stopped": ("square", "s"),
    "paused": ("circle-open", "o"),
    "running": ("triangle-right", ">"),
    "interrupted": ("triangle-right-open", ">"),
    "diverged": ("x-thin-open", "x"),
    "failed": ("cross-thin-open", "+"),
}
"""How the end of a line looks by the trial's state: plotly's marker, matplotlib's."""
BROKEN = ("diverged", "failed")


def shown_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """The rows of the trials that get a line, best first: `BEST` and a fixed sample of `SAMPLED` others."""
    begun = trials[trials["epochs"] > 0]
    rest = begun.iloc[BEST:]
    return pd.concat([begun.iloc[:BEST], rest.sample(min(SAMPLED, len(rest)), random_state=0).sort_index()])


def curve_points(search: Search) -> pd.DataFrame:
    """trial, arch, epoch and select_top1 of what is drawn, in order; a row with NaN ends each trial."""
    shown = search.scored[search.scored["trial"].isin(shown_trials(search.trials)["trial"])]
    columns = ["trial", "arch", metrics.EPOCH, metrics.SELECT_TOP1]
    trials = shown.groupby("trial")
    number, to_come = trials.cumcount(), trials.cumcount(ascending=False)
    every = math.ceil((number.max() + 1) / LONGEST) if len(shown) else 1
    kept = shown.loc[(number % every == 0) | (to_come == 0), columns]
    ends = kept.groupby("trial").tail(1).assign(**{metrics.SELECT_TOP1: np.nan})
    ends[metrics.EPOCH] += 0.5
    return pd.concat([kept, ends]).sort_values(["arch", "trial", metrics.EPOCH], ignore_index=True)


def curve_ends(search: Search) -> pd.DataFrame:
    """trial, arch, state, epoch and top1 (the last that was scored, else 0) where each drawn line ends."""
    shown = shown_trials(search.trials)[["trial", "arch", "state", "epochs"]].rename(columns={"epochs": "epoch"})
    last = search.scored.groupby("trial")[metrics.SELECT_TOP1].last()
    return shown.assign(top1=shown["trial"].map(last).fillna(0.0))


def rungs(search: Search) -> list[float]:
    """Epochs below the full length at which trials were compared, from the plan's steps; empty where it has none."""
    plan = search.plan
    first, factor = plan.get("first_rung"), plan.get("reduction_factor")
    if not first or not factor or factor <= 1 or plan.get("scheduler") in ("none", "median", "pbt"):
        return []
    levels = math.ceil(math.log(max(1, search.full_steps / first), factor))
    steps = sorted({int(first * factor**level) for level in range(levels)})
    return [step * search.step_epochs for step in steps if step < search.full_steps]


def curves_section(search: Search) -> Section:
    """The learning curves with what ended each."""
    points, ends = curve_points(search), curve_ends(search)
    return Section(
        key="curves",
        title="Learning curves",
        caption=caption(search, len(ends)),
        figure=draw(search, points, ends) if len(ends) else None,
        table=curves_table(search.trials),
        png=partial(draw_png, search, points, ends) if len(ends) else None,
    )


def caption(search: Search, drawn: int) -> str:
    """What the curves say, and how many of them are drawn."""
    if not drawn:
        return "No trial has finished a step yet."
    trials, marked = search.trials, rungs(search)
    states = listed([f"{number:,} {state}" for state, number in trials["state"].value_counts().items()])
    best = trials.iloc[0]
    epoch = compact(best[metrics.BEST_EPOCH])
    reached = f"{best['trial']} reached the most, {share(best[metrics.BEST_TOP1])} at epoch {epoch}"
    begun = int((trials["epochs"] > 0).sum())
    thinned = f" Drawn are the best {BEST} and a sample of {drawn - BEST} of the other {begun - BEST:,}."
    return (
        f"Of {count(len(trials), 'trial')}, {states}. {reached if best[metrics.BEST_EPOCH] else 'None has a score'}."
        + (f" Dotted lines are the rungs (epochs {listed([compact(rung) for rung in marked])})." if marked else "")
        + (thinned if begun > drawn else "")
    )


def curves_table(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials as the page lists them."""
    return pd.DataFrame(
        {
            "trial": trials["trial"],
            "architecture": trials["arch"],
            "state": trials["state"],
            "epochs": trials["epochs"].map(compact),
            "best epoch": trials[metrics.BEST_EPOCH].map(compact),
            "select top-1": trials[metrics.BEST_TOP1].map(lambda value: share(value, 2)),
            "select loss": trials[metrics.SELECT_LOSS].map("{:.3f}".format, na_action="ignore"),
        }
    )


def opacity(lines: int) -> float:
    """The more lines, the fainter each."""
    return min(0.85, max(0.2, 12 / max(1, lines) ** 0.75))


def draw(search: Search, points: pd.DataFrame, ends: pd.DataFrame) -> go.Figure:
    """A trace for each architecture's lines, one for the ends of each state, and the best trial on top."""
    figure, colours = go.Figure(), architecture_colours(search.trials["arch"])
    for arch, lines in by_name(points, "arch"):
        figure.add_scatter(
            x=lines[metrics.EPOCH], y=lines[metrics.SELECT_TOP1], mode="lines", legendgroup=arch, showlegend=False,
            line={"color": colours[arch], "width": 1.4}, opacity=opacity(len(ends)), hoverinfo="skip",
        )  # fmt: skip
        figure.add_scatter(
            x=[None], y=[None], mode="lines", name=plot_text(arch), legendgroup=arch,
            line={"color": colours[arch], "width": 3},
        )  # fmt: skip
    for state, rows in by_name(ends, "state"):
        add_ends(figure, state, rows, colours)
    best = points[points["trial"] == search.trials.iloc[0]["trial"]].iloc[:-1]
    figure.add_scatter(
        x=best[metrics.EPOCH], y=best[metrics.SELECT_TOP1], mode="lines", name="the best trial",
        line={"color": colours[search.trials.iloc[0]["arch"]], "width": 4}, hoverinfo="skip",
    )  # fmt: skip
    for rung in rungs(search):
        figure.add_vline(x=rung, line={"color": NEUTRAL, "width": 1, "dash": "dot"}, layer="below")
    figure.update_layout(
        height=460,
        xaxis={"title": {"text": "epoch"}, "range": [0, 1.03 * search.full_epochs], "tickformat": ",~g",
               "dtick": 1 if has_whole_ticks(search) and search.full_epochs <= FEW else None},
        yaxis={"title": {"text": "select top-1"}, "tickformat": ".0%"},
    )  # fmt: skip
    return figure


def has_whole_ticks(search: Search) -> bool:
    """Whether only whole epochs have a number below them: also where nothing happens between them."""
    return search.full_epochs > SHORT or search.step_epochs >= 1


def by_name(frame: pd.DataFrame, column: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each name that stands in the column."""
    return ((str(name), rows) for name, rows in frame.groupby(column))


def add_ends(figure: go.Figure, state: str, rows: pd.DataFrame, colours: dict[str, str]) -> None:
    """Markers in the colours of the lines that they end, and one in grey for the legend."""
    symbol = SYMBOLS[state][0]
    marker: dict[str, Any] = {"symbol": symbol, "size": 7, "line": {"width": 1.5 if symbol.endswith("open") else 0}}
    own = ALARM if state in BROKEN else rows["arch"].map(colours)
    figure.add_scatter(
        x=rows["epoch"], y=rows["top1"], mode="markers", showlegend=False, marker=marker | {"color": own},
        text=rows["trial"].map(plot_text),
        hovertemplate=f"%{{text}}, {state}<br>epoch %{{x:,.4~r}}: %{{y:.2%}}<extra></extra>",
    )  # fmt: skip
    legend = ALARM if state in BROKEN else NEUTRAL
    figure.add_scatter(x=[None], y=[None], mode="markers", name=state, marker=marker | {"color": legend})


def draw_png(search: Search, points: pd.DataFrame, ends: pd.DataFrame) -> "Figure":
    """The same by matplotlib."""
    figure = new_figure(5)
    axes, colours = figure.add_subplot(), architecture_colours(search.trials["arch"])
    for arch, lines in by_name(points, "arch"):
        axes.plot(
            lines[metrics.EPOCH], lines[metrics.SELECT_TOP1], color=colours[arch], alpha=opacity(len(ends)), label=arch
        )
    for state, rows in by_name(ends, "state"):
        own = ALARM if state in BROKEN else rows["arch"].map(colours)
        filled = state in ("finished", "running", "stopped", *BROKEN)
        faces: dict[str, Any] = {"c": own} if filled else {"facecolors": "none", "edgecolors": own}
        axes.scatter(rows["epoch"], rows["top1"], marker=SYMBOLS[state][1], s=30, **faces)
    for rung in rungs(search):
        axes.axvline(rung, color=NEUTRAL, linewidth=1, linestyle=":")
    axes.set(xlabel="epoch", ylabel="select top-1", xlim=(0, 1.03 * search.full_epochs))
    if has_whole_ticks(search):
        whole_numbers(axes.xaxis)
    axes.yaxis.set_major_formatter("{x:.0%}")
    if len(colours) > 1:
        axes.legend(frameon=False, fontsize="small")
    return figure
