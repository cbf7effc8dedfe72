"""The best score so far against what it cost, beside what random search is expected to reach for the same."""

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.pages.palette import ACCENT, NEUTRAL
from analysis.pages.png import new_figure
from analysis.pages.records import Search
from analysis.pages.section import Section
from analysis.pages.text import compact, count, plot_text, share, slot_time, time_unit
from trainable import metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEEP = 0.02
"""Share of the cost within which the first trials' first steps shoot up."""
ROUNDING = 1e-6
"""Share of the full length by which sums of fractions may miss it."""
MOST_DRAWS = 200
"""Points of the random-search curve."""


class RandomSearch(NamedTuple):
    """What the best of k randomly drawn full trainings is expected to score (Dodge et al. 2019)."""

    draw_seconds: float
    """Of one full training: the mean over trials of their seconds an epoch, times the full length."""
    finished: int
    """Trials that were trained to their full length."""
    curve: pd.DataFrame
    """draws, seconds, low (from every trial's best score as far as it went, too low for stopped ones) and high (from
    the trials of full length, which were mostly picked for it; NaN where fewer than two)."""


def best_so_far(scored: pd.DataFrame) -> pd.DataFrame:
    """seconds and epochs (of all trials, added up in the order of their steps' ends), top1 and trial; a row a rise."""
    ordered = scored.sort_values(["timestamp", "trial", metrics.EPOCH], ignore_index=True)
    best = ordered[metrics.SELECT_TOP1].cummax()
    steps = pd.DataFrame(
        {
            "seconds": ordered["seconds"].cumsum(),
            "epochs": ordered["passes"].cumsum(),
            "top1": best,
            "trial": ordered["trial"],
        }
    )
    return steps[best.diff().ne(0)].reset_index(drop=True)


