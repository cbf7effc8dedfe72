"""The figures of a data set: what they show, readable with any number of classes, and seeded."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from analysis import dataset_plots as plots
from analysis.dataset import save
from analysis.dataset_checks import class_counts
from trainable.data.layouts import ClassName

SIDE = 16


def classes_of(count: int) -> list[ClassName]:
    return [ClassName(f"c{index:04}", f"class number {index} of many more") for index in range(count)]


def images_of(classes: int, seed: int = 0) -> pd.DataFrame:
    """Between 3 and 30 images of each class, of very different sizes."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(classes), rng.integers(3, 31, classes))
    split = rng.choice(["train", "select", "holdout"], len(label), p=[0.8, 0.1, 0.1])
    width, height, size = rng.lognormal(5, 1, (3, len(label))).astype(int) + 1
    return pd.DataFrame({"label": label, "split": split, "width": width, "height": height, "bytes": size})


def drawn(figure: Figure, tmp_path: Path) -> np.ndarray:
    """The pixels (height, width, 3) of the PNG that is written; its size must be the figure's."""
    save(figure, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        width, height = figure.get_size_inches() * plots.DPI
        assert image.size == (int(width), int(height))
        return np.asarray(image.convert("RGB"))


def pictures_of(classes: int, count: int) -> list[plots.Picture]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.uint8)
    return [plots.Picture(image, index * classes // count) for index, image in enumerate(pixels)]


@pytest.mark.parametrize("classes", [2, 40, 41, 1000])
def test_counts_stay_readable_with_any_number_of_classes(classes: int, tmp_path: Path) -> None:
    images = images_of(classes)
    figure = plots.count_bars(images, class_counts(images, classes), classes_of(classes))
    assert figure.get_figheight() <= 12
    bars = [label.get_text() for axes in figure.axes[1:] for label in axes.get_yticklabels() if "class" in str(label)]
    assert len(bars) == (classes if classes <= 40 else 20)
    pixels = drawn(figure, tmp_path)
    for colour in ("train", "select", "holdout"):
        red, green, blue = (int(plots.COLOURS[colour][start : start + 2], 16) for start in (1, 3, 5))
        assert (pixels == (red, green, blue)).all(axis=-1).sum() > 300


def test_the_extremes_are_the_largest_and_the_smallest_classes() -> None:
    images = images_of(100)
    counts = class_counts(images, 100)
    figure = plots.count_bars(images, counts, [ClassName(str(index), str(index)) for index in range(100)])
    sizes = counts.sum(axis=1).to_numpy()
    largest, smallest = ([int(label.get_text()) for label in axes.get_yticklabels()] for axes in figure.axes[2:])
    assert sorted(sizes[largest]) == sorted(sizes)[-10:]
    assert sorted(sizes[smallest]) == sorted(sizes)[:10]


@pytest.mark.parametrize("equal", [False, True])
def test_histograms_hold_all_images(equal: bool, tmp_path: Path) -> None:
    images = images_of(10)
    if equal:
        images = images.assign(width=64, height=64, bytes=900)
    figure = plots.size_histograms(images, 32)
    for axes in figure.axes:
        assert sum(bar.get_height() for bar in axes.patches) == len(images)
    assert drawn(figure, tmp_path).std() > 20


def test_samples_are_seeded_and_of_as_many_classes_as_can_be(tmp_path: Path) -> None:
    for index in range(60):
        Image.new("RGB", (SIDE, SIDE), (index, 0, 0)).save(tmp_path / f"{index}.png")
    paths = [f"{index}.png" for index in range(60)]
    images = pd.DataFrame({"path": paths, "label": np.arange(60) // 20, "split": "train"})
    picked = plots.pick_samples(images, tmp_path, SIDE, seed=1)
    assert [picture.label for picture in picked] == [0] * 16 + [1] * 16 + [2] * 16
    assert len({picture.pixels[0, 0, 0] for picture in picked}) == plots.SAMPLES

    def firsts(seed: int) -> list[int]:
        return [int(picture.pixels[0, 0, 0]) for picture in plots.pick_samples(images, tmp_path, SIDE, seed)]

    assert firsts(1) == firsts(1) != firsts(2)


@pytest.mark.filterwarnings("default:Glyph")
def test_words_of_any_kind_can_be_drawn(tmp_path: Path) -> None:
    words = ("$x_1 \\frac{", "<b>[red]\x1b[31m", "\u4e2d\u6587", "a" * 300, "two\nlines", "\udce9")
    pixels = drawn(plots.sample_grid(pictures_of(6, 6), [ClassName(text, text) for text in words]), tmp_path)
    assert pixels.std() > 20


def test_strength_zero_shows_the_pictures_as_they_are_and_more_strength_changes_them() -> None:
    pictures = pictures_of(4, 4)
    rows = plots.augmented_rows(pictures, classes_of(4), "full", flip=True, mix_prob=0.5, seed=0)
    assert [row.title for row in rows[4:]] == ["CutMix", "MixUp"]
    for row, picture in zip(rows, [*pictures, pictures[0], pictures[0]], strict=True):
        assert row.images.shape == (5, SIDE, SIDE, 3)
        assert row.images.dtype == np.uint8
        assert np.array_equal(row.images[0], picture.pixels)
    assert all(np.any(row.images[4] != row.images[0]) for row in rows)


def test_mixing_says_how_much_of_each_class_an_image_is() -> None:
    """On a black and a white picture the target's share is the brightness, with either kind of mixing."""
    pictures = [plots.Picture(np.full((64, 64, 3), value, np.uint8), label) for label, value in ((0, 0), (1, 255))]
    classes = [ClassName("black", "black"), ClassName("white", "white")]
    batches = [np.stack([picture.pixels for picture in pictures])] * len(plots.STRENGTHS)
    for row in plots.mixed_rows(batches, [0, 1], classes, mix_prob=0.5, seed=0):
        assert row.captions[0] == "never mixed"
        for pixels, caption in zip(row.images[1:], row.captions[1:], strict=True):
            black, white = (int(part.split("%")[0]) / 100 for part in caption.split(" + "))
            assert black + white == pytest.approx(1, abs=0.011)
            assert pixels.mean() / 255 == pytest.approx(white, abs=0.01)


def test_the_augmentation_is_seeded_and_leaves_torchs_generator_alone() -> None:
    before = torch.random.get_rng_state()
    once, again, other = (
        plots.augmented_rows(pictures_of(4, 4), classes_of(4), "full", True, 0.5, seed) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [row.captions for row in once] == [row.captions for row in again] != [row.captions for row in other]
    assert all(np.array_equal(one.images, two.images) for one, two in zip(once, again, strict=True))


@pytest.mark.parametrize("count", [1, 2, 48])
def test_the_grids_are_drawn_with_few_and_many_pictures(count: int, tmp_path: Path) -> None:
    pictures, classes = pictures_of(2, count), classes_of(2)
    assert drawn(plots.sample_grid(pictures, classes), tmp_path).std() > 20
    rows = plots.augmented_rows(pictures, classes, "light", flip=False, mix_prob=0.5, seed=0)
    assert len(rows) == {1: 1, 2: 4, 48: 6}[count]
    assert drawn(plots.augmentation_grid(rows, "light", 0.5), tmp_path).std() > 20
