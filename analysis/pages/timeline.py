"""Where the time went: what each slot did, from the times in the steps' records."""

import math
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd
import plotly.graph_objects as go

from analysis.pages.palette import COLOURS, NEUTRAL
from analysis.pages.png import new_figure, whole_numbers
from analysis.pages.records import Search
from analysis.pages.section import Section
from analysis.pages.text import count, listed, plot_text, share, slot_time, time_unit
from trainable import metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACTIVITIES = {
    "training": (metrics.SECONDS_TRAIN, COLOURS[0]),
    "evaluation": (metrics.SECONDS_EVAL, COLOURS[2]),
    "checkpointing": (metrics.SECONDS_CHECKPOINT, COLOURS[1]),
    "waiting": ("waiting", NEUTRAL),
}
"""What a slot does: the column of its seconds, and its colour."""
MOST_BLOCKS = 600
"""Blocks of the timeline; where there are more steps, a block sums several up."""


def slot_steps(steps: pd.DataFrame) -> pd.DataFrame:
    """The steps whose end is known, by slot and time, with slot, start (seconds since 1970, with the checkpoint that
    came before), and waiting (seconds since the same process ended its step before).

    A process is a (hostname, pid). Processes that follow each other, as after a crash or a resume, share a slot; the
    time between them isn't counted as waiting.
    """
    known = steps[steps["timestamp"].notna()].sort_values("timestamp", kind="stable")
    known = known.assign(
        start=known["timestamp"] - known["seconds"], process=known["hostname"] + known["pid"].astype(str)
    )
    before = known.groupby("process")["timestamp"].shift()
    known["waiting"] = (known["start"] - before).clip(lower=0).fillna(0.0)
    known["slot"] = known["process"].map(slots(known))
    return known.sort_values(["slot", "timestamp"], kind="stable", ignore_index=True)


def slots(known: pd.DataFrame) -> dict[str, int]:
    """A slot, from 1, for each process: the first that is free when it begins."""
    lives = known.groupby("process").agg(begin=("start", "min"), end=("timestamp", "max")).sort_values("begin")
    free_at: list[float] = []
    given: dict[str, int] = {}
    for process, life in lives.iterrows():
        place = next((index for index, end in enumerate(free_at) if end <= life["begin"] + 1), len(free_at))
        free_at[place : place + 1] = [life["end"]]
        given[str(process)] = place + 1
    return given


def totals(timed: pd.DataFrame) -> dict[str, float]:
    """Seconds of all slots by activity."""
    return {name: float(timed[column].sum()) for name, (column, _) in ACTIVITIES.items()}


def blocks(timed: pd.DataFrame) -> pd.DataFrame:
    """slot, activity, start and length in seconds from the search's begin, and trial (the first of the block).

    Of the steps of a block, the parts stand in the order of `ACTIVITIES`, behind their waiting and checkpoints.
    """
    together = math.ceil(len(timed) / MOST_BLOCKS) if len(timed) else 1
    number = timed.groupby("slot").cumcount() // together
    parts = {column: (column, "sum") for column, _ in ACTIVITIES.values()}
    summed = timed.groupby(["slot", number]).agg(trial=("trial", "first"), end=("timestamp", "max"), **parts)
    summed = summed.reset_index("slot")
    end, rows = summed["end"] - timed["start"].min(), []
    for activity in ("evaluation", "training", "checkpointing", "waiting"):
        length = summed[ACTIVITIES[activity][0]].fillna(0.0)
        end = end - length
        rows.append(pd.DataFrame({"slot": summed["slot"], "activity": activity, "start": end, "length": length,
                                  "trial": summed["trial"]}))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def timeline_section(search: Search) -> Section:
    """The timeline, and its totals."""
    key, title = "time", "Where the time went"
    timed = slot_steps(search.steps)
    if timed.empty:
        return Section(key, title, "No record says yet when its step ended.")
    spent, together = totals(timed), math.ceil(len(timed) / MOST_BLOCKS)
    table = pd.DataFrame(
        {
            "activity": list(spent),
            "slot hours": [f"{seconds / 3600:.3f}" for seconds in spent.values()],
            "share": [share(seconds / (sum(spent.values()) or 1)) for seconds in spent.values()],
        }
    )
    text = caption(timed, spent) + (f" A block of the plot sums up {together} steps." if together > 1 else "")
    shown = blocks(timed)
    return Section(key, title, text, draw(shown), table=table, png=partial(draw_png, shown))


def caption(timed: pd.DataFrame, spent: dict[str, float]) -> str:
    """The totals in words."""
    total = sum(spent.values()) or 1.0
    parts = listed([f"{share(seconds / total)} {name}" for name, seconds in spent.items()])
    span = float(timed["timestamp"].max() - timed["start"].min())
    scale, unit = time_unit(span)
    return (
        f"Of {slot_time(total)} of {count(int(timed['slot'].max()), 'slot')}, {parts}. From the first step's begin "
        f"to the last one's end {span / scale:.3g} {unit} went by. Waiting is the time between two steps of one "
        "process: decisions, loading of the next trial, copies of files."
    )


def draw(shown: pd.DataFrame) -> go.Figure:
    """A bar a slot."""
    scale, unit = time_unit(float((shown["start"] + shown["length"]).max()))
    figure = go.Figure()
    for activity, (_, colour) in ACTIVITIES.items():
        rows = shown[shown["activity"].eq(activity) & shown["length"].gt(0)]
        figure.add_bar(
            y=rows["slot"], x=rows["length"] / scale, base=rows["start"] / scale, orientation="h", name=activity,
            width=0.7, marker={"color": colour, "line": {"width": 0}}, text=rows["trial"].map(plot_text),
            textposition="none", hovertemplate="%{text}: " + activity + "<extra>slot %{y}</extra>",
        )  # fmt: skip
    count_of_slots = int(shown["slot"].max())
    figure.update_layout(
        barmode="overlay", bargap=0.2, height=150 + min(600, 34 * count_of_slots),
        xaxis={"title": {"text": unit}, "rangemode": "tozero"},
        yaxis={"title": {"text": "slot"}, "dtick": max(1, count_of_slots // 12), "showgrid": False, "zeroline": False},
    )  # fmt: skip
    return figure


def draw_png(shown: pd.DataFrame) -> "Figure":
    """The same by matplotlib."""
    scale, unit = time_unit(float((shown["start"] + shown["length"]).max()))
    figure = new_figure(1.6 + min(6, 0.4 * int(shown["slot"].max())))
    axes = figure.add_subplot()
    for activity, (_, colour) in ACTIVITIES.items():
        rows = shown[shown["activity"].eq(activity)]
        for place, (_, its) in enumerate(rows.groupby("slot")):
            spans = list(zip(its["start"] / scale, its["length"] / scale, strict=True))
            label = None if place else activity  # once in the legend
            axes.broken_barh(spans, (its["slot"].iloc[0] - 0.35, 0.7), facecolor=colour, label=label)
    axes.set(xlabel=unit, ylabel="slot")
    axes.set_xlim(left=0)
    whole_numbers(axes.yaxis)
    figure.legend(loc="outside upper right", ncols=4, frameon=False, fontsize="small")
    return figure
