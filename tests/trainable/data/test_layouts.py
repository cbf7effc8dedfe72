import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from trainable.data.layouts import ClassName, Example, Layout, natural_image_size, read_layout
from trainable.errors import UsageError, UserError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def tiny_imagenet(root: Path) -> Path:
    """Two classes, listed in the wrong order, with two train, one val and one test image each."""
    for wnid in ("n2", "n1"):
        touch(root, f"train/{wnid}/images/{wnid}_1.JPEG", f"train/{wnid}/images/{wnid}_0.JPEG")
        touch(root, f"train/{wnid}/{wnid}_boxes.txt")
    touch(root, "val/images/val_0.JPEG", "val/images/val_1.JPEG", "test/images/test_1.JPEG", "test/images/test_0.JPEG")
    (root / "wnids.txt").write_text("n2\nn1\n")
    (root / "words.txt").write_text("n0\tnot here\nn1\tbullfrog, Rana catesbeiana\nn2\tslug\n")
    (root / "val/val_annotations.txt").write_text("val_1.JPEG\tn1\t0\t0\t9\t9\nval_0.JPEG\tn2\t0\t0\t9\t9\n")
    return root


def paths(examples: tuple[Example, ...]) -> list[str]:
    return [example.path for example in examples]


def test_tiny_imagenet_is_read_as_published(tmp_path: Path) -> None:
    layout = read_layout(tiny_imagenet(tmp_path))
    assert layout == Layout(
        root=tmp_path,
        kind="tiny-imagenet",
        classes=(ClassName("n1", "bullfrog, Rana catesbeiana"), ClassName("n2", "slug")),
        train=tuple(Example(f"train/n{c + 1}/images/n{c + 1}_{i}.JPEG", c) for c in (0, 1) for i in (0, 1)),
        val=(Example("val/images/val_0.JPEG", 1), Example("val/images/val_1.JPEG", 0)),
        test=(Example("test/images/test_0.JPEG", -1), Example("test/images/test_1.JPEG", -1)),
    )


def test_words_are_the_ids_where_words_txt_is_absent(tmp_path: Path) -> None:
    (tiny_imagenet(tmp_path) / "words.txt").unlink()
    assert read_layout(tmp_path).classes == (ClassName("n1", "n1"), ClassName("n2", "n2"))


def test_a_val_folder_sorted_into_classes_is_read_without_annotations(tmp_path: Path) -> None:
    root = tiny_imagenet(tmp_path)
    (root / "val/val_annotations.txt").unlink()
    for number in (0, 1):
        (root / f"val/n{number + 1}").mkdir()
        (root / f"val/images/val_{number}.JPEG").rename(root / f"val/n{number + 1}/val_{number}.JPEG")
    (root / "val/images").rmdir()
    assert read_layout(root).val == (Example("val/n1/val_0.JPEG", 0), Example("val/n2/val_1.JPEG", 1))


def test_class_folders_are_read_with_val_and_a_test_folder_of_any_depth(tmp_path: Path) -> None:
    touch(tmp_path, "train/dog/b.png", "train/cat/a.JPG", "val/cat/c.webp", "test/d.jpg", "test/deep/er/e.gif")
    layout = read_layout(tmp_path)
    assert (layout.kind, layout.classes) == ("class-folders", (ClassName("cat", "cat"), ClassName("dog", "dog")))
    assert layout.train == (Example("train/cat/a.JPG", 0), Example("train/dog/b.png", 1))
    assert layout.val == (Example("val/cat/c.webp", 0),)
    assert layout.test == (Example("test/d.jpg", -1), Example("test/deep/er/e.gif", -1))


def test_class_folders_without_a_train_folder_are_all_train(tmp_path: Path) -> None:
    touch(tmp_path, "dog/b.png", "cat/a.jpg", "README.md")
    layout = read_layout(tmp_path)
    assert layout.train == (Example("cat/a.jpg", 0), Example("dog/b.png", 1))
    assert (layout.val, layout.test) == ((), ())


def test_hidden_files_and_other_extensions_are_ignored(tmp_path: Path) -> None:
    touch(
        tmp_path, "cat/a.jpg", "cat/.b.jpg", "cat/notes.txt", "cat/jpg", "dog/a.TIFF", ".cache/x.jpg", "__MACOSX/y.jpg"
    )
    assert paths(read_layout(tmp_path).train) == ["cat/a.jpg", "dog/a.TIFF"]


