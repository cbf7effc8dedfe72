"""Which classes the ensemble takes for which."""

from functools import partial

import numpy as np
import pandas as pd

from analysis.pages.confusion_tables import Confusion, class_names, confused_pairs, confusion_counts, worst_classes
from analysis.pages.ensemble_tables import Measured, probabilities
from analysis.pages.heat_maps import HeatMap, draw, draw_png
from analysis.pages.palette import ALARM
from analysis.pages.section import Section
from analysis.pages.text import count, plot_text, share

OTHER = "others"
"""The column of classes that have none."""


def confusion_section(measured: Measured) -> Section:
    """The confusion matrix of the worst classes on holdout."""
    names, holdout = class_names(measured.manifest.classes), measured.evidence.holdout
    counts = confusion_counts(holdout.labels, probabilities(measured, holdout).argmax(axis=1), len(names))
    key, title, pairs = "confusion", "What it takes for what", confused_pairs(counts, names)
    if pairs.empty:
        return Section(key, title, f"None: all {count(len(holdout.labels), 'holdout image')} are guessed right.")
    worst = worst_classes(counts)
    shown = heat_map(worst, counts, names)
    text = caption(counts, worst, names)
    return Section(key, title, text, draw(shown), table=readable(pairs), png=partial(draw_png, shown))


def caption(counts: np.ndarray, worst: Confusion, names: list[str]) -> str:
    """How many errors there are, the commonest, and the worst class."""
    images, right = counts.sum(axis=1), counts.diagonal()
    wrong = int((images - right).sum())
    first = confused_pairs(counts, names).iloc[0]
    place = int(np.argmax((images - right) / np.maximum(images, 1)))
    shown = (
        "all classes"
        if len(worst.classes) == len(names)
        else f"the {len(worst.classes)} worst of {len(names):,} classes"
    )
    return (
        f"{count(wrong, 'holdout image')} of {images.sum():,} {'is' if wrong == 1 else 'are'} guessed wrong. The "
        f"commonest error is “{first['truth']}” taken for “{first['guess']}” ({count(int(first['images']), 'image')}, "
        f"{share(first['share'])} of the class). "
        f"The worst class is “{names[place]}”: {share(right[place] / images[place])} of its images are right. "
        f"Shown are {shown}: rows are the truth, columns the guesses, the colour is the share of the row's images."
    )


def heat_map(worst: Confusion, counts: np.ndarray, names: list[str]) -> HeatMap:
    """Shares of the rows as colours, right guesses without, and images as numbers."""
    rows = [names[place] for place in worst.classes]
    columns, cells = list(rows), worst.counts
    if worst.elsewhere.any():
        columns, cells = [*rows, OTHER], np.column_stack([cells, worst.elsewhere])
    images = counts.sum(axis=1)[worst.classes]
    shares = cells / np.maximum(images, 1)[:, None]
    right = np.eye(len(rows), len(columns)) > 0
    notes = [
        [
            f"{plot_text(truth)}, guessed {plot_text(guess)}:<br>"
            f"{cells[row, column]} of {count(int(images[row]), 'image')}"
            for column, guess in enumerate(columns)
        ]
        for row, truth in enumerate(rows)
    ]
    return HeatMap(
        values=np.where(right, np.nan, shares),
        texts=np.where(cells > 0, cells.astype(str), ""),
        notes=np.array(notes),
        rows=rows,
        columns=columns,
        row_title="truth",
        column_title="guess",
        colour=ALARM,
    )


def readable(pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs for people."""
    return pd.DataFrame(
        {
            "truth": pairs["truth"],
            "taken for": pairs["guess"],
            "images": pairs["images"],
            "of the class's images": pairs["share"].map(share),
        }
    )
