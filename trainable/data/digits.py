"""The handwritten digits that scikit-learn carries, as a small data set that needs no download."""

import shutil
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from trainable.errors import UserError

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
IMAGES_TOTAL, VAL_IMAGES, TEST_IMAGES = 1797, 300, 200
IMAGE_SIZE = 32


def write_digits(folder: Path) -> Path:
    """Writes the 1,797 digits to `folder` in the layout of Tiny-ImageNet and gives `folder` back.

    1,297 images train, 300 val and 200 test (unlabelled), stratified, always the same; 32x32 RGB JPEG. Returns at once
    where they are there already; two processes may call at once. Raises UserError where `folder` holds something else.
    """
    folder = Path(folder)
    if _is_complete(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if _is_complete(folder):
            return folder
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder}: exists but is not the complete digits; remove it or choose another folder")
        scratch = folder.with_name(folder.name + ".writing")
        shutil.rmtree(scratch, ignore_errors=True)
        _write(scratch)
        scratch.replace(folder)
    return folder


def _is_complete(folder: Path) -> bool:
    return (folder / "wnids.txt").is_file() and sum(1 for _ in folder.rglob("digit*.JPEG")) == IMAGES_TOTAL


def _write(folder: Path) -> None:
    from sklearn.datasets import load_digits  # over a second to import

    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    train, val, test = _split(labels)
    for row in train:
        _save(images[row], folder / f"train/digit{labels[row]}/images/digit{labels[row]}_{row}.JPEG")
    lines = []
    for number, row in enumerate(val):
        _save(images[row], folder / f"val/images/digit_val_{number}.JPEG")
        lines.append(f"digit_val_{number}.JPEG\tdigit{labels[row]}\t0\t0\t{IMAGE_SIZE - 1}\t{IMAGE_SIZE - 1}\n")
    for number, row in enumerate(test):
        _save(images[row], folder / f"test/images/digit_test_{number}.JPEG")
    (folder / "val/val_annotations.txt").write_text("".join(lines))
    (folder / "words.txt").write_text("".join(f"digit{i}\t{word}\n" for i, word in enumerate(WORDS)))
    (folder / "wnids.txt").write_text("".join(f"digit{i}\n" for i in range(len(WORDS))))


def _split(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    from sklearn.model_selection import train_test_split

    rest, test = train_test_split(np.arange(len(labels)), test_size=TEST_IMAGES, stratify=labels, random_state=0)
    train, val = train_test_split(rest, test_size=VAL_IMAGES, stratify=labels[rest], random_state=0)
    return np.sort(train), val, test  # val and test stay shuffled: their numbers say nothing of the order


def _save(image: NDArray[np.uint8], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    upscaled = Image.fromarray(image).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    upscaled.convert("RGB").save(path, "JPEG", quality=95)
