"""Whether the ensemble is as often right as it says: its reliability diagram before and after calibration."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.manifest import Manifest
from analysis.pages.ensemble_tables import AFTER, BEFORE, Measured, calibration_table, reliability_table
from analysis.pages.palette import ACCENT, COLOURS, NEUTRAL
from analysis.pages.png import new_figure
from analysis.pages.section import Section
from analysis.pages.text import count, listed, share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOKS = {BEFORE: (COLOURS[1], "dash", "--"), AFTER: (ACCENT, "solid", "-")}
"""Colour and line: plotly's, matplotlib's."""
LARGEST_MARK = 22
"""Width in pixels of the mark of a bin that has all images."""


def calibration_section(measured: Measured) -> Section:
    """Accuracy against confidence on holdout."""
    bins, measures = reliability_table(measured), calibration_table(measured.manifest)
    return Section(
        "calibration", "Can its confidence be trusted?", caption(measured.manifest, bins, measures), draw(bins), NOTE,
        readable(bins, measures), partial(draw_png, bins),
    )  # fmt: skip


NOTE = (
    '<p class="note">ECE, the expected calibration error, in 15 bins of equal width: Guo, Pleiss, Sun, Weinberger: '
    '<a href="https://arxiv.org/abs/1706.04599">On Calibration of Modern Neural Networks</a>, ICML 2017. '
    "Larger marks stand for more images.</p>"
)


def caption(manifest: Manifest, bins: pd.DataFrame, measures: pd.DataFrame) -> str:
    """What calibration changed, and which way the ensemble errs now."""
    after = bins[bins["calibration"] == AFTER]
    images = int(after["count"].sum())
    confidence, accuracy = (
        float((after[of].fillna(0) * after["count"]).sum() / images) for of in ("confidence", "accuracy")
    )
    changes = [f"the {row.measure} from {row.before:.3f} to {row.after:.3f}" for row in measures.itertuples()]
    how = (
        "as sure as"
        if abs(confidence - accuracy) < 0.005
        else "surer than"
        if confidence > accuracy
        else "less sure than"
    )
    return (
        f"Calibration on select changes, on {count(images, 'holdout image')}, {listed(changes)}; lower is better. "
        f"Now the ensemble is {how} it is right: {share(confidence)} mean confidence, {share(accuracy)} of its first "
        f"guesses right. Its temperature is {manifest.temperature:.2f}."
    )


def readable(bins: pd.DataFrame, measures: pd.DataFrame) -> pd.DataFrame:
    """The measures, then the accuracy of each bin that has images."""
    rows = [(row.measure, f"{row.before:.4f}", f"{row.after:.4f}") for row in measures.itertuples()]
    for (low, high), pair in bins.groupby(["low", "high"]):
        if not pair["count"].any():
            continue
        cells = {
            calibration: f"{share(accuracy)} of {images:,}" if images else "-"
            for calibration, accuracy, images in zip(pair["calibration"], pair["accuracy"], pair["count"], strict=True)
        }
        rows.append((f"right where confidence is {low:.0%} to {high:.0%}", cells[BEFORE], cells[AFTER]))
    return pd.DataFrame(rows, columns=["", "before calibration", "after calibration"])


def marks(counts: pd.Series) -> pd.Series:
    """Width of a bin's mark in pixels: its area says how many of the images it has."""
    return 5 + (LARGEST_MARK - 5) * np.sqrt(counts / counts.sum())


def draw(bins: pd.DataFrame) -> go.Figure:
    """Both curves and the diagonal."""
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": NEUTRAL, "dash": "dot", "width": 1.5}, name="as it says",
        hoverinfo="skip",
    )  # fmt: skip
    for name, (colour, dash, _) in LOOKS.items():
        shown = bins[(bins["calibration"] == name) & (bins["count"] > 0)]
        figure.add_scatter(
            x=shown["confidence"], y=shown["accuracy"], mode="lines+markers", name=f"{name} calibration",
            line={"color": colour, "dash": dash, "width": 2}, customdata=shown["count"],
            marker={"size": marks(shown["count"]), "line": {"width": 0}},
            hovertemplate="%{customdata:,} images: %{x:.1%} confident, %{y:.1%} right<extra></extra>",
        )  # fmt: skip
    figure.update_layout(
        height=420,
        xaxis={"title": {"text": "mean confidence"}, "tickformat": ".0%", "range": [-0.02, 1.04]},
        yaxis={"title": {"text": "share of right first guesses"}, "tickformat": ".0%", "range": [-0.04, 1.06]},
    )
    return figure


def draw_png(bins: pd.DataFrame) -> "Figure":
    """The same by matplotlib."""
    figure = new_figure(5, 5.5)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=NEUTRAL, linestyle=":", label="as it says")
    for name, (colour, _, style) in LOOKS.items():
        shown = bins[(bins["calibration"] == name) & (bins["count"] > 0)]
        axes.plot(shown["confidence"], shown["accuracy"], color=colour, linestyle=style, label=f"{name} calibration")
        axes.scatter(shown["confidence"], shown["accuracy"], marks(shown["count"]) ** 2 / 2, color=colour)
    axes.set(xlabel="mean confidence", ylabel="share of right first guesses", xlim=(-0.02, 1.04), ylim=(-0.04, 1.06))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:.0%}")
    axes.legend(frameon=False)
    return figure
