"""The figures of `analysis.dataset`: sizes, images per split and class, samples, and their augmentation."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import NDArray

from analysis.dataset_checks import SPLITS
from trainable.config import Policy
from trainable.data.decode import read_image
from trainable.data.layouts import ClassName
from trainable.escape import printable

DPI = 100
COLOURS = dict(zip(SPLITS, ("#4477aa", "#ee6677", "#228833", "#999999"), strict=True))
"""Told apart by colour-blind people too (Tol's bright scheme)."""

BINS = 40
WIDE_RANGE = 20
"""Largest ÷ smallest value from which on a histogram's axis is logarithmic."""

MOST_BARS = 40
"""Classes that get a bar each; of more, the distribution is shown, and the extremes."""
EXTREMES = 10
WORDS_SHOWN = 28
"""Characters of a class's words on an axis."""

SAMPLES, SAMPLE_COLUMNS = 48, 8
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
AUGMENTED = 4
"""Images that are augmented, each in a row of its own."""
SMOOTH_PX = 96
"""From this side on images are drawn smoothed, below with their pixels as squares."""


class Picture(NamedTuple):
    """An image to show."""

    pixels: NDArray[np.uint8]
    """RGB (S, S, 3)."""
    label: int


class AugmentedRow(NamedTuple):
    """A row of the augmentation's grid."""

    title: str
    images: NDArray[np.uint8]
    """RGB (strengths, S, S, 3)."""
    captions: list[str]
    """What stands below each image; may be empty."""


def size_histograms(images: pd.DataFrame, image_size: int) -> Figure:
    """Width, height, aspect and bytes of `Scan.images`, stacked by split; a line where training's size is."""
    figure = Figure(figsize=(11, 7.5), dpi=DPI, layout="constrained")
    figure.suptitle(f"Sizes of {len(images):,} images")
    panels = figure.subplots(2, 2).flat
    for axes, name in zip(panels, ("width", "height", "aspect", "bytes"), strict=True):
        values = images["width"] / images["height"] if name == "aspect" else images[name]
        stacked_histogram(axes, values, images["split"])
        axes.set_ylabel("images")
        unit = {"aspect": "width ÷ height", "bytes": "size of the file in bytes"}.get(name, f"{name} in pixels")
        axes.set_xlabel(unit)
        axes.xaxis.set_major_formatter("{x:g}" if name == "aspect" else EngFormatter(sep=""))
        if name in ("width", "height"):
            axes.axvline(image_size, color="black", linestyle="--", label=f"training: {image_size} px")
    figure.axes[0].legend()
    return figure


def stacked_histogram(axes: Axes, values: pd.Series, splits: pd.Series) -> None:
    """One panel; the axis is logarithmic where the values need it."""
    low, high = values.min(), values.max()
    if low == high:
        edges = np.array([low * 0.99, high * 1.01])
        axes.set_xlim(low * 0.7, high * 1.3)
        axes.set_title(f"all {low:,.4g}", fontsize="medium")
    elif high > WIDE_RANGE * low:
        edges = np.geomspace(low, high, BINS)
        axes.set_xscale("log")
    else:
        edges = np.histogram_bin_edges(values, bins=BINS)
        if values.dtype.kind == "i" and high - low < BINS:
            edges = np.arange(low, high + 2) - 0.5
    present = [name for name in SPLITS if (splits == name).any()]
    axes.hist(
        [values[splits == name] for name in present],
        bins=list(edges),
        stacked=True,
        color=[COLOURS[name] for name in present],
        label=present,
    )
    axes.yaxis.set_major_locator(whole_numbers())


def count_bars(images: pd.DataFrame, counts: pd.DataFrame, classes: Sequence[ClassName]) -> Figure:
    """Images per split, and per class (of `class_counts`); of many classes the distribution and the extremes."""
    few = len(classes) <= MOST_BARS
    height = max(4.5, 1.8 + 0.24 * len(classes)) if few else 9.5
    figure = Figure(figsize=(11, height), dpi=DPI, layout="constrained")
    figure.suptitle(f"{len(images):,} images of {len(classes):,} classes")
    right = ["classes"] if few else ["curve", "largest", "smallest"]
    panels = figure.subplot_mosaic([["splits", name] for name in right], width_ratios=(2, 5))
    split_bars(panels["splits"], images)
    if few:
        class_bars(panels["classes"], counts[::-1], classes, "images of each class")
    else:
        by_size = counts.loc[counts.sum(axis=1).sort_values(kind="stable").index]
        class_curve(panels["curve"], by_size[::-1])
        class_bars(panels["largest"], by_size.tail(EXTREMES), classes, f"the {EXTREMES} largest classes")
        class_bars(panels["smallest"], by_size.head(EXTREMES)[::-1], classes, f"the {EXTREMES} smallest classes")
    figure.legend(*panels[right[-1]].get_legend_handles_labels(), loc="outside lower center", ncols=len(SPLITS))
    return figure


def split_bars(axes: Axes, images: pd.DataFrame) -> None:
    """How many images each split has."""
    totals = {name: count for name in SPLITS if (count := int((images["split"] == name).sum()))}
    bars = axes.bar(list(totals), list(totals.values()), color=[COLOURS[name] for name in totals])
    axes.bar_label(bars, [f"{count:,}" for count in totals.values()], padding=2)
    axes.margins(y=0.1)
    axes.set_title("images of each split", fontsize="medium")
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))


