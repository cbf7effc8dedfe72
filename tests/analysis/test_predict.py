"""Prediction of files: rows in order, broken images told apart, nothing half-written, and how many are right."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest

from analysis import load_ensemble, pipeline
from analysis.decoding import try_read
from analysis.export import Export
from analysis.images import Source
from analysis.predict import main
from analysis.rows import COLUMNS, LABELLED_COLUMNS
from benchmarks._made_up_ensemble import write_ensemble
from trainable.errors import UsageError, UserError

CLASSES = ("blue", "green", "red")


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained members of two image sizes."""
    folder = tmp_path_factory.mktemp("made-up") / "ensemble"
    write_ensemble(folder, "test_resnet", [32, 48], CLASSES)
    return folder


@pytest.fixture
def predict(ensemble: Path, tmp_path: Path) -> Callable[..., tuple[int, list[dict[str, Any]]]]:
    """Runs the command in this process; returns its exit code and the rows of a CSV file."""

    def run(*inputs: object, **options: Any) -> tuple[int, list[dict[str, Any]]]:
        output = tmp_path / "preds.csv"
        code = main(
            ensemble, [str(each) for each in inputs], str(output), **{"device": "cpu", "batch_size": 8} | options
        )
        with output.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            return code, list(csv.DictReader(file))

    return run


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """The command as a user starts it."""
    command = [sys.executable, "-m", "analysis.predict", *map(str, arguments), "--device", "cpu"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, **pipes | options)


def test_a_row_is_what_the_ensemble_says_of_the_image(predict: Callable, ensemble: Path, images: Path) -> None:
    code, rows = predict(images / "test", images / "val" / "red" / "red0.png")
    assert code == 0
    assert [row["file"] for row in rows[:4]] == [f"{images}/test/{number}.png" for number in range(4)]
    loaded = load_ensemble(ensemble, "cpu")
    for row in rows:
        assert tuple(row) == COLUMNS
        pixels = try_read(Source(row["file"]), loaded.sizes)
        votes = loaded.votes({size: image[None] for size, image in pixels.items()})
        order = (-votes.probabilities[0]).argsort()
        guesses = [CLASSES[place] for place in order]
        assert (row["class_id"], row["words"], row["top5"], row["error"]) == (
            guesses[0],
            guesses[0],
            " ".join(guesses),
            "",
        )
        confidences = [float(each) for each in row["top5_confidence"].split()]
        assert confidences == pytest.approx(votes.probabilities[0][order].tolist(), abs=1e-3)
        assert float(row["confidence"]) == confidences[0]
        differs = sum(member[0].argmax() != order[0] for member in votes.members)
        assert float(row["disagreement"]) == differs / 2


def test_the_batch_size_does_not_change_the_rows(predict: Callable, images: Path) -> None:
    _, at_once = predict(images / "val", batch_size=100)
    _, in_parts = predict(images / "val", batch_size=5)
    assert [row["file"] for row in in_parts] == [row["file"] for row in at_once]
    assert [row["class_id"] for row in in_parts] == [row["class_id"] for row in at_once]


@pytest.fixture
def odd_inputs(images: Path, tmp_path: Path) -> Path:
    """What people have in their folders: two good images, and five that aren't."""
    folder = tmp_path / "odd"
    (folder / "red").mkdir(parents=True)
    shutil.copyfile(images / "test" / "0.png", folder / "0.png")
    (folder / "1.png").write_text("no image")
    (folder / "2.png").write_bytes((images / "test" / "0.png").read_bytes()[:100])
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        archive.write(images / "test" / "1.png", "../../red/3.png")
        archive.writestr("4.png", "no image")
    (folder / "y.zip").write_text("no zip")
    (folder / "notes.txt").write_text("text")
    return folder


