"""What an ensemble gains by its members, and what it costs."""

from functools import partial
from typing import TYPE_CHECKING

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.manifest import Manifest
from analysis.pages.palette import ACCENT, COLOURS
from analysis.pages.png import new_figure
from analysis.pages.section import Section
from analysis.pages.text import count, plot_text, points, share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPLITS = {"select": (COLOURS[1], "dash", "--"), "holdout": (ACCENT, "solid", "-")}
"""Colour and line of each: plotly's, matplotlib's."""
MEASURES = {"top1": "top-1", "loss": "loss (nats)"}
NOTHING = "This export tells of no other numbers of members."


def gain_section(manifest: Manifest, table: pd.DataFrame) -> Section:
    """Top-1 and loss of the best ensemble of each size, by its `front_table`."""
    key, title = "ensemble-gain", "What each member adds"
    if table.empty:
        return Section(key, title, NOTHING)
    text = gain_caption(manifest, table)
    png = partial(draw_gain_png, table)
    return Section(key, title, text, draw_gain(table), table=readable(table), png=png)


def gain_caption(manifest: Manifest, table: pd.DataFrame) -> str:
    """What the exported members gain over the best trial, and what more would."""
    gain, members = manifest.gain, len(manifest.members)
    single, together = manifest.single.holdout, manifest.holdout
    text = (
        f"The ensemble of {count(members, 'member')} (star) reaches {share(together.top1)} on holdout, the best trial "
        f"alone {share(single.top1)}: {points(gain.difference)}, paired 95 % interval {points(gain.low)} to "
        f"{points(gain.high)}. The loss goes from {single.loss:.3f} to {together.loss:.3f} nats."
    )
    last = table.iloc[-1]
    if table["chosen"].any() and last["members"] > members:
        here = table.loc[table["chosen"]].iloc[0]
        text += (
            f" On select, {last['members']} members reach {share(last['select_top1'])} and "
            f"{last['select_loss']:.3f} nats, the exported ones {share(here['select_top1'])} and "
            f"{here['select_loss']:.3f}."
        )
    if table["holdout_top1"].isna().any():
        text += " Holdout is shown for ensembles of exported members."
    return text


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The front for people."""
    columns: dict[str, object] = {
        "members": table["members"],
        "exported": table["chosen"].map({True: "yes", False: ""}),
        "parameters": table["parameters"].map("{:,}".format),
        "ms an image": table["latency_ms"].map(milliseconds),
    }
    for split in SPLITS:
        columns[f"{split} top-1"] = table[f"{split}_top1"].map(lambda value: share(value, 2))
        columns[f"{split} loss"] = table[f"{split}_loss"]
    return pd.DataFrame(columns | {"trials": table["trials"]})


def error_bars(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Lengths of the holdout interval above and below its top-1."""
    top1 = table["holdout_top1"]
    return table["holdout_top1_high"] - top1, top1 - table["holdout_top1_low"]


def stars(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Plotly's marks: a star for the exported ensemble."""
    return {
        "size": table["chosen"].map({True: 15, False: 7}),
        "symbol": table["chosen"].map({True: "star", False: "circle"}),
    }


def draw_gain(table: pd.DataFrame) -> go.Figure:
    """Top-1 above, loss below, by number of members."""
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.09)
    above, below = error_bars(table)
    for row, (measure, title) in enumerate(MEASURES.items(), start=1):
        for split, (colour, dash, _) in SPLITS.items():
            bars = {"array": above, "arrayminus": below, "thickness": 1} if (split, row) == ("holdout", 1) else None
            figure.add_scatter(
                row=row, col=1, x=table["members"], y=table[f"{split}_{measure}"], mode="lines+markers", name=split,
                line={"color": colour, "dash": dash, "width": 2}, showlegend=row == 1, error_y=bars,
                marker=stars(table),
                text=table["trials"].map(plot_text),
                hovertemplate=f"{split} %{{y:{'.2%' if row == 1 else '.3f'}}}<br>%{{text}}<extra></extra>",
            )  # fmt: skip
        figure.update_yaxes(title={"text": title}, tickformat=".1%" if row == 1 else "", row=row, col=1)
    figure.update_xaxes(tickmode="array", tickvals=table["members"])
    figure.update_xaxes(title={"text": "members"}, row=2, col=1)
    figure.update_layout(height=500)
    return figure