def class_bars(axes: Axes, counts: pd.DataFrame, classes: Sequence[ClassName], title: str) -> None:
    """A bar for each row of `counts`, the first at the bottom, its splits behind each other."""
    start = np.zeros(len(counts))
    for name in counts:
        axes.barh(np.arange(len(counts)), counts[name], left=start, color=COLOURS[str(name)], label=str(name))
        start += counts[name].to_numpy()
    totals = counts.sum(axis=1)
    for row, total in enumerate(totals):
        axes.annotate(f"{total:,}", (total, row), (3, 0), textcoords="offset points", va="center", fontsize="small")
    words = [short(classes[label].words, WORDS_SHOWN) for label in counts.index]
    axes.set_yticks(np.arange(len(counts)), labels=words, parse_math=False, fontsize="small")
    axes.set_ylim(-0.6, len(counts) - 0.4)
    axes.set_xlim(0, max(1, totals.max()) * 1.1)
    axes.xaxis.set_major_locator(whole_numbers())
    axes.set_title(title, fontsize="medium")


def class_curve(axes: Axes, counts: pd.DataFrame) -> None:
    """Images of all classes, the largest first, the splits above each other."""
    rank = np.arange(len(counts) + 1) + 0.5
    below = np.zeros(len(counts))
    for name in counts:
        above = below + counts[name].to_numpy()
        axes.stairs(above, rank, baseline=below, fill=True, color=COLOURS[str(name)], label=str(name))
        below = above
    axes.set_xlim(rank[0], rank[-1])
    axes.set_ylim(0, below.max() * 1.1)
    axes.set_xlabel("class, the largest first")
    axes.set_title("images of each class", fontsize="medium")
    axes.yaxis.set_major_locator(whole_numbers())


def pick_samples(images: pd.DataFrame, root: Path, image_size: int, seed: int) -> list[Picture]:
    """Up to SAMPLES training images, of as many classes as there is room for and as evenly as can be, by class."""
    train = images[images["split"] == "train"].sample(frac=1, random_state=seed)
    turn = train.groupby("label").cumcount()
    rows = train.assign(turn=turn).sort_values("turn", kind="stable").head(SAMPLES).sort_values(["label", "turn"])
    return [
        Picture(read_image(root / path, image_size), int(label))
        for path, label in zip(rows["path"], rows["label"], strict=True)
    ]


