"""True classes from a table or from folders, and tables that can't be meant."""

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.labels import read_labels
from trainable.errors import UsageError

CLASSES = ("blue", "green", "red")


@pytest.fixture
def table(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "labels.csv"
        path.write_text(text)
        return path

    return write


def test_the_folder_of_an_image_is_its_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label_of = read_labels("folder", CLASSES)
    assert label_of("val/red/1.png") == "red"
    assert label_of("train/green/images/1.JPEG") == "green"
    assert label_of("photos.zip/blue/1.png") == "blue"
    assert label_of("red/other/1.png") is None
    (tmp_path / "red").mkdir()
    monkeypatch.chdir(tmp_path / "red")
    assert label_of("1.png") == "red"


def test_a_table_is_looked_up_as_it_names_files(
    table: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table(f"\ufeffclass,file,more\nred,./val/1.png,x\nblue,{tmp_path}/val/2.png\ngreen,a.zip/3.png\n")
    label_of = read_labels(str(path), CLASSES)
    assert label_of("val/1.png") == "red"
    assert label_of("val//1.png") == "red"
    assert label_of(f"{tmp_path}/val/1.png") == "red"  # relative to the table's folder
    assert label_of("a.zip/3.png") == "green"
    assert label_of("val/3.png") is None
    monkeypatch.chdir(tmp_path)
    assert label_of("val/2.png") == "blue"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "file,class\n1.png,red\n2.png,gren\n",
            "line 3: class 'gren' is none of the ensemble's 3; did you mean 'green'",
        ),
        ("file,class\n1.png,7\n", "line 2: class '7' is none of the ensemble's 3; known are blue, green, red"),
        ("file,class\n1.png\n", "line 2: class None is none of the ensemble's 3"),
        ("file,class\na.png,red\n./a.png,blue\n", "line 3: a.png is 'red' in an earlier line and 'blue' here; delete"),
        ("name,class\n1.png,red\n", "has no column 'file'; its first line must be file,class"),
        ("", "has no column 'file'"),
    ],
    ids=["misspelt", "unknown", "short", "twice", "header", "empty"],
)
def test_a_table_that_cannot_be_meant_is_told_by_its_line(table: Callable[[str], Path], text: str, error: str) -> None:
    path = table(text)
    with pytest.raises(UsageError, match=f"^--labels {path}: {error}"):
        read_labels(str(path), CLASSES)


def test_a_table_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--labels .*none\.csv: can't be read \(no such file or directory\); give a"):
        read_labels(str(tmp_path / "none.csv"), CLASSES)
