"""Trials that failed or diverged, each with its reason."""

from pathlib import Path

import pandas as pd

from analysis.experiment import ERROR
from analysis.pages.records import Search
from analysis.pages.section import Section
from analysis.pages.text import compact, count

DIVERGED = "the loss stopped being finite; the trial ended with the worst score"
LONGEST = 300
"""Characters of a reason."""


def failures_table(search: Search) -> pd.DataFrame:
    """trial, state, epochs and reason of what failed or diverged, by name."""
    broken = search.trials[search.trials["state"].isin(("failed", "diverged"))].sort_values("trial")
    reasons = [
        DIVERGED if state == "diverged" else failure_reason(search.folder / trial)
        for trial, state in zip(broken["trial"], broken["state"], strict=True)
    ]
    return broken[["trial", "state", "epochs"]].assign(reason=reasons).reset_index(drop=True)


def failure_reason(folder: Path) -> str:
    """The first line of a trial's failure.txt, without the rest."""
    try:
        with (folder / ERROR).open(errors="replace") as file:
            line = file.readline(LONGEST + 1).strip()
    except OSError as error:
        return f"{ERROR} can't be read ({error.strerror})"
    return (line[:LONGEST] + "…" if len(line) > LONGEST else line) or "no reason was written"


def failures_section(search: Search) -> Section:
    """The table, or that there is nothing to show."""
    table = failures_table(search)
    key, title = "failures", "Failed and diverged trials"
    if table.empty:
        return Section(key, title, "None: no trial failed, and no loss diverged.")
    failed = int(table["state"].eq("failed").sum())
    text = f"{count(failed, 'trial')} failed, {len(table) - failed:,} diverged, of {len(search.trials):,}."
    often = table["reason"].value_counts()
    text += f" The most frequent reason: {often.index[0]}." if len(often) > 1 else ""
    shown = table.assign(epochs=table["epochs"].map(compact))
    return Section(key, title, text + " The whole output of each is in its failure.txt.", table=shown)
