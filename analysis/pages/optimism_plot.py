"""How much too good the figures on select are, beside those on holdout."""

from functools import partial
from typing import TYPE_CHECKING

import pandas as pd
import plotly.graph_objects as go

from analysis.manifest import Manifest
from analysis.pages.ensemble_tables import optimism_table
from analysis.pages.palette import ACCENT, COLOURS, NEUTRAL
from analysis.pages.png import new_figure
from analysis.pages.section import Section
from analysis.pages.text import count, plot_text, points, share

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def optimism_section(manifest: Manifest) -> Section:
    """Top-1 on both splits of the ensemble, its members and the best single trial."""
    table = optimism_table(manifest)
    return Section(
        "optimism", "Select against holdout", caption(manifest, table), draw(table), table=readable(table),
        png=partial(draw_png, table),
    )  # fmt: skip


def caption(manifest: Manifest, table: pd.DataFrame) -> str:
    """The optimism, and what it comes from."""
    together = table.iloc[0]
    outside = not together["low"] <= together["select"] <= together["high"]
    return (
        f"On select the ensemble reaches {share(together['select'])}, on holdout {share(together['holdout'])}: an "
        f"optimism of {points(together['optimism'])}. The search and the choice of members looked at the "
        f"{count(manifest.select.images, 'select image')}; the {count(manifest.holdout.images, 'holdout image')} "
        f"decided nothing. The select figure lies {'outside' if outside else 'within'} the 95 % interval of holdout, "
        f"{share(together['low'])} to {share(together['high'])}"
        + ("." if outside else ": the difference can be chance.")
        + (" The members were trained again on train and select after this was measured." if manifest.refit else "")
    )


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table for people."""
    interval = [f"{share(low)} to {share(high)}" for low, high in zip(table["low"], table["high"], strict=True)]
    return pd.DataFrame(
        {
            "": table["what"],
            "select top-1": table["select"].map(lambda value: share(value, 2)),
            "holdout top-1": table["holdout"].map(lambda value: share(value, 2)),
            "95 % interval": interval,
            "optimism": table["optimism"].map(points),
        }
    )


def draw(table: pd.DataFrame) -> go.Figure:
    """A row each: select, holdout with its interval, and a line between."""
    figure, places = go.Figure(), list(range(len(table)))
    names = table["what"].map(plot_text)
    for row in table.itertuples():
        figure.add_scatter(
            x=[row.select, row.holdout], y=[row.Index] * 2, mode="lines", line={"color": NEUTRAL, "width": 3},
            opacity=0.5, hoverinfo="skip", showlegend=False,
        )  # fmt: skip
    bars = {"array": table["high"] - table["holdout"], "arrayminus": table["holdout"] - table["low"], "thickness": 1}
    for split, colour, symbol in (("select", COLOURS[1], "circle-open"), ("holdout", ACCENT, "circle")):
        figure.add_scatter(
            x=table[split], y=places, mode="markers", name=split, text=names,
            marker={"color": colour, "size": 11, "symbol": symbol, "line": {"width": 2, "color": colour}},
            error_x=bars if split == "holdout" else None,
            hovertemplate=f"%{{text}}: %{{x:.2%}} on {split}<extra></extra>",
        )  # fmt: skip
    figure.update_yaxes(tickmode="array", tickvals=places, ticktext=list(names), range=[len(table) - 0.5, -0.5])
    figure.update_yaxes(showgrid=False, zeroline=False)
    figure.update_xaxes(title={"text": "top-1"}, tickformat=".0%")
    figure.update_layout(height=150 + 38 * len(table))
    return figure


def draw_png(table: pd.DataFrame) -> "Figure":
    """The same by matplotlib."""
    figure = new_figure(1.4 + 0.45 * len(table))
    axes = figure.add_subplot()
    axes.hlines(table.index, table["select"], table["holdout"], color=NEUTRAL, linewidth=3, alpha=0.5)
    axes.plot(table["select"], table.index, "o", color=COLOURS[1], markerfacecolor="none", label="select")
    bars = (table["holdout"] - table["low"], table["high"] - table["holdout"])
    axes.errorbar(table["holdout"], table.index, xerr=bars, fmt="o", color=ACCENT, elinewidth=1, label="holdout")
    axes.set_yticks(table.index, table["what"])
    axes.set(xlabel="top-1", ylim=(len(table) - 0.5, -0.5))
    axes.xaxis.set_major_formatter("{x:.0%}")
    figure.legend(frameon=False, loc="outside upper right", ncols=2)
    return figure