def test_a_dangling_link_is_listed_so_that_it_is_reported_as_bad_later(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.jpg", "dog/a.jpg")
    (tmp_path / "cat/b.jpg").symlink_to("nowhere.jpg")
    assert "cat/b.jpg" in paths(read_layout(tmp_path).train)


Breaker = Callable[[Path], None]


def drop_annotations(root: Path) -> None:
    (root / "val/val_annotations.txt").unlink()


def drop_val_images(root: Path) -> None:
    for path in (root / "val/images").iterdir():
        path.unlink()


def append_annotation(line: str) -> Breaker:
    def apply(root: Path) -> None:
        with (root / "val/val_annotations.txt").open("a") as file:
            file.write(line)

    return apply


def drop_wnid(root: Path) -> None:
    (root / "wnids.txt").write_text("n1\n")


def add_wnid(root: Path) -> None:
    (root / "wnids.txt").write_text("n1\nn2\nn8\nn9\n")


def drop_wnids(root: Path) -> None:
    (root / "wnids.txt").unlink()


def empty_class(root: Path) -> None:
    for path in (root / "train/n1/images").iterdir():
        path.unlink()


def empty_all_classes(root: Path) -> None:
    for path in root.glob("train/*/images/*"):
        path.unlink()


def unlisted_val(root: Path) -> None:
    touch(root, "val/images/val_2.JPEG")


@pytest.mark.parametrize(
    ("breaker", "message"),
    [
        (drop_annotations, r"val/images: there is no val/val_annotations\.txt"),
        (drop_val_images, r"val_annotations\.txt: val/images/val_0\.JPEG is listed but missing \(2 in all\)"),
        (append_annotation("val_2.JPEG\tn1\n"), r"val/images/val_2\.JPEG is listed but missing;"),
        (append_annotation("val_2.JPEG\tn7\n"), r"val_annotations\.txt:3: unknown wnid 'n7'"),
        (append_annotation("\nval_2.JPEG n1\n"), r"val_annotations\.txt:4: malformed line 'val_2\.JPEG n1'"),
        (append_annotation("val_1.JPEG\tn1\n"), r"val_annotations\.txt:3: val_1\.JPEG is listed a second time"),
        (unlisted_val, r"val_annotations\.txt: val/images/val_2\.JPEG has no line"),
        (drop_wnid, r"train/n2: class is not in wnids\.txt"),
        (add_wnid, r"wnids\.txt: n8 has no folder in train \(2 in all\)"),
        (drop_wnids, r"wnids\.txt: missing"),
        (empty_class, r"train/n1: no images of this class"),
        (empty_all_classes, r"train: no images at all"),
    ],
)
def test_a_broken_tiny_imagenet_is_refused_in_one_line(tmp_path: Path, breaker: Breaker, message: str) -> None:
    breaker(tiny_imagenet(tmp_path))
    with pytest.raises(UserError, match=message) as caught:
        read_layout(tmp_path)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, UsageError)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no images in folders of classes"),
        (["a.jpg", "b.jpg"], "no images in folders of classes"),
        (["cat/a.txt", "dog/b.txt"], "no images at all"),
        (["cat/a.jpg", "dog/b.txt"], "dog: no images of this class"),
        (["cat/a.jpg"], "only one class, 'cat'"),
        (["train/cat/a.jpg", "train/dog/a.jpg", "val/emu/a.jpg", "val/yak/a.jpg"], r"val/emu: train has no .* \(2 in"),
        (["train/cat/a.jpg", "train/dog/a.jpg", "val/a.jpg"], "val: no images in folders of classes"),
        (["cat/a.jpg", "dog/a.jpg", "val/cat/b.jpg"], "has val/ but no train/"),
        (["inner/train/cat/a.jpg", "inner/train/dog/a.jpg"], "holds a data set .* give .*inner"),
    ],
)
def test_broken_class_folders_are_refused_in_one_line(tmp_path: Path, names: list[str], message: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(UserError, match=message) as caught:
        read_layout(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_root_that_is_no_folder_is_a_usage_error(tmp_path: Path) -> None:
    touch(tmp_path, "data.zip", "data.txt")
    with pytest.raises(UsageError, match="nowhere: no such folder"):
        read_layout(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"data\.zip: is a zip file.*unzip it first"):
        read_layout(tmp_path / "data.zip")
    with pytest.raises(UsageError, match=r"data\.txt: is a file"):
        read_layout(tmp_path / "data.txt")


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([(64, 64)], 64), ([(500, 375)], 224), ([(8, 8)], 32), ([(100, 127)], 96), ([(32, 32), (64, 80), (300, 300)], 64)],
)
def test_the_natural_size_is_the_median_shorter_side_in_steps_of_32(
    tmp_path: Path, sizes: list[tuple[int, int]], expected: int
) -> None:
    for number, size in enumerate(sizes):
        for name in ("cat", "dog"):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.new("RGB", size).save(tmp_path / name / f"{number}.png")
    assert natural_image_size(read_layout(tmp_path)) == expected


def test_the_natural_size_needs_one_image_that_can_be_opened(tmp_path: Path) -> None:
    layout = read_layout(touch(tmp_path, "cat/a.jpg", "cat/b.jpg", "dog/a.jpg"))
    with pytest.raises(UserError, match=r"cat/a\.jpg and 2 other sampled training images cannot be opened"):
        natural_image_size(layout)
    Image.new("RGB", (96, 96)).save(tmp_path / "cat/b.jpg")
    assert natural_image_size(layout) == 96


def test_the_module_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, trainable.data.layouts; print([m for m in ('torch', 'numpy', 'sklearn') if m in sys.modules])"
    root = Path(__file__).resolve().parents[3]
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, env={**os.environ, "PYTHONPATH": "."}
    )
    assert result.stdout.strip() == "[]", result.stderr