def draw_gain_png(table: pd.DataFrame) -> "Figure":
    """The same by matplotlib."""
    figure = new_figure(4)
    above, below = error_bars(table)
    for axes, (measure, title) in zip(figure.subplots(1, 2), MEASURES.items(), strict=True):
        for split, (colour, _, style) in SPLITS.items():
            values = table[f"{split}_{measure}"]
            axes.plot(table["members"], values, color=colour, linestyle=style, marker="o", label=split)
            axes.plot(table["members"][table["chosen"]], values[table["chosen"]], "*", color=colour, markersize=14)
        axes.set(xlabel="members", ylabel=title, xticks=table["members"])
    left, right = figure.axes
    left.errorbar(table["members"], table["holdout_top1"], (below, above), fmt="none", color=ACCENT, alpha=0.5)
    left.yaxis.set_major_formatter("{x:.1%}")
    right.legend(frameon=False)
    return figure


def size_section(manifest: Manifest, table: pd.DataFrame) -> Section:
    """Top-1 of the front against its parameters."""
    key, title = "ensemble-size", "Accuracy against size"
    if table.empty:
        return Section(key, title, NOTHING)
    text, shown = size_caption(manifest, table), table.sort_values("parameters", kind="stable")
    png = partial(draw_size_png, shown)
    return Section(key, title, text, draw_size(shown), table=readable(table), png=png)


def size_caption(manifest: Manifest, table: pd.DataFrame) -> str:
    """What the exported members have, beside the best member alone."""
    sizes = [member.parameters for member in manifest.members]
    best = max(manifest.members, key=lambda member: member.select.top1)
    text = (
        f"The ensemble (star) has {count(len(sizes), 'member')} with {millions(sum(sizes))} parameters"
        f"{' together' * (len(sizes) > 1)}, and reaches {share(manifest.holdout.top1)} on holdout."
    )
    if len(sizes) > 1:
        text += (
            f" {best.trial}, the best of them on select, has {millions(best.parameters)} and reaches "
            f"{share(best.holdout.top1)} alone."
        )
    waits = table.loc[table["chosen"], "latency_ms"].dropna()
    if len(waits):
        text += f" One image takes {milliseconds(waits.iloc[0])} ms on the machine that exported."
    return text


def millions(parameters: int) -> str:
    """11,200,000 as `11.2 million`."""
    return f"{parameters / 1e6:.3g} million"


def milliseconds(value: float) -> str:
    """Three digits, and more from 1,000 on; a dash where it wasn't measured."""
    return "-" if value != value else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def draw_size(table: pd.DataFrame) -> go.Figure:
    """The front on both splits."""
    figure = go.Figure()
    for split, (colour, dash, _) in SPLITS.items():
        figure.add_scatter(
            x=table["parameters"], y=table[f"{split}_top1"], mode="lines+markers", name=split,
            line={"color": colour, "dash": dash, "width": 2}, marker=stars(table), text=table["trials"].map(plot_text),
            hovertemplate=f"%{{text}}<br>%{{x:,}} parameters: %{{y:.2%}} on {split}<extra></extra>",
        )  # fmt: skip
    figure.update_layout(
        height=380,
        xaxis={"title": {"text": "parameters"}, "rangemode": "tozero"},
        yaxis={"title": {"text": "top-1"}, "tickformat": ".1%"},
    )
    return figure


def draw_size_png(table: pd.DataFrame) -> "Figure":
    """The same by matplotlib."""
    figure = new_figure(4)
    axes = figure.add_subplot()
    for split, (colour, _, style) in SPLITS.items():
        x, y, chosen = table["parameters"] / 1e6, table[f"{split}_top1"], table["chosen"]
        axes.plot(x, y, color=colour, linestyle=style, marker="o", label=split)
        axes.plot(x[chosen], y[chosen], "*", color=colour, markersize=14)
    axes.set(xlabel="million parameters", ylabel="top-1")
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter("{x:.1%}")
    axes.legend(frameon=False)
    return figure
