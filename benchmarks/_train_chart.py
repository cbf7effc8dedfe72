"""The chart of `benchmarks.train_step`: a bar a model, made of the parts of its epoch."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib import colormaps
from matplotlib.figure import Figure


def shares(split: Mapping[str, float]) -> dict[str, float]:
    """Each part's share of the whole, 0 to 1."""
    whole = sum(split.values())
    return {name: part / whole for name, part in split.items()}


def draw(splits: Mapping[str, Mapping[str, float]]) -> Figure:
    """Stacked bars of the shares by model, the first at the top; beside each, milliseconds an image.

    Args:
        splits: Milliseconds a training image by part, by the model's name; all have the same parts.
    """
    figure = Figure(figsize=(10, 1.6 + 0.4 * len(splits)), layout="constrained")
    axes = figure.subplots()
    names = list(splits)
    left = [0.0] * len(names)
    for number, part in enumerate(next(iter(splits.values()))):
        widths = [shares(splits[name])[part] for name in names]
        axes.barh(names, widths, 0.7, left=left, label=part, color=colormaps["tab10"](number))
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for place, name in enumerate(names):
        axes.text(1.01, place, f"{sum(splits[name].values()):.3g} ms", va="center")
    axes.set(xlim=(0, 1.12), xlabel="share of an epoch, and its time an image")
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=5, frameon=False)
    return figure


def save(splits: Mapping[str, Mapping[str, float]], file: Path) -> None:
    """Write the chart as a PNG."""
    draw(splits).savefig(file, format="png", dpi=120)
