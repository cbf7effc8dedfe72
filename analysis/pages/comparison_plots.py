"""The page that shows experiments beside each other."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from analysis.pages.comparison import Entry, found_table, searched_table
from analysis.pages.paired import Difference, differences_table, verdict
from analysis.pages.palette import ACCENT, COLOURS, NEUTRAL
from analysis.pages.progress import best_so_far
from analysis.pages.section import Section
from analysis.pages.text import count, listed, plot_text, share, slot_time, time_unit
from trainable.escape import printable


def comparison_sections(entries: Sequence[Entry], careful: Sequence[str], told: Sequence[Difference]) -> list[Section]:
    """What the page shows.

    Args:
        entries: The experiments.
        careful: What keeps their numbers from comparing.
        told: Each but the first against the first.
    """
    return [
        found_section(entries, careful),
        holdout_section(entries),
        difference_section(entries[0].name, told),
        progress_section(entries),
        Section("searched", "What was searched", SEARCHED, table=searched_table(entries)),
    ]


SEARCHED = "What the searches were given. Where “data” is the same, so are the files, their labels and their size."


def found_section(entries: Sequence[Entry], careful: Sequence[str]) -> Section:
    """The results, and whether they compare."""
    text = "All were searched on the same data, so the numbers compare."
    if careful:
        text = f"Careful: {'; '.join(careful)}."
    return Section("found", "What was found", text, table=found_table(entries))


def progress_section(entries: Sequence[Entry]) -> Section:
    """Best select top-1 so far against the time of slots."""
    key, title = "progress", "Best so far against cost"
    curves = {entry.name: best_so_far(entry.search.scored) for entry in entries if not entry.search.scored.empty}
    if not curves:
        return Section(key, title, "No experiment has a score yet.")
    scale, unit = time_unit(max(entry.seconds for entry in entries))
    figure = go.Figure()
    for place, entry in enumerate(entries):
        if entry.name in curves:
            end = pd.DataFrame({"seconds": [entry.seconds], "top1": [curves[entry.name]["top1"].iloc[-1]]})
            steps = pd.concat([curves[entry.name][["seconds", "top1"]], end])
            figure.add_scatter(
                x=steps["seconds"] / scale, y=steps["top1"], mode="lines+markers", name=plot_text(entry.name),
                line={"color": colour(place), "width": 2.5, "shape": "hv"}, marker={"size": 6},
                hovertemplate="%{y:.2%}<extra>%{fullData.name}</extra>",
            )  # fmt: skip
    figure.update_layout(
        height=400,
        showlegend=True,
        xaxis={"title": {"text": f"slot {unit}"}, "rangemode": "tozero"},
        yaxis={"title": {"text": "best select top-1 so far"}, "tickformat": ".0%"},
    )
    return Section(key, title, progress_caption(entries, curves), figure, table=progress_table(entries, curves))


def progress_caption(entries: Sequence[Entry], curves: dict[str, pd.DataFrame]) -> str:
    """What each reached for what, and what they had at the cost of the cheapest."""
    reached = [
        f"{entry.name} reached {share(curves[entry.name]['top1'].iloc[-1])} in {slot_time(entry.seconds)}"
        for entry in entries
        if entry.name in curves
    ]
    same = min(entry.seconds for entry in entries if entry.name in curves)
    had = [f"{name} had {share(top1_after(steps, same))}" for name, steps in curves.items()]
    return f"{sentence(reached)} After {slot_time(same)}, {listed(had)}." if len(had) > 1 else sentence(reached)


def sentence(parts: list[str]) -> str:
    """The parts as one."""
    return f"{listed(parts)}."


def top1_after(steps: pd.DataFrame, seconds: float) -> float:
    """The best top-1 after so many seconds; NaN before the first."""
    earlier = steps.loc[steps["seconds"] <= seconds + 1e-6, "top1"]
    return float(earlier.iloc[-1]) if len(earlier) else float("nan")


def progress_table(entries: Sequence[Entry], curves: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """What each experiment had after each quarter of the cost of the dearest."""
    longest = max(entry.seconds for entry in entries)
    times = [longest * quarter / 4 for quarter in range(1, 5)]
    columns = {name: [share(top1_after(steps, after), 2) for after in times] for name, steps in curves.items()}
    return pd.DataFrame({"after": [slot_time(after) for after in times], **columns})


def holdout_section(entries: Sequence[Entry]) -> Section:
    """Top-1 on holdout of each ensemble and each best single trial, with intervals."""
    key, title = "holdout", "Accuracy on holdout"
    shown = [(entry.name, entry.measured.manifest) for entry in entries if entry.measured]
    if not shown:
        return Section(key, title, "No experiment has an ensemble yet: python -m analysis.export writes one.")
    rows = [
        (name, what, each.top1, each.top1_low, each.top1_high, each.loss, each.ece)
        for name, manifest in shown
        for what, each in (("ensemble", manifest.holdout), ("best trial alone", manifest.single.holdout))
    ]
    table = pd.DataFrame(rows, columns=["name", "what", "top1", "low", "high", "loss", "ece"])
    together = [(name, manifest.holdout) for name, manifest in shown]
    reached = [
        f"{name} reaches {share(each.top1)} ({share(each.top1_low)} to {share(each.top1_high)})"
        for name, each in together
    ]
    text = f"The ensemble of {listed(reached)}, on images that decided nothing."
    return Section(key, title, text, draw_holdout(table), table=holdout_table(table))


def holdout_table(table: pd.DataFrame) -> pd.DataFrame:
    """The table for people."""
    interval = [f"{share(low)} to {share(high)}" for low, high in zip(table["low"], table["high"], strict=True)]
    return pd.DataFrame(
        {
            "experiment": table["name"],
            "": table["what"],
            "top-1": table["top1"].map(lambda value: share(value, 2)),
            "95 % interval": interval,
            "NLL": table["loss"],
            "ECE": table["ece"],
        }
    )


def draw_holdout(table: pd.DataFrame) -> go.Figure:
    """A row an experiment, two points each."""
    figure, names = go.Figure(), list(dict.fromkeys(table["name"]))
    for what, colour_of, shift, symbol in (
        ("ensemble", ACCENT, -0.12, "circle"),
        ("best trial alone", NEUTRAL, 0.12, "diamond"),
    ):
        rows = table[table["what"] == what]
        figure.add_scatter(
            x=rows["top1"], y=[names.index(name) + shift for name in rows["name"]], mode="markers", name=what,
            marker={"color": colour_of, "size": 11, "symbol": symbol}, text=rows["name"].map(plot_text),
            error_x={"array": rows["high"] - rows["top1"], "arrayminus": rows["top1"] - rows["low"], "thickness": 1.5},
            hovertemplate=f"%{{text}}, {what}: %{{x:.2%}}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title={"text": "holdout top-1"}, tickformat=".1%")
    named_rows(figure, names)
    return figure


def difference_section(first: str, told: Sequence[Difference]) -> Section:
    """The paired differences with their intervals."""
    key, title, table = "difference", f"Difference to {first}", differences_table(first, told)
    compared = [(each.name, each.paired) for each in told if each.paired is not None]
    lacking = [f"{each.name} and {first} don't compare: {each.reason}." for each in told if each.paired is None]
    if not compared:
        return Section(key, title, " ".join(lacking), table=table)
    found = [
        f"{name} minus {first}: {paired.top1.mean * 100:+.1f} points of top-1 on the same "
        f"{count(paired.images, 'holdout image')}, paired 95 % interval {paired.top1.low * 100:+.1f} to "
        f"{paired.top1.high * 100:+.1f}. Finding: {verdict(paired)}."
        for name, paired in compared
    ]
    figure, names = go.Figure(), [name for name, _ in compared]
    tops = pd.DataFrame([paired.top1 for _, paired in compared]) * 100
    figure.add_vline(x=0, line={"color": NEUTRAL, "dash": "dot"})
    figure.add_scatter(
        x=tops["mean"], y=list(range(len(names))), mode="markers", marker={"color": ACCENT, "size": 11},
        error_x={"array": tops["high"] - tops["mean"], "arrayminus": tops["mean"] - tops["low"], "thickness": 1.5},
        hovertemplate="%{x:+.2f} points<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title={"text": f"points of holdout top-1 more than {plot_text(first)}"}, zeroline=False)
    named_rows(figure, names)
    figure.update_layout(showlegend=False)
    return Section(key, title, " ".join([*found, *lacking]), figure, table=table)


def named_rows(figure: go.Figure, names: list[str]) -> None:
    """The experiments as ticks from the top, and a height that fits them."""
    figure.update_yaxes(
        tickmode="array", tickvals=list(range(len(names))), ticktext=[plot_text(name) for name in names],
        range=[len(names) - 0.5, -0.5], showgrid=False, zeroline=False,
    )  # fmt: skip
    figure.update_layout(height=150 + 50 * len(names))


def colour(place: int) -> str:
    """Of the experiment at this place; from the eleventh on they come again."""
    return COLOURS[place % len(COLOURS)]


def page_title(entries: Sequence[Entry]) -> str:
    """`a against b and c`."""
    first, *others = (printable(entry.name) for entry in entries)
    return f"{first} against {listed(others)}"