def test_a_broken_image_gets_a_row_and_the_others_are_predicted(
    predict: Callable, odd_inputs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    named = [odd_inputs, odd_inputs / "x.zip", odd_inputs / "y.zip", odd_inputs / "notes.txt"]
    before = sorted(tmp_path.rglob("*"))
    code, rows = predict(*named, batch_size=2)
    assert code == 3
    ends = ["0.png", "1.png", "2.png", "x.zip/../../red/3.png", "x.zip/4.png", "y.zip", "notes.txt"]
    assert [row["file"] for row in rows] == [f"{odd_inputs}/{end}" for end in ends]
    assert [row["class_id"] != "" for row in rows] == [True, False, False, True, False, False, False]
    assert [row["error"] != "" for row in rows] == [False, True, True, False, True, True, True]
    assert (rows[1]["error"], rows[5]["error"]) == ("not an image", "not an intact zip (File is not a zip file)")
    assert capsys.readouterr().err == "5 of 7 images can't be decoded; see the column error\n"
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "preds.csv"])


@pytest.mark.parametrize(("ending", "read"), [("jsonl", lambda path: pandas.read_json(path, lines=True)),
                                              ("parquet", pandas.read_parquet)])  # fmt: skip
def test_other_formats_hold_the_same(
    predict: Callable, ensemble: Path, odd_inputs: Path, tmp_path: Path, ending: str, read: Callable
) -> None:
    _, rows = predict(odd_inputs)
    assert main(ensemble, [str(odd_inputs)], str(tmp_path / f"x.{ending}"), device="cpu") == 3
    table = read(tmp_path / f"x.{ending}")
    assert tuple(table.columns) == COLUMNS
    assert table["file"].tolist() == [row["file"] for row in rows]
    assert [" ".join(table["top5"][0]), f"{table['confidence'][0]:.4f}"] == [rows[0]["top5"], rows[0]["confidence"]]
    assert table["error"].isna().tolist() == [not row["error"] for row in rows]


