"""Names from data where they are written: nothing in them is obeyed by a terminal or a spreadsheet."""

import csv
import io
import os
import shutil
from pathlib import Path

import pytest
import torch

from trainable.config import TrialConfig
from trainable.data.dataset import open_dataset
from trainable.escape import csv_cell, printable, write_csv
from trainable.train import TEST_PREDICTIONS, predict_test
from trainable.training import Training


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("two\nlines\t", r"two\nlines\t"),
        ("bell\a, \x9b31m, \x7f", r"bell\x07, \x9b31m, \x7f"),
        ("turned \u202e round", r"turned \u202e round"),
        ("not UTF-8: \udcff", r"not UTF-8: \udcff"),
        ("straße 雪　[red]🦊", "straße 雪　[red]🦊"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_instead(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", '=HYPERLINK("x")'])
def test_text_that_a_spreadsheet_would_run_gets_an_apostrophe(text: str) -> None:
    assert csv_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", [-1, -0.5, "0.5", "a=b", "", "n01443537", None, True])
def test_numbers_and_other_text_stay_as_they_are(value: object) -> None:
    assert csv_cell(value) is value


def test_a_file_keeps_what_it_is_given_but_for_formulas() -> None:
    file = io.StringIO(newline="")
    write_csv(file, ["file", "loss"], [{"file": "=cmd\x1b[2J", "loss": -1.5}, {"file": "a\nb"}])
    assert list(csv.reader(io.StringIO(file.getvalue()))) == [["file", "loss"], ["'=cmd\x1b[2J", "-1.5"], ["a\nb", ""]]


def test_rows_on_a_terminal_have_no_control_characters() -> None:
    reader, writer = os.openpty()
    with os.fdopen(writer, "w", newline="") as terminal:
        write_csv(terminal, ["file"], [{"file": "=a\x1b[2J.png"}])
        terminal.flush()
        shown = b""
        while shown.count(b"\n") < 2:
            shown += os.read(reader, 1000)
    os.close(reader)
    assert shown.decode().split() == ["file", r"'=a\x1b[2J.png"]


def test_the_single_runs_predictions_hold_no_formulas(colour_folder: Path, tmp_path: Path) -> None:
    root = shutil.copytree(colour_folder, tmp_path / "colours")
    (root / "test/test0.png").rename(root / "test/=cmd.png")
    for part in ("train", "val"):
        (root / part / "blue").rename(root / part / "@blue")
        (root / part / "red").rename(root / part / "-red")
        (root / part / "green").rename(root / part / "+green")
    dataset = open_dataset(root, progress=False)
    config = TrialConfig(data=root, arch="test_resnet", epochs=1)
    training = Training(config, dataset, dataset.splits.train, dataset.splits.select, torch.device("cpu"))
    training.run_step()
    predict_test(training, tmp_path)
    with (tmp_path / TEST_PREDICTIONS).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert "'=cmd.png" in [row["file"] for row in rows]
    assert all(row[column].startswith("'") for row in rows for column in ("class_id", "words", "top5"))
    assert all(0 < float(row["confidence"]) <= 1 for row in rows)
