"""Reads a folder of labelled images: which files there are, of which class, in which published part.

Two layouts are known. Tiny-ImageNet as it is published:

    wnids.txt  words.txt  train/<wnid>/images/*.JPEG  val/images/*  val/val_annotations.txt  test/images/*

and class folders, with or without the `train` level:

    train/<class>/*  [val/<class>/*]  [test/*]      or      <class>/*

Nothing is decoded here. Names that start with a dot and files that aren't images by their extension are ignored.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from trainable.data.files import class_ids, images, images_below, lines, others, shorter_side
from trainable.errors import UsageError, UserError

ANNOTATIONS = "val/val_annotations.txt"


class ClassName(NamedTuple):
    """A class: the identifier used in folders, and the words for people."""

    id: str
    words: str


class Example(NamedTuple):
    """One image file: its posix path relative to the root, and the index of its class (-1: unlabelled)."""

    path: str
    label: int


@dataclass(frozen=True)
class Layout:
    """The files of a data set; classes are sorted by id, examples by path."""

    root: Path
    kind: str
    """`tiny-imagenet` or `class-folders`."""
    classes: tuple[ClassName, ...]
    train: tuple[Example, ...]
    val: tuple[Example, ...]
    """Empty where nothing is published for validation."""
    test: tuple[Example, ...]
    """Unlabelled."""


def read_layout(root: Path) -> Layout:
    """Lists the data set in `root`.

    Raises UsageError where `root` is no folder, and UserError where its content is not one of the known layouts.
    """
    root = Path(root)
    _check_is_folder(root)
    layout = _read_tiny_imagenet(root) if _looks_like_tiny_imagenet(root) else _read_class_folders(root)
    if len(layout.classes) < 2:
        raise UserError(f"{root}: only one class, {layout.classes[0].id!r}; a classifier needs at least two")
    return layout


def natural_image_size(layout: Layout) -> int:
    """The size in pixels to decode at: the median shorter side of up to 32 training images, as a multiple of 32.

    Only headers are read. The result lies in 32..224. Raises UserError where no sampled image can be opened.
    """
    sample = size_sample(layout)
    sides = sorted(side for example in sample if (side := shorter_side(layout.root / example.path)))
    if not sides:
        raise UserError(
            f"{layout.root / sample[0].path} and {len(sample) - 1} other sampled training images cannot be opened; "
            "check that the files are images"
        )
    median = sides[(len(sides) - 1) // 2]
    return min(224, max(32, median // 32 * 32))


def size_sample(layout: Layout) -> list[Example]:
    """The training images that tell the natural size."""
    step = max(1, len(layout.train) / 32)
    return [layout.train[int(i * step)] for i in range(min(32, len(layout.train)))]


def _check_is_folder(root: Path) -> None:
    if root.is_dir():
        return
    if not root.exists():
        raise UsageError(f"{root}: no such folder; give the folder that holds the images")
    if root.suffix.lower() == ".zip":
        raise UsageError(f"{root}: is a zip file, not a folder; unzip it first and give the folder")
    raise UsageError(f"{root}: is a file, not a folder; give the folder that holds the images")


def _looks_like_tiny_imagenet(root: Path) -> bool:
    if (root / "wnids.txt").is_file() or (root / ANNOTATIONS).is_file():
        return True
    return (root / "val/images").is_dir() and (root / "train").is_dir() and not (root / "train/images").is_dir()


def _read_tiny_imagenet(root: Path) -> Layout:
    if (root / "val/images").is_dir() and not (root / ANNOTATIONS).is_file():
        raise UserError(f"{root / 'val/images'}: there is no {ANNOTATIONS} with the labels; unzip the archive again")
    if not (root / "wnids.txt").is_file():
        raise UserError(f"{root / 'wnids.txt'}: missing; unzip the archive again or write one class id a line into it")
    wnids = sorted(set(lines(root / "wnids.txt")))
    folders = class_ids(root, "train")
    if unknown := sorted(set(folders) - set(wnids)):
        raise UserError(f"{root / 'train' / unknown[0]}: class is not in wnids.txt{others(unknown)}; add or remove it")
    if missing := sorted(set(wnids) - set(folders)):
        raise UserError(
            f"{root / 'wnids.txt'}: {missing[0]} has no folder in train{others(missing)}; unzip the archive again"
        )
    label = {wnid: index for index, wnid in enumerate(wnids)}
    train = _labelled(root, "train", label)
    annotated = (root / ANNOTATIONS).is_file()
    val = _read_annotations(root, label) if annotated else _read_val_folders(root, label)
    return Layout(root, "tiny-imagenet", _with_words(root, wnids), train, val, _unlabelled(root))


def _read_class_folders(root: Path) -> Layout:
    folder = "train" if (root / "train").is_dir() else ""
    if not folder and (other := next((name for name in ("val", "test") if (root / name).is_dir()), None)):
        raise UserError(f"{root}: has {other}/ but no train/; put the folders of the classes into {root / 'train'}")
    ids = class_ids(root, folder)
    if not folder and (inner := next((name for name in ids if (root / name / "train").is_dir()), None)):
        raise UserError(f"{root}: holds a data set instead of being one; give {root / inner}")
    label = {name: index for index, name in enumerate(ids)}
    train = _labelled(root, folder, label)
    val = _read_val_folders(root, label) if folder else ()
    test = _unlabelled(root) if folder else ()
    return Layout(root, "class-folders", tuple(ClassName(name, name) for name in ids), train, val, test)


def _read_val_folders(root: Path, label: dict[str, int]) -> tuple[Example, ...]:
    if not (root / "val").is_dir():
        return ()
    if unknown := [name for name in class_ids(root, "val") if name not in label]:
        raise UserError(
            f"{root / 'val' / unknown[0]}: train has no such class{others(unknown)}; rename, move or remove the folder"
        )
    return _labelled(root, "val", label)


def _read_annotations(root: Path, label: dict[str, int]) -> tuple[Example, ...]:
    """Rows are `file <tab> wnid <tab> box`; exactly the files in val/images must be listed."""
    source = root / ANNOTATIONS
    present = set(images(root, "val/images")) if (root / "val/images").is_dir() else set()
    labels: dict[str, int] = {}
    for number, line in enumerate(lines(source, keep_blank=True), 1):
        if not line.strip():
            continue
        name, _, rest = line.partition("\t")
        wnid, path = rest.split("\t")[0].strip(), f"val/images/{name}"
        if not name or not wnid:
            raise UserError(f"{source}:{number}: malformed line {line!r}; it must be: file, tab, wnid, tab, box")
        if wnid not in label:
            raise UserError(f"{source}:{number}: unknown wnid {wnid!r}; it must be listed in wnids.txt")
        if path in labels:
            raise UserError(f"{source}:{number}: {name} is listed a second time; keep one line for each file")
        labels[path] = label[wnid]
    if missing := sorted(set(labels) - present):
        raise UserError(f"{source}: {missing[0]} is listed but missing{others(missing)}; unzip the archive again")
    if unlisted := sorted(present - set(labels)):
        raise UserError(f"{source}: {unlisted[0]} has no line{others(unlisted)}; add its label or remove the file")
    return tuple(Example(path, labels[path]) for path in sorted(labels))


def _with_words(root: Path, wnids: list[str]) -> tuple[ClassName, ...]:
    path = root / "words.txt"
    pairs = (line.split("\t", 1) for line in lines(path)) if path.is_file() else ()
    words = {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}
    return tuple(ClassName(wnid, words.get(wnid) or wnid) for wnid in wnids)


def _labelled(root: Path, folder: str, label: dict[str, int]) -> tuple[Example, ...]:
    """The images in `folder/<class>` and `folder/<class>/images`."""
    found: list[Example] = []
    empty: list[str] = []
    for name in class_ids(root, folder):
        place = f"{folder}/{name}" if folder else name
        paths = images(root, place)
        if (root / place / "images").is_dir():
            paths += images(root, f"{place}/images")
        found += [Example(path, label[name]) for path in paths]
        if not paths:
            empty.append(name)
    if not found:
        raise UserError(f"{root / folder}: no images at all; expected <class>/*.jpg in it")
    if empty:
        raise UserError(f"{root / folder / empty[0]}: no images of this class{others(empty)}; add some or remove it")
    return tuple(sorted(found))


def _unlabelled(root: Path) -> tuple[Example, ...]:
    if not (root / "test").is_dir():
        return ()
    return tuple(Example(path, -1) for path in sorted(images_below(root, "test")))
