"""The look at a data set: every fact that it counts, every warning, and the command as a user starts it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from analysis import dataset as command
from analysis.dataset_checks import (
    FACTS,
    Scan,
    class_counts,
    find_twins,
    fingerprint,
    look_at,
    scan,
    split_summary,
    warnings_about,
)
from trainable.address import open_place
from trainable.data.dataset import open_dataset
from trainable.data.layouts import read_layout
from trainable.errors import UsageError, UserError

PNGS = {command.SIZES, command.COUNTS, command.SAMPLES, command.AUGMENTATION}
SIDE = 32

MakeFolder = Callable[..., Path]


def picture(seed: int, width: int = 48, height: int = 40) -> Image.Image:
    """A smooth picture that no other seed gives."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def save(image: Image.Image, path: Path, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Writes different pictures: `train` and `val` say how many images each class has in each part."""

    def make(train: dict[str, int], val: dict[str, int] | None = None, test: int = 0) -> Path:
        root = tmp_path / "data"
        seeds = iter(range(10_000))
        for part, counts in (("train", train), ("val", val or {})):
            for name, count in counts.items():
                for index in range(count):
                    save(picture(next(seeds)), root / part / name / f"{index}.png")
        for index in range(test):
            save(picture(next(seeds)), root / "test" / f"{index}.png")
        return root

    return make


def look(root: Path, hashes: bool = True) -> tuple[Scan, list[str]]:
    """The scan of a folder, and its warnings."""
    layout = read_layout(root)
    scanned = scan(layout, SIDE, seed=0, hashes=hashes)
    twins = find_twins(scanned.images, scanned.thumbnails) if hashes else None
    counts = class_counts(scanned.images, len(layout.classes))
    return scanned, warnings_about(scanned, twins, counts, layout.classes, SIDE)


def test_counts_are_those_of_the_files_and_of_the_searchs_own_splits(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"ant": 8, "bee": 6}, {"ant": 3, "bee": 2}, test=4)
    scanned, found = look(root)
    counts = class_counts(scanned.images, 2)
    assert counts.to_dict("list") == {"train": [6, 4], "select": [2, 2], "holdout": [3, 2]}
    assert found == []
    dataset = open_dataset(root, SIDE, seed=0, cache_dir=tmp_path / "cache")
    for name, rows in dataset.splits._asdict().items():
        ours = scanned.images.loc[scanned.images["split"] == name, "path"]
        assert list(ours) == [dataset.cache.names[row] for row in rows]


def test_without_a_published_val_part_holdout_is_cut_from_train(make_folder: MakeFolder) -> None:
    scanned, _ = look(make_folder({"ant": 10, "bee": 20}))
    assert class_counts(scanned.images, 2).to_dict("list") == {"train": [6, 14], "select": [2, 4], "holdout": [2, 2]}


def test_the_summary_has_sides_and_bytes_of_each_split(make_folder: MakeFolder) -> None:
    root = make_folder({"ant": 5, "bee": 5}, {"ant": 1, "bee": 1}, test=1)
    save(picture(1, 100, 300), root / "test" / "tall.png")
    summary = split_summary(look(root)[0].images)
    assert list(summary.index) == ["train", "select", "holdout", "test", "all"]
    assert list(summary["images"]) == [6, 4, 2, 2, 14]
    assert list(summary["classes"]) == [2, 2, 2, 0, 2]
    assert list(summary.loc["test", ["side_min", "side_median", "side_max"]]) == [40, 70, 100]
    assert summary.loc["all", "bytes"] == sum(path.stat().st_size for path in root.rglob("*.png"))


