"""How differently the members guess."""

from functools import partial

import numpy as np
import pandas as pd

from analysis.pages.ensemble_tables import Diversity, Measured, diversity, pairs_table
from analysis.pages.heat_maps import HeatMap, draw, draw_png
from analysis.pages.palette import ACCENT
from analysis.pages.section import Section
from analysis.pages.text import plot_text, share


def diversity_section(measured: Measured) -> Section:
    """Disagreement of each pair of members on holdout."""
    key, title, pairs = "diversity", "How differently members guess", diversity(measured)
    if len(pairs.trials) < 2:
        return Section(key, title, "There is one member, so nothing to compare.")
    table, shown = pairs_table(pairs), heat_map(pairs)
    return Section(key, title, caption(table), draw(shown), table=readable(table), png=partial(draw_png, shown))


def caption(table: pd.DataFrame) -> str:
    """Who differs most and least, and why that matters."""
    most, least = table.iloc[0], table.iloc[-1]
    text = (
        f"On holdout, {most['first']} and {most['second']} make another first guess for {share(most['disagreement'])} "
        "of the images"
    )
    if len(table) > 1:
        text += f", {least['first']} and {least['second']} for {share(least['disagreement'])}"
    return f"{text}. Members that are equally good gain the more from each other the less their errors coincide."


def heat_map(pairs: Diversity) -> HeatMap:
    """The matrix, its diagonal empty."""
    own = np.eye(len(pairs.trials), dtype=bool)
    names = [plot_text(trial) for trial in pairs.trials]
    notes = [
        [
            f"{first}<br>{second}<br>disagree on {share(pairs.disagreement[row, column])}"
            f"<br>correlation of errors {number(pairs.correlation[row, column])}"
            for column, second in enumerate(names)
        ]
        for row, first in enumerate(names)
    ]
    return HeatMap(
        values=np.where(own, np.nan, pairs.disagreement),
        texts=np.where(own, "", np.vectorize(share)(pairs.disagreement)),
        notes=np.array(notes),
        rows=list(pairs.trials),
        columns=[trial.partition("-")[0] for trial in pairs.trials],
        row_title="",
        column_title="disagreement on holdout",
        colour=ACCENT,
    )


def number(value: float) -> str:
    """A correlation; a dash where it isn't known."""
    return "-" if value != value else f"{value:.2f}"


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The pairs for people."""
    return pd.DataFrame(
        {
            "member": table["first"],
            "and": table["second"],
            "disagree on": table["disagreement"].map(share),
            "correlation of errors": table["correlation"].map(number),
        }
    )