def expected_best(scores: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Expected highest of k draws with replacement from the scores, for each k in `draws`.

    The expected validation performance of Dodge et al., "Show Your Work" (EMNLP 2019), equation 1: the sum over the
    sorted scores v_i of v_i ((i/n)^k - ((i-1)/n)^k).
    """
    ordered = np.sort(scores)
    share_below = np.arange(len(ordered) + 1) / len(ordered)
    reached = share_below[None, :] ** np.asarray(draws, dtype=float)[:, None]
    return np.diff(reached, axis=1) @ ordered


def random_search(search: Search) -> RandomSearch:
    """The expectation for the budget that was spent, from this search's own trials."""
    trials, scored = search.trials, search.scored
    spent = scored.groupby("trial")[["seconds", "passes"]].sum()
    trained = spent[spent["passes"] > 0]
    a_draw = float(spent["seconds"].mean())  # of probes alone
    if len(trained):
        a_draw = float((trained["seconds"] / trained["passes"]).mean()) * search.full_epochs
    affordable = max(1, int(scored["seconds"].sum() / a_draw)) if a_draw else 1
    draws = np.unique(np.linspace(1, affordable, min(affordable, MOST_DRAWS)).round().astype(int))
    known = trials[trials[metrics.BEST_TOP1].notna()]
    full = known.loc[known["epochs"] >= search.full_epochs * (1 - ROUNDING), metrics.BEST_TOP1].to_numpy()
    curve = pd.DataFrame(
        {
            "draws": draws,
            "seconds": draws * a_draw,
            "low": expected_best(known[metrics.BEST_TOP1].to_numpy(), draws),
            "high": expected_best(full, draws) if len(full) > 1 else np.nan,
        }
    )
    return RandomSearch(a_draw, len(full), curve)


def progress_section(search: Search) -> Section:
    """Best so far against cost."""
    key, title = "progress", "What the search paid for its best"
    if search.scored.empty:
        return Section(key, title, "No trial has a score yet.")
    steps, chance = best_so_far(search.scored), random_search(search)
    total = float(search.scored["seconds"].sum())
    return Section(
        key, title, caption(search, steps, chance), draw(steps, chance, total), CITATION, progress_table(steps),
        partial(draw_png, steps, chance, total),
    )  # fmt: skip


CITATION = (
    '<p class="note">Expectation: Dodge, Gururangan, Card, Schwartz, Smith: '
    '<a href="https://arxiv.org/abs/1909.03004">Show Your Work: Improved Reporting of Experimental Results</a>, '
    "EMNLP 2019, equation 1.</p>"
)


def caption(search: Search, steps: pd.DataFrame, chance: RandomSearch) -> str:
    """What was reached when, and what the grey reference is."""
    last, row = steps.iloc[-1], chance.curve.iloc[-1]
    total = float(search.scored["seconds"].sum())
    reached = (
        f"The best score, {share(last['top1'])}, was there after {slot_time(last['seconds'])} "
        f"({count(last['epochs'], 'epoch')}) of {slot_time(total)}."
    )
    what = f" The same time buys {count(int(row['draws']), 'full training')} of random search, "
    if np.isnan(row["high"]):
        return reached + what + (
            f"expected to reach at least {share(row['low'])}: the expected best of so many draws from all trials as "
            "far as they went. Stopped trials might have risen further, so this is a lower bound."
        )  # fmt: skip
    return reached + what + (
        f"expected to reach {share(row['low'])} to {share(row['high'])}. Lower edge of the band: draws from the best "
        f"scores of all trials as far as they went (stopped ones might have risen). Upper edge: draws from the "
        f"{chance.finished:,} trials of full length only, which were mostly picked because they were good."
    )  # fmt: skip


def progress_table(steps: pd.DataFrame) -> pd.DataFrame:
    """Each improvement."""
    return pd.DataFrame(
        {
            "slot hours": (steps["seconds"] / 3600).map("{:.3f}".format),
            "epochs of all trials": steps["epochs"].map(compact),
            "best select top-1": steps["top1"].map(lambda value: share(value, 2)),
            "trial": steps["trial"],
        }
    )


def draw(steps: pd.DataFrame, chance: RandomSearch, total: float) -> go.Figure:
    """Steps of the search, and the band of random search."""
    scale, unit = time_unit(total)
    figure, curve = go.Figure(), chance.curve
    grey = {"color": NEUTRAL, "width": 1.5, "dash": "dash"}
    banded = bool(curve["high"].notna().any())
    if banded:
        figure.add_scatter(
            x=curve["seconds"] / scale, y=curve["high"], mode="lines", line=grey, showlegend=False, hoverinfo="skip"
        )
    figure.add_scatter(
        x=curve["seconds"] / scale, y=curve["low"], mode="lines+markers" if len(curve) == 1 else "lines", line=grey,
        fill="tonexty" if banded else None, fillcolor="rgba(139,146,156,0.18)", name="random search, expected",
        customdata=curve["draws"], hovertemplate="best of %{customdata} draws: at least %{y:.1%}<extra></extra>",
    )  # fmt: skip
    end = steps.iloc[[-1]].assign(seconds=total)
    figure.add_scatter(
        x=pd.concat([steps, end])["seconds"] / scale, y=pd.concat([steps, end])["top1"], mode="lines+markers",
        line={"color": ACCENT, "width": 3, "shape": "hv"}, marker={"size": 7}, name="this search",
        text=[f"{plot_text(trial)}<br>after {count(epochs, 'epoch')}"
              for trial, epochs in zip(steps["trial"], steps["epochs"].tolist(), strict=True)] + ["end"],
        hovertemplate="%{text}: %{y:.2%}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(
        height=380,
        xaxis={"title": {"text": f"slot {unit}"}, "rangemode": "tozero"},
        yaxis={
            "title": {"text": "best select top-1 so far"},
            "tickformat": ".0%",
            "range": shown_scores(steps, chance),
        },
    )
    return figure


def shown_scores(steps: pd.DataFrame, chance: RandomSearch) -> list[float]:
    """The range of the scores' axis: without the search's first `STEEP` of the cost, which would flatten the rest."""
    begin = STEEP * max(steps["seconds"].iloc[-1], chance.curve["seconds"].iloc[-1])
    curve = chance.curve.loc[chance.curve["seconds"] >= begin, ["low", "high"]]
    scores = steps.loc[steps["seconds"] >= begin, "top1"]
    low, high = curve.min().min(), curve.max().max()
    low, high = min(low, scores.min()) if len(scores) else low, max(high, steps["top1"].iloc[-1])
    room = 0.06 * max(high - low, 0.01)
    return [float(low - room), float(high + room)]


def draw_png(steps: pd.DataFrame, chance: RandomSearch, total: float) -> "Figure":
    """The same by matplotlib."""
    scale, unit = time_unit(total)
    figure, curve = new_figure(4), chance.curve
    axes = figure.add_subplot()
    axes.step([*(steps["seconds"] / scale), total / scale], [*steps["top1"], steps["top1"].iloc[-1]], where="post",
              color=ACCENT, linewidth=2.5, label="this search")  # fmt: skip
    axes.plot(curve["seconds"] / scale, curve["low"], color=NEUTRAL, linestyle="--", label="random search, expected")
    if curve["high"].notna().any():
        axes.fill_between(curve["seconds"] / scale, curve["low"], curve["high"], color=NEUTRAL, alpha=0.2)
    axes.set(xlabel=f"slot {unit}", ylabel="best select top-1 so far", ylim=shown_scores(steps, chance))
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.legend(frameon=False)
    return figure