def test_an_image_on_its_side_has_the_sides_that_people_see(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    path = save(picture(0, 60, 30), tmp_path / "photo.jpg", exif=exif)
    facts = np.array([look_at(path, SIDE, hashes=True)], FACTS)[0]
    assert (facts["width"], facts["height"], facts["mode"], facts["bytes"]) == (30, 60, "RGB", path.stat().st_size)


@pytest.mark.parametrize("options", [{}, {"quality": 75}, {"quality": 50}])
def test_a_training_image_saved_again_is_found_in_holdout(make_folder: MakeFolder, options: dict[str, int]) -> None:
    root = make_folder({"ant": 9, "bee": 9}, {"ant": 4, "bee": 4})
    original = next(
        path for path, split in look(root)[0].images[["path", "split"]].itertuples(index=False) if split == "train"
    )
    name = "copy.jpg" if options else "copy.png"
    save(Image.open(root / original), root / "val" / "bee" / name, **options)
    scanned, found = look(root)
    twins = find_twins(scanned.images, scanned.thumbnails)
    assert twins.to_numpy().tolist() == [["holdout", f"val/bee/{name}", "train", original]]
    assert found == [f"duplicates: holdout shares 1 of its 9 images with train: {original} = val/bee/{name}"]


def test_of_many_duplicates_three_pairs_are_named_and_all_counted(make_folder: MakeFolder) -> None:
    root = make_folder({"ant": 6, "bee": 6}, {"ant": 2, "bee": 2})
    train = look(root)[0].images.query("split == 'train'")["path"]
    for index, path in enumerate(train):
        save(Image.open(root / path), root / "test" / f"{index}.png")
    (line,) = look(root)[1]
    assert line.startswith("duplicates: test shares 8 of its 8 images with train: train/ant/")
    assert line.count(" = test/") == 3
    assert line.endswith(", ...")


def test_flat_pictures_of_different_colours_are_no_duplicates(make_folder: MakeFolder) -> None:
    root = make_folder({"ant": 5, "bee": 5}, {"ant": 1, "bee": 1})
    for index in range(20):
        part = ("train/ant", "train/bee", "val/ant", "val/bee")[index % 4]
        save(Image.new("RGB", (40, 40), (10 * index, 90, 250 - index)), root / part / f"flat{index}.png")
    scanned, found = look(root)
    assert scanned.images["hash"].value_counts().iloc[0] == 20, "their perceptual hashes don't tell them apart"
    assert found == []


def test_ten_thousand_equal_pictures_are_compared_at_once() -> None:
    import pandas as pd

    split = np.where(np.arange(10_000) % 2, "holdout", "train")
    images = pd.DataFrame({"path": np.arange(10_000).astype(str), "split": split, "hash": 1})
    twins = find_twins(images, np.full((10_000, 192), 7, np.uint8))
    assert len(twins) == 5_000
    assert set(twins["earlier_path"]) == {"0"}


def test_the_fingerprint_depends_on_the_picture() -> None:
    prints = [fingerprint(np.asarray(picture(seed, SIDE, SIDE))) for seed in range(20)]
    assert len({number for number, _ in prints}) > 15
    assert all(0 <= number < 2**16 and thumbnail.shape == (192,) for number, thumbnail in prints)


def test_without_hashes_nothing_is_said_of_duplicates(make_folder: MakeFolder) -> None:
    root = make_folder({"ant": 5, "bee": 5}, {"ant": 1, "bee": 1})
    (root / "val/ant/0.png").write_bytes((root / "train/ant/0.png").read_bytes())
    assert look(root, hashes=False)[1] == []


def test_classes_of_different_size_are_told_with_their_ratio(make_folder: MakeFolder) -> None:
    _, found = look(make_folder({"ant": 18, "bee": 6, "cat": 7}))
    assert found == ["imbalance: the largest class, ant, has 18 images, 3.0 times the 6 of the smallest, bee"]


def test_a_class_that_a_split_lacks_is_told(make_folder: MakeFolder) -> None:
    _, found = look(make_folder({"ant": 5, "bee": 5, "cat": 5}, {"ant": 2, "cat": 2}))
    assert found == ["absent: no image in holdout of 1 of 3 classes: bee"]


def test_images_that_the_search_cannot_split_are_looked_at_all_the_same(make_folder: MakeFolder) -> None:
    scanned, found = look(make_folder({"ant": 8, "bee": 2}, {"ant": 2, "bee": 1}))
    assert class_counts(scanned.images, 2).to_dict("list") == {"train": [8, 2], "holdout": [2, 1]}
    assert found[0].startswith("the search refuses: class 'bee' has 2 readable training images but needs 3")


def test_broken_files_are_named_with_their_reason_and_left_out(make_folder: MakeFolder) -> None:
    root = make_folder({"ant": 5, "bee": 5}, {"ant": 1, "bee": 1})
    (root / "train/ant/text.jpg").write_text("no image")
    Image.new("1", (20_000, 10_000)).save(root / "train/bee/vast.png")
    (root / "val/ant/gone.png").symlink_to(root / "nowhere.png")
    scanned, (line,) = look(root)
    assert len(scanned.images) == 12
    assert line == (
        "broken: no image in 3 of 15 files: train/ant/text.jpg (not an image), train/bee/vast.png "
        "(too many pixels), val/ant/gone.png (no such file or directory); "
        "repair or remove them, or search with --skip-bad-images"
    )


def test_mixed_modes_animations_and_tiny_images_are_told(make_folder: MakeFolder) -> None:
    root = make_folder({"ant": 5, "bee": 5}, {"ant": 1, "bee": 1})
    for seed, (mode, name) in enumerate((("L", "grey.png"), ("RGBA", "clear.png"), ("CMYK", "print.jpg")), 900):
        save(picture(seed).convert(mode), root / "train" / "ant" / name)
    frames = [picture(seed) for seed in (950, 951)]
    save(frames[0], root / "train" / "bee" / "moving.webp", save_all=True, append_images=frames[1:])
    save(Image.new("RGB", (1, 1), (9, 9, 9)), root / "train" / "bee" / "dot.png")
    _, found = look(root)
    assert found == [
        "mixed modes: 14 RGB, 1 RGB with transparency, 1 greyscale, 1 CMYK; all become RGB, transparent parts white",
        "animated: several frames in 1 of 17 images, of which the first is taken: train/bee/moving.webp",
        "tiny: below the 32 px of training in 1 of 17 images: train/bee/dot.png (1 x 1)",
    ]


def test_an_image_of_a_hundred_million_pixels_is_looked_at(tmp_path: Path) -> None:
    Image.new("L", (10_000, 10_000), 120).save(tmp_path / "large.jpg")
    width, height, *_ = look_at(tmp_path / "large.jpg", SIDE, hashes=True)
    assert (width, height) == (10_000, 10_000)


def test_where_no_training_file_is_an_image_the_first_is_named(make_folder: MakeFolder) -> None:
    root = make_folder({"ant": 2, "bee": 2}, {"ant": 1, "bee": 1})
    for path in (root / "train").rglob("*.png"):
        path.write_text("no image")
    with pytest.raises(UserError, match=r"data: none of 4 training images can be decoded, the first is train/ant/0"):
        scan(read_layout(root), SIDE, seed=0)


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(command.__file__).parents[1])}
    call = [sys.executable, "-m", "analysis.dataset", *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, check=False, cwd=cwd, env=environment)