def test_folders_as_labels_give_accuracy_and_confusions(
    predict: Callable, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, rows = predict(images / "val", images / "test", labels="folder")
    assert code == 0
    assert tuple(rows[0]) == LABELLED_COLUMNS
    assert [row["label"] for row in rows] == ["blue"] * 6 + ["green"] * 6 + ["red"] * 6 + [""] * 4
    right = sum(row["label"] == row["class_id"] for row in rows)
    printed = capsys.readouterr()
    assert printed.out.startswith(f"top-1 {right / 18:.2%} (")
    assert "top-5 100.00% (100.00% .. 100.00%) of 18 images" in printed.out
    assert "most frequent confusions" in printed.out
    assert printed.err == f"4 images have no label and don't count; the first is {images}/test/0.png\n"
    table = pandas.read_csv(tmp_path / "preds.confusion.csv", index_col="label")
    assert table.shape == (3, 3)
    assert table.to_numpy().sum() == 18
    assert table.to_numpy().trace() == right


def test_a_table_of_labels_counts_the_images_it_names(
    predict: Callable, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(f"file,class\n{images}/test/0.png,red\n{images}/test/none.png,blue\n")
    code, rows = predict(images / "test", labels=str(labels), confusion=str(tmp_path / "table.csv"))
    assert code == 0
    assert [row["label"] for row in rows] == ["red", "", "", ""]
    assert " of 1 images" in capsys.readouterr().out
    assert pandas.read_csv(tmp_path / "table.csv", index_col="label").to_numpy().sum() == 1


def test_labels_of_no_image_are_an_error_after_the_predictions(predict: Callable, images: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"^--labels folder: names the class of no image \(the first is .*/test/0\.png\)"
    ):
        predict(images / "test", labels="folder")
    assert len((tmp_path / "preds.csv").read_text().splitlines()) == 5


def test_rows_go_to_stdout_and_the_accuracy_to_stderr_where_no_file_is_named(
    ensemble: Path, images: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(ensemble, [str(images / "val")], labels="folder", device="cpu") == 0
    printed = capfd.readouterr()
    assert len(list(csv.DictReader(io.StringIO(printed.out)))) == 18
    assert printed.err.startswith("top-1 ")


def test_a_failure_leaves_the_earlier_file(
    predict: Callable, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "preds.csv").write_text("earlier")
    monkeypatch.setattr(pipeline, "collect", lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory")))
    with pytest.raises(RuntimeError, match="out of memory"):
        predict(images / "test")
    assert (tmp_path / "preds.csv").read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["preds.csv"]


def test_names_and_classes_that_a_spreadsheet_would_run_get_an_apostrophe(
    ensemble: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(ensemble, tmp_path / "ensemble")
    manifest = json.loads((folder / "ensemble.json").read_text())
    manifest["classes"] = [{"id": f"={number}", "words": "-x"} for number in range(3)]
    (folder / "ensemble.json").write_text(json.dumps(manifest))
    shutil.copyfile(images / "test" / "0.png", tmp_path / "=cmd.png")
    (tmp_path / "@broken.png").write_text("no image")
    monkeypatch.chdir(tmp_path)
    assert main(folder, ["=cmd.png", "@broken.png"], "preds.csv", device="cpu") == 3
    with open("preds.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["file"], first["words"], second["file"]) == ("'=cmd.png", "'-x", "'@broken.png")
    assert first["class_id"].startswith("'=")
    assert first["top5"].startswith("'=")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"output": "x.txt"}, r"-o x\.txt: must end in \.csv, \.jsonl, \.parquet; or give --format"),
        ({"output": "none/x.csv"}, r"-o none/x\.csv: can't be written \(none is no folder\); give another file"),
        ({"confusion": "x.csv"}, r"--confusion x\.csv: needs the true classes; give --labels too"),
        ({"output": "x.csv", "confusion": "x.csv", "labels": "folder"}, r"--confusion x\.csv: is the file of the pred"),
        ({"confusion": "none/x.csv", "labels": "folder"}, r"--confusion none/x\.csv: can't be written"),
        ({"labels": "none.csv"}, r"--labels none\.csv: can't be read \(no such file or directory\)"),
        ({"inputs": ["none"]}, "none: no such file or folder"),
        ({"inputs": ["*.png"]}, r"\*\.png: no file matches"),
    ],
    ids=["ending", "folder", "no labels", "same file", "confusion", "labels", "path", "pattern"],
)
def test_a_mistake_is_an_error_before_anything_is_predicted(
    ensemble: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], error: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.png").mkdir()
    (tmp_path / "x.png").rename(tmp_path / "empty")
    monkeypatch.setattr("analysis.ensemble.load_ensemble", lambda *_: pytest.fail("loaded"))
    with pytest.raises(UsageError, match=f"^{error}"):
        main(ensemble, **{"inputs": ["empty"]} | options)
    with pytest.raises(UserError, match=r"^empty: no images there"):
        main(ensemble, ["empty"])
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_reader_that_has_seen_enough_ends_it_in_silence(ensemble: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{images}/test/0.png\n" * 2000)
    with (tmp_path / "list.txt").open() as file, start(ensemble, "-", "--batch-size", 4, stdin=file) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline().startswith("file,class_id,")
        process.stdout.close()  # as `head` does in the end
        assert process.stderr.read() == ""
        assert process.wait(timeout=100) in (0, 1)  # 1 is what typer makes of a pipe that was closed


def test_ctrl_c_leaves_nothing_half_written(ensemble: Path, images: Path, tmp_path: Path) -> None:
    with start(ensemble, "-", "-o", tmp_path / "preds.csv", "--batch-size", 4) as process:
        assert process.stdin
        assert process.stderr
        process.stdin.write(f"{images}/test/0.png\n" * 40)
        process.stdin.flush()  # and waits for more
        deadline = time.monotonic() + 100
        while not list(tmp_path.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert "Traceback" not in process.stderr.read()
    assert list(tmp_path.iterdir()) == []


def test_the_accuracy_on_the_holdout_files_is_the_one_that_the_export_names(
    exported: Export, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(exported.folder, [str(images / "val")], str(tmp_path / "rows.csv"), labels="folder", device="cpu") == 0
    assert f"top-1 {exported.manifest.holdout.top1:.2%}" in capsys.readouterr().out
