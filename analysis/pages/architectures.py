"""The architectures beside each other: what their trials reached, what an epoch takes, and how many survived."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.pages.palette import architecture_colours
from analysis.pages.png import new_figure
from analysis.pages.records import Search
from analysis.pages.section import Section
from analysis.pages.text import count, plot_text, share
from trainable import metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_POINTS = 300
"""Trials of an architecture with a point, best first."""


def architectures_table(search: Search) -> pd.DataFrame:
    """One row an architecture, the best first: arch, trials, survived (trained to the full length), failed (also
    diverged), best and median top-1, seconds (median of an epoch: training, evaluation and checkpoint) and hours."""
    trials = search.trials.assign(
        survived=search.trials["state"].eq("finished"), broken=search.trials["state"].isin(("failed", "diverged"))
    )
    grouped = trials.groupby("arch")
    table = pd.DataFrame(
        {
            "trials": grouped.size(),
            "survived": grouped["survived"].sum(),
            "failed": grouped["broken"].sum(),
            "best": grouped[metrics.BEST_TOP1].max(),
            "median": grouped[metrics.BEST_TOP1].median(),
        }
    )
    passes = search.steps["passes"].replace(0.0, float("nan"))  # a probe takes none
    steps = search.steps.assign(of_an_epoch=search.steps["seconds"] / passes).groupby("arch")
    table["seconds"], table["hours"] = steps["of_an_epoch"].median(), steps["seconds"].sum() / 3600
    return table.sort_values(["best", "trials"], ascending=False).reset_index()


def architectures_section(search: Search) -> Section:
    """Top-1 of all trials, and seconds an epoch, by architecture."""
    table = architectures_table(search)
    key, title = "architectures", "Architectures"
    if table["best"].isna().all():
        return Section(key, title, "No trial has a score yet.", table=readable(table))
    png = partial(draw_png, search, table)
    return Section(key, title, caption(table), draw(search, table), table=readable(table), png=png)


def caption(table: pd.DataFrame) -> str:
    """The best, the quickest, and who survived."""
    best, quickest = table.iloc[0], table.sort_values("seconds").iloc[0]
    if len(table) == 1:
        return (
            f"Only {best['arch']} was tried: {share(best['best'])} at best, {best['seconds']:.3g} s an epoch; "
            f"{best['survived']:,} of {count(int(best['trials']), 'trial')} went the full length."
        )
    second = table.iloc[1]
    behind = f", {second['arch']} {share(second['best'])}" if second["best"] == second["best"] else ""
    slower = (
        f", the quickest, {quickest['arch']}, {quickest['seconds']:.3g} s" if quickest["arch"] != best["arch"] else ""
    )
    return (
        f"{best['arch']} reached {share(best['best'])}{behind}. An epoch takes it {best['seconds']:.3g} s{slower}. "
        f"{table['survived'].sum():,} of {count(int(table['trials'].sum()), 'trial')} went the full length."
    )


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table for people."""
    return pd.DataFrame(
        {
            "architecture": table["arch"],
            "trials": table["trials"],
            "full length": table["survived"],
            "failed or diverged": table["failed"],
            "best top-1": table["best"].map(share),
            "median top-1": table["median"].map(share),
            "seconds an epoch": table["seconds"].map(lambda value: "-" if value != value else f"{value:.3g}"),
            "slot hours": table["hours"].fillna(0).map("{:.2f}".format),
        }
    )


def scattered(search: Search, arch: str) -> tuple[pd.DataFrame, np.ndarray]:
    """The best trials of an architecture, and for each a fixed place across its row, -0.3 to 0.3."""
    rows = search.trials[search.trials["arch"].eq(arch) & search.trials[metrics.BEST_TOP1].notna()].head(MOST_POINTS)
    return rows, np.random.default_rng(0).uniform(-0.3, 0.3, len(rows)) * (len(rows) > 1)


def draw(search: Search, table: pd.DataFrame) -> go.Figure:
    """A row of points an architecture, and a bar of its seconds."""
    figure = make_subplots(1, 2, column_widths=[0.68, 0.32], horizontal_spacing=0.06, shared_yaxes=True)
    colours, names = architecture_colours(search.trials["arch"]), list(table["arch"])[::-1]
    for place, arch in enumerate(names):
        rows, shift = scattered(search, arch)
        figure.add_scatter(
            row=1, col=1, x=rows[metrics.BEST_TOP1], y=place + shift, mode="markers",
            marker={"color": colours[arch], "size": 8, "opacity": 0.75},
            text=rows["trial"].map(plot_text), hovertemplate="%{text}: %{x:.2%}<extra></extra>",
        )  # fmt: skip
    ordered = table.iloc[::-1]
    figure.add_bar(
        row=1, col=2, x=ordered["seconds"], y=list(range(len(names))), orientation="h", width=0.5,
        marker={"color": [colours[arch] for arch in names]}, hovertemplate="%{x:.3g} s an epoch<extra></extra>",
    )  # fmt: skip
    ticks = {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": [plot_text(name) for name in names]}
    figure.update_yaxes(showgrid=False, zeroline=False, automargin=True, range=[-0.6, len(names) - 0.4], **ticks)
    figure.update_xaxes(title={"text": "best select top-1 of each trial"}, tickformat=".0%", row=1, col=1)
    figure.update_xaxes(title={"text": "seconds an epoch"}, rangemode="tozero", row=1, col=2)
    figure.update_layout(height=130 + 46 * len(names), showlegend=False)
    return figure


def draw_png(search: Search, table: pd.DataFrame) -> "Figure":
    """The same by matplotlib."""
    figure = new_figure(1.4 + 0.5 * len(table))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[2, 1])
    colours, names = architecture_colours(search.trials["arch"]), list(table["arch"])[::-1]
    for place, arch in enumerate(names):
        rows, shift = scattered(search, arch)
        left.scatter(rows[metrics.BEST_TOP1], place + shift, s=18, alpha=0.75, color=colours[arch])
    right.barh(range(len(names)), table["seconds"].iloc[::-1], 0.5, color=[colours[arch] for arch in names])
    left.set_yticks(range(len(names)), names)
    left.set(xlabel="best select top-1 of each trial")
    left.xaxis.set_major_formatter("{x:.0%}")
    right.set(xlabel="seconds an epoch")
    return figure