def test_the_command_prints_a_summary_and_writes_four_figures(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"ant": 20, "\x1b[31mbee": 6}, {"ant": 2, "\x1b[31mbee": 2}, test=2)
    done = run(root, "--image_size", SIDE, "--no-flip", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == f"{root}: 32 images of 2 classes, class-folders"
    assert lines[4].split() == ["train", "20", "2", r"\x1b[31mbee", "4", "ant", "16", "40", "0.1"]
    assert lines[7].split()[:4] == ["test", "2", "0", "-"]
    assert "\x1b" not in done.stdout
    assert "no warnings" in lines
    assert {path.name for path in (tmp_path / "dataset" / "data").iterdir()} == PNGS


def test_an_address_is_fetched_once_and_named_as_it_was_given(make_folder: MakeFolder, tmp_path: Path, s3) -> None:
    root = make_folder({"ant": 5, "bee": 5}, {"ant": 1, "bee": 1})
    archive = Path(shutil.make_archive(str(tmp_path / "insects"), "zip", root))
    bucket = s3.make_bucket()
    (open_place(bucket, "") / "insects.zip").write_bytes(archive.read_bytes())
    address = f"{bucket}/insects.zip"
    done = run(address, "--image-size", SIDE, "--cache-dir", tmp_path / "cache", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"{address}: 12 images of 2 classes, class-folders"
    assert {path.name for path in (tmp_path / "dataset" / "insects").iterdir()} == PNGS
    assert len(list((tmp_path / "cache").glob("insects-files-*/fetched.json"))) == 1


def test_a_file_address_and_an_archive_are_looked_at(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder({"ant": 5, "bee": 5}, {"ant": 1, "bee": 1})
    archive = Path(shutil.make_archive(str(tmp_path / "insects"), "zip", root))
    seen: list[tuple[str, int]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "report", lambda layout, *rest: seen.append((rest[-1], len(layout.train))))
    for data in (f"file://{root}", str(archive)):
        command.main(data, None, None, 0, True, "full", None, tmp_path / "cache")
    assert seen == [(f"file://{root}", 10), (str(archive), 10)]
    assert {path.name for path in (tmp_path / "dataset").iterdir()} == {"data", "insects"}
    with pytest.raises(UsageError, match=r"--output .*: lies in the data set"):
        command.main(f"file://{root}", root / "plots", None, 0, True, "full", None, None)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("none",), UsageError, "none: no such folder; "),
        (("empty",), UserError, "empty: no images in folders of classes; "),
        (("flat",), UserError, "flat: no images in folders of classes; "),
        (("data", "data"), UsageError, r"--output data: lies in the data set .*; give a folder outside"),
        (("data", "data/train/plots"), UsageError, "--output data/train/plots: lies in the data set"),
        (("data", "file"), UsageError, "--output file: is a file; give a folder"),
        (("data", "file/below"), UsageError, r"--output file/below: can't be written \(Not a directory\); "),
    ],
)
def test_what_cannot_be_meant_is_told_in_one_line(
    make_folder: MakeFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    error: type[UserError],
    message: str,
) -> None:
    make_folder({"ant": 5, "bee": 5})
    (tmp_path / "empty").mkdir()
    save(picture(0), tmp_path / "flat" / "0.png")
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    data, output = Path(arguments[0]), Path(arguments[1]) if len(arguments) > 1 else None
    with pytest.raises(error, match=message):
        command.main(str(data), output, None, 0, True, "full", None, None)
    assert not (tmp_path / "dataset").exists()


def test_without_data_the_embedded_digits_are_written_and_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[command.Look] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "report", lambda layout, folder, look, told: seen.append(look))
    command.main(None, None, None, 3, True, "full", None, None)
    assert seen == [command.Look(image_size=32, seed=3, hashes=True, augment="full", flip=False)]
    assert (tmp_path / "data/digits/wnids.txt").is_file()
    assert (tmp_path / "dataset/digits").is_dir()
    assert capsys.readouterr().out.startswith("no data set given or downloaded: using the embedded digits")
