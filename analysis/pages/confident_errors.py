"""The images about which the ensemble was surest and wrong, put into the page."""

import base64
import io
from functools import partial
from pathlib import Path, PurePosixPath
from textwrap import wrap
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from jinja2 import Environment
from PIL import Image

from analysis.experiment import read_facts
from analysis.pages.confusion_tables import class_names, confident_errors
from analysis.pages.ensemble_tables import Measured, probabilities
from analysis.pages.png import new_figure
from analysis.pages.section import Section
from analysis.pages.text import share
from trainable.data.decode import BadImage, read_image
from trainable.escape import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 12
SIDE = 96
"""Pixels of an image on the page, at most."""
SHOWN = ("file", "truth", "guess", "confidence")
COLUMNS, TITLE = 6, 22
"""Of the PNG: images in a row, and characters in a line above each."""

GALLERY = Environment(autoescape=True).from_string("""\
<ul style="list-style:none;display:flex;flex-wrap:wrap;gap:0.75rem;padding:0;margin:0.75rem 0">
{%- for error in errors %}
<li style="width:{{ side + 8 }}px;min-width:0;overflow-wrap:anywhere;line-height:1.35">
<img src="{{ error.source }}" alt="{{ error.file }}: {{ error.truth }}, taken for {{ error.guess }}" \
title="{{ error.file }}" width="{{ side }}" height="{{ side }}" \
style="display:block;margin-bottom:0.3rem;border-radius:6px;image-rendering:{{ error.scaling }}">
<strong>{{ error.guess }}</strong> {{ error.confidence }}<br>is {{ error.truth }}</li>
{%- endfor %}
</ul>""")


class Shown(NamedTuple):
    """A wrong guess with its image."""

    file: str
    truth: str
    guess: str
    confidence: str
    pixels: np.ndarray
    """uint8 RGB (S, S, 3)."""

    @property
    def source(self) -> str:
        """The image as a data: URI; PNG, which loses nothing, as they are small."""
        file = io.BytesIO()
        Image.fromarray(self.pixels).save(file, "PNG")
        return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"

    @property
    def scaling(self) -> str:
        """How the browser enlarges it: a few pixels stay visible as such."""
        return "pixelated" if len(self.pixels) < SIDE else "auto"


def errors_section(measured: Measured, folder: Path) -> Section:
    """The surest errors on holdout, with their images where the data of the experiment in `folder` is still there."""
    holdout, names = measured.evidence.holdout, class_names(measured.manifest.classes)
    table = confident_errors(probabilities(measured, holdout), holdout.labels, holdout.files, names, MOST)
    key, title = "confident-errors", "Where it was surest and wrong"
    if table.empty:
        return Section(key, title, "Nowhere: no holdout image is guessed wrong.")
    data = data_folder(folder)
    side = min(SIDE, max(member.image_size for member in measured.manifest.members))
    shown = shown_errors(table, data, side)
    html = GALLERY.render(errors=shown, side=SIDE) if shown else ""
    png = partial(draw_png, shown) if shown else None
    return Section(key, title, caption(table, data, len(shown)), html=html, table=readable(table), png=png)


def data_folder(folder: Path) -> Path | None:
    """Where the experiment in `folder` says its images are; None where it doesn't say."""
    data = read_facts(folder).get("plan", {}).get("trial", {}).get("data")
    return Path(data) if isinstance(data, str) else None


def shown_errors(table: pd.DataFrame, data: Path | None, side: int) -> list[Shown]:
    """The errors whose image can be read, at `side` pixels."""
    shown: list[Shown] = []
    if data is None:
        return shown
    for file, truth, guess, confidence in zip(*(table[name] for name in SHOWN), strict=True):
        pixels = read_below(data, file, side)
        if pixels is not None:
            shown.append(Shown(printable(file), printable(truth), printable(guess), share(confidence), pixels))
    return shown


def read_below(data: Path, file: str, side: int) -> np.ndarray | None:
    """The image `file` below `data`; None where it can't be read, or its name leads elsewhere."""
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts:
        return None
    try:
        return read_image(data / path, side)
    except BadImage:
        return None


def caption(table: pd.DataFrame, data: Path | None, shown: int) -> str:
    """The surest error, and why images are missing."""
    first = table.iloc[0]
    text = (
        f"The surest error: {first['file']} is “{first['truth']}”, but was taken for “{first['guess']}” with "
        f"{share(first['confidence'])} confidence. Wrong labels are often found here."
    )
    if shown == len(table):
        return text
    if data is None or not data.is_dir():
        where = "isn't known" if data is None else f"{data} isn't there any more"
        return f"{text} Without images: the data set's folder {where}."
    return f"{text} {len(table) - shown} of the {len(table)} images can't be read from {data} any more."


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table for people."""
    return pd.DataFrame(
        {
            "image": table["file"],
            "truth": table["truth"],
            "guess": table["guess"],
            "confidence": table["confidence"].map(share),
            "of the truth": table["of_truth"].map(share),
        }
    )


def draw_png(shown: list[Shown]) -> "Figure":
    """The images in rows."""
    rows = -(-len(shown) // COLUMNS)
    titles = [[*wrap(f"{each.guess} {each.confidence}", TITLE), *wrap(f"is {each.truth}", TITLE)] for each in shown]
    height = 1.85 + 0.17 * max(len(lines) for lines in titles)
    figure = new_figure(height * rows, 1.7 * COLUMNS)
    places = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes in places:
        axes.set_axis_off()
    for axes, error, lines in zip(places, shown, titles, strict=False):
        axes.imshow(error.pixels)
        axes.set_title("\n".join(lines), fontsize=8, parse_math=False)
    return figure
