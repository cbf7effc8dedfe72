"""Prediction of files: rows in order, broken images told apart, nothing half-written."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from analysis import decoding
from analysis.export import Export
from analysis.images import find_images
from analysis.predict import main
from trainable.errors import UsageError, UserError

COLUMNS = ["file", "class_id", "words", "confidence", "top5", "top5_confidence", "error"]


def predict(exported: Export, images: list[Path], output: Path, batch_size: int = 256) -> tuple[int, list[dict]]:
    code = main(exported.folder, images, str(output), batch_size, device="cpu")
    with output.open(newline="") as file:
        return code, list(csv.DictReader(file))


def test_predicting_the_holdout_images_gives_the_exports_figures(
    exported: Export, images: Path, tmp_path: Path
) -> None:
    code, rows = predict(exported, [images / "val"], tmp_path / "preds.csv")
    assert code == 0
    assert list(rows[0]) == COLUMNS
    right = [row["class_id"] == Path(row["file"]).parent.name for row in rows]
    assert len(right) == 18
    assert sum(right) / 18 == pytest.approx(exported.manifest.holdout.top1)


def test_a_row_ranks_the_classes_by_confidence(exported: Export, images: Path, tmp_path: Path) -> None:
    _, rows = predict(exported, [images / "test" / "0.png"], tmp_path / "preds.csv")
    (row,) = rows
    confidences = [float(number) for number in row["top5_confidence"].split()]
    assert row["top5"].split()[0] == row["class_id"] == row["words"]
    assert confidences == sorted(confidences, reverse=True)
    assert float(row["confidence"]) == confidences[0]
    assert sum(confidences) == pytest.approx(1, abs=1e-3)
    assert row["error"] == ""


def test_the_batch_size_does_not_change_the_rows(exported: Export, images: Path, tmp_path: Path) -> None:
    _, at_once = predict(exported, [images / "val"], tmp_path / "a.csv")
    _, in_parts = predict(exported, [images / "val"], tmp_path / "b.csv", batch_size=5)
    assert [(row["file"], row["class_id"]) for row in in_parts] == [(row["file"], row["class_id"]) for row in at_once]


def test_a_broken_image_gets_a_row_and_the_others_are_predicted(
    exported: Export, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(images / "test", tmp_path / "images")
    (folder / "1.png").write_text("no image")
    code, rows = predict(exported, [folder], tmp_path / "preds.csv", batch_size=1)
    assert code == 3
    assert [Path(row["file"]).name for row in rows] == ["0.png", "1.png", "2.png", "3.png"]
    assert [row["error"] for row in rows] == ["", "not an image", "", ""]
    assert [row["class_id"] == "" for row in rows] == [False, True, False, False]
    assert capsys.readouterr().err == "1 of 4 images can't be decoded; see the column error\n"


def test_no_more_than_two_batches_are_decoded_ahead(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Path] = []
    read = decoding.read_image
    monkeypatch.setattr(decoding, "read_image", lambda path, size: started.append(path) or read(path, size))
    batches = decoding.decoded_batches(find_images([images / "train"]), [32], batch_size=4)
    for number, batch in zip(range(1, 4), batches, strict=False):
        assert batch.images[32].shape == (4, 32, 32, 3)
        assert len(started) <= 4 * (number + 1)
    batches.close()


def test_images_are_decoded_at_every_size(images: Path) -> None:
    (batch,) = decoding.decoded_batches(find_images([images / "test"]), [32, 48], batch_size=8)
    assert {size: array.shape for size, array in batch.images.items()} == {32: (4, 32, 32, 3), 48: (4, 48, 48, 3)}


def test_rows_go_to_stdout_where_no_file_is_named(
    exported: Export, images: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(exported.folder, [images / "test"], "-", batch_size=2, device="cpu") == 0
    rows = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
    assert [row["file"] for row in rows] == [str(images / "test" / f"{index}.png") for index in range(4)]


def test_a_failure_leaves_the_earlier_file(
    exported: Export, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "preds.csv"
    output.write_text("earlier")
    monkeypatch.setattr(decoding, "collect", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        predict(exported, [images / "test"], output)
    assert output.read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["preds.csv"]


def test_a_device_file_is_written_to_and_not_replaced(exported: Export, images: Path) -> None:
    assert main(exported.folder, [images / "test"], "/dev/null", batch_size=2, device="cpu") == 0
    assert not Path("/dev/null").is_file()


def test_an_output_that_cannot_be_written_is_an_error_before_anything_is_predicted(
    exported: Export, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"-o .*none/preds\.csv: can't be written"):
        main(exported.folder, [images / "test"], str(tmp_path / "none" / "preds.csv"), batch_size=2, device="cpu")


def test_folders_are_walked_in_order_and_each_image_is_found_once(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.JPG", "a/deep/3.webp", ".hidden/4.png", "b/.5.png", "b/notes.txt", "odd.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    found = find_images([tmp_path / "odd.bin", tmp_path, tmp_path / "b" / "2.png"])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["odd.bin", "a/deep/3.webp", "b/1.JPG", "b/2.png"]


def test_a_path_that_is_not_there_and_a_folder_without_images_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none: no such file or folder"):
        find_images([tmp_path / "none"])
    with pytest.raises(UserError, match=f"{tmp_path}: no images there; known are .bmp"):
        find_images([tmp_path])


def test_names_that_a_spreadsheet_would_run_get_an_apostrophe(
    exported: Export, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copyfile(images / "test" / "0.png", tmp_path / "=cmd.png")
    (tmp_path / "@broken.png").write_text("no image")
    monkeypatch.chdir(tmp_path)
    _, rows = predict(exported, [Path("=cmd.png"), Path("@broken.png")], tmp_path / "preds.csv")
    assert [row["file"] for row in rows] == ["'=cmd.png", "'@broken.png"]
    assert float(rows[0]["confidence"]) > 0


def test_classes_that_a_spreadsheet_would_run_get_an_apostrophe(exported: Export, images: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(exported.folder, tmp_path / "ensemble")
    manifest = json.loads((folder / "ensemble.json").read_text())
    manifest["classes"] = [{"id": f"={number}", "words": "-x"} for number in range(3)]
    (folder / "ensemble.json").write_text(json.dumps(manifest))
    assert main(folder, [images / "test"], str(tmp_path / "preds.csv"), 256, device="cpu") == 0
    with (tmp_path / "preds.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert row["class_id"].startswith("'=")
    assert row["top5"].startswith("'=")
    assert row["words"] == "'-x"
