import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainable.data import digits
from trainable.data.digits import write_digits
from trainable.data.layouts import read_layout
from trainable.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("data") / "digits")


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_the_digits_are_a_tiny_imagenet_of_ten_classes(folder: Path) -> None:
    layout = read_layout(folder)
    assert layout.kind == "tiny-imagenet"
    assert layout.classes[0] == ("digit0", "zero")
    assert layout.classes[9] == ("digit9", "nine")
    assert [len(part) for part in (layout.train, layout.val, layout.test)] == [1297, 300, 200]


def test_train_and_val_are_stratified(folder: Path) -> None:
    layout = read_layout(folder)
    for part, share in ((layout.train, 1297 / 1797), (layout.val, 300 / 1797)):
        counts = Counter(example.label for example in part)
        assert max(abs(counts[label] - 180 * share) for label in range(10)) < 6


def test_the_images_are_32_px_rgb_jpegs_that_show_the_digit(folder: Path) -> None:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    for example in read_layout(folder).train[::100]:
        row = int(Path(example.path).stem.split("_")[1])
        with Image.open(folder / example.path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (32, 32))
            small = np.asarray(image.convert("L").resize((8, 8), Image.Resampling.BOX)) / 255 * 16
        assert labels[row] == example.label
        assert np.abs(small - pixels[row].reshape(8, 8)).mean() < 1.5


def test_the_bytes_are_always_the_same(folder: Path, tmp_path: Path) -> None:
    assert digest(write_digits(tmp_path / "again")) == digest(folder)


def test_complete_digits_are_not_written_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise AssertionError("written again")

    monkeypatch.setattr(digits, "_write", refuse)
    assert write_digits(folder) == folder


def test_an_empty_folder_is_filled(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    assert digest(write_digits(tmp_path / "digits")) == digest(folder)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits/thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="digits: exists but is not the complete digits; remove it"):
        write_digits(tmp_path / "digits")
    assert (tmp_path / "digits/thesis.txt").read_text() == "years of work"


def test_two_processes_at_once_write_one_data_set(folder: Path, tmp_path: Path) -> None:
    code = "import sys; from trainable.data.digits import write_digits; write_digits(sys.argv[1])"
    command = [sys.executable, "-c", code, str(tmp_path / "new" / "digits")]
    both = [subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert digest(tmp_path / "new" / "digits") == digest(folder)
    assert not (tmp_path / "new" / "digits.writing").exists()