def sample_grid(pictures: Sequence[Picture], classes: Sequence[ClassName]) -> Figure:
    """The pictures with their classes' words."""
    rows = math.ceil(len(pictures) / SAMPLE_COLUMNS)
    figure = Figure(figsize=(1.5 * SAMPLE_COLUMNS, 1.75 * rows + 0.6), dpi=DPI)
    grid = figure.subplots(rows, SAMPLE_COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, picture in zip(grid.flat, pictures, strict=False):
        show(axes, picture.pixels)
        axes.set_title(short(classes[picture.label].words, 19), fontsize=8, pad=3, parse_math=False)
    figure.suptitle("Training images as training sees them, before augmentation", y=1 - 0.2 / figure.get_figheight())
    edges(figure, left=0.1, top=0.65)
    return figure


def augmented_rows(
    pictures: Sequence[Picture], classes: Sequence[ClassName], kind: Policy, flip: bool, mix_prob: float, seed: int
) -> list[AugmentedRow]:
    """AUGMENTED of the pictures at each of STRENGTHS; then the first of them in a batch that CutMix and MixUp mix.

    The pictures are those of the trainings' own code: with strength 0 they stay as they are, and nothing is mixed.
    """
    from trainable.data.augmentation import augment, build_policy

    batch = spread(pictures, AUGMENTED)
    images = np.stack([picture.pixels for picture in batch])
    seeds = np.random.default_rng(seed).integers(2**32, size=len(batch))
    policies = [build_policy(kind, strength, images.shape[1], flip) for strength in STRENGTHS]
    augmented = [augment(policy, images, seeds, epoch) for epoch, policy in enumerate(policies)]
    rows = [
        AugmentedRow(classes[picture.label].words, np.stack([images[index] for images in augmented]), [])
        for index, picture in enumerate(batch)
    ]
    return rows + mixed_rows(augmented, [picture.label for picture in batch], classes, mix_prob, seed)


def mixed_rows(
    augmented: Sequence[NDArray[np.uint8]],
    labels: Sequence[int],
    classes: Sequence[ClassName],
    mix_prob: float,
    seed: int,
) -> list[AugmentedRow]:
    """The first image of each batch (images, S, S, 3), mixed with its neighbour; one row by CutMix, one by MixUp."""
    if len(labels) < 2:
        return []
    import torch

    from trainable.data.mixing import BatchMixer

    def mixed(mix: Callable, images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], str]:
        tensors = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        pixels, targets = mix(tensors, torch.tensor(labels))
        shares = {label: float(targets[0, label]) for label in dict.fromkeys((labels[0], labels[-1]))}
        named = " + ".join(f"{share:.0%} {short(classes[label].words, 10)}" for label, share in shares.items())
        return pixels[0].permute(1, 2, 0).round().byte().numpy(), named

    rows = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for mix in BatchMixer(len(classes), mix_prob, strength=1).mix.transforms:
            shown = [(augmented[0][0], "never mixed"), *(mixed(mix, images) for images in augmented[1:])]
            pixels, captions = zip(*shown, strict=True)
            rows.append(AugmentedRow(type(mix).__name__, np.stack(pixels), list(captions)))
    return rows


def augmentation_grid(rows: Sequence[AugmentedRow], kind: Policy, mix_prob: float) -> Figure:
    """A column for each strength, with when training comes to it and how often it mixes a batch then."""
    figure = Figure(figsize=(2.1 * len(STRENGTHS) + 1.3, 2.2 * len(rows) + 1.1), dpi=DPI)
    grid = figure.subplots(len(rows), len(STRENGTHS), squeeze=False)
    for axes, row in zip(grid, rows, strict=True):
        for cell, pixels in zip(axes, row.images, strict=True):
            show(cell, pixels)
        for cell, caption in zip(axes, row.captions, strict=False):
            cell.set_xlabel(caption, fontsize=7.5, labelpad=2, parse_math=False)
        axes[0].set_ylabel(short(row.title, 18), fontsize=10, parse_math=False)
    for axes, strength in zip(grid[0], STRENGTHS, strict=True):
        reached = math.acos(1 - strength) / (math.pi / 2)  # strength_at, solved for epoch / epochs
        axes.set_title(
            f"strength {strength:g}\nat {reached:.0%} of training\nmixes {mix_prob * strength:.0%} of batches",
            fontsize=9,
        )
    title = f"Augmentation {kind!r} as it grows; of the batches mixed, half by CutMix and half by MixUp"
    figure.suptitle(title, y=1 - 0.15 / figure.get_figheight())
    edges(figure, left=0.5, top=1.0)
    return figure


def spread(pictures: Sequence[Picture], most: int) -> list[Picture]:
    """At most so many of the pictures, with the same distance between them, so that their classes differ."""
    return [pictures[index] for index in np.unique(np.linspace(0, len(pictures) - 1, most).round().astype(int))]


def show(axes: Axes, pixels: NDArray[np.uint8]) -> None:
    """An image without axes; small ones as the squares that they are."""
    axes.imshow(pixels, interpolation="antialiased" if len(pixels) >= SMOOTH_PX else "nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def whole_numbers() -> MaxNLocator:
    """Ticks for counts of images."""
    return MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True)


def edges(figure: Figure, left: float, top: float) -> None:
    """Fixed margins in inches: a constrained layout of fifty images takes seconds."""
    width, height = figure.get_size_inches()
    figure.subplots_adjust(
        left=left / width, right=1 - 0.1 / width, top=1 - top / height, bottom=0.25 / height, wspace=0.08, hspace=0.2
    )


def short(words: str, most: int) -> str:
    """At most so many characters, all of them printable."""
    words = printable(words)
    return words if len(words) <= most else words[: most - 1].rstrip(" ,") + "…"
