"""What equal seconds buy: the figures from made-up runs, what is repeated, and two sides from end to end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.evidence import Evidence, SplitEvidence, write_evidence
from analysis.manifest import MANIFEST, read_manifest
from benchmarks import _equal_sides, equal_seconds
from benchmarks._equal_one import affordable_epochs, cheapest_start
from benchmarks._equal_sides import ONE, OURS, STOCK, Side, code_of, read_search, run_process
from benchmarks._equal_stock import image_folder, space_of, split, training_rows
from benchmarks._equal_tables import Mean, draw, grouped, mean_of, table_rows
from benchmarks._equal_task import Outcome, Task, facts_of, open_images
from benchmarks._made_up_ensemble import write_ensemble
from benchmarks.equal_seconds import Asked, Cell, append, check, read, run_all, show, split_names, wanted
from search_spaces import contains, get_space
from trainable.errors import UsageError, UserError

ROOT = Path(__file__).parents[2]
KNOWN = ["stock", "one", "ours"]
CELL = Cell("photos", "abc", 32, "resnet", 300.0, 0, OURS, "123", 2)


def record(side: str, seed: int, top1: float, **values: Any) -> dict[str, Any]:
    """A line of the results."""
    made_up = {"top1": top1, "loss": 1.0, "select_top1": None, "wall_s": 301.2, "trials": 3, "epochs": 4.5}
    return CELL._replace(side=side, seed=seed)._asdict() | made_up | {"inside": 0.8} | values


def task_of(root: Path, output: Path, **values: Any) -> Task:
    """A task on the images in `root`."""
    facts = facts_of(open_images(root, 32, 0)) | {"data": root, "flip": True, "space": "resnet", "seconds": 5.0}
    return Task(**facts, seed=0, cores=2, output=output, stock_epochs=2, **values)


@pytest.fixture
def folder_without_val(colour_folder, tmp_path) -> Path:
    """Folders of classes and nothing else."""
    return shutil.copytree(colour_folder / "train", tmp_path / "classes")


def test_means_have_a_standard_error_where_there_are_several():
    assert mean_of([1.0, 2.0, 3.0]) == Mean(2.0, pytest.approx(1 / 3**0.5))
    assert mean_of([1.0]) == Mean(1.0, None)
    assert mean_of([1.0, 2.0, 3.0]).text(1) == "2.0 ± 0.6"
    assert mean_of([1.0]).text(2) == "1.00"


def test_the_table_has_a_line_a_side_and_the_differences_of_equal_seeds():
    runs = [record(STOCK, seed, top1, select_top1=top1 + 0.02) for seed, top1 in enumerate((0.4, 0.5))]
    runs += [record(OURS, seed, top1, loss=0.5) for seed, top1 in enumerate((0.5, 0.5, 0.9))]
    runs.append(CELL._replace(side=ONE)._asdict() | {"failed": "no room"})
    rows = table_rows(grouped(runs))
    assert [row["side"] for row in rows] == ["stock", "ours", "ours - stock"]
    stock, ours, difference = rows
    assert (stock["space"], stock["runs"], stock["top-1 %"], stock["optimism"]) == (
        "resnet, 300 s",
        "2",
        "45.0 ± 5.0",
        "2.0 ± 0.0",
    )
    assert (ours["runs"], ours["optimism"], ours["wall s"], ours["busy %"]) == ("3", "", "301", "80")
    assert (difference["runs"], difference["top-1 %"], difference["log loss"]) == ("2", "5.0 ± 5.0", "-0.500 ± 0.000")
    assert all(row.keys() == stock.keys() for row in rows)


def test_the_picture_has_a_panel_for_each_space_and_a_line_a_side():
    runs = [
        record(side, 0, 0.5, space=space, seconds=s) for side in (STOCK, OURS) for space in "ab" for s in (300, 900)
    ]
    figure = draw(grouped(runs))
    assert [axis.get_title() for axis in figure.axes] == ["photos, 32 px, a", "photos, 32 px, b"]
    for axis in figure.axes:
        assert [text.get_text() for text in axis.get_xticklabels()] == ["300", "900"]
        assert len(axis.containers) == 2


def test_results_are_read_back_and_a_cut_off_line_is_dropped(tmp_path):
    file = tmp_path / "new" / "results.jsonl"
    assert read(file) == {}
    append(file, CELL._asdict() | {"failed": "no room"})
    append(file, record(OURS, 0, 0.5))
    append(file, record(OURS, 1, 0.6))
    with file.open("a") as stream:
        stream.write('{"data": "pho')
    known = read(file)
    assert [known[CELL]["top1"], known[CELL._replace(seed=1)]["top1"]] == [0.5, 0.6]
    assert CELL._replace(code="other") not in known
    assert file.read_text().count("\n") == 3
    file.write_text('{"data": "photos"}\n')
    with pytest.raises(UserError, match="doesn't hold results of this benchmark"):
        read(file)


def test_runs_are_asked_for_seed_by_seed_with_the_sides_in_turn(colour_folder):
    asked = Asked(
        [colour_folder],
        None,
        ["resnet"],
        [5.0, 9.0],
        2,
        split_names("ours, stock", KNOWN),
        7,
        2,
        False,
    )
    cells = wanted(asked, {(colour_folder, seed): open_images(colour_folder, None, seed) for seed in range(2)})
    assert [(cell.seed, cell.seconds, cell.side) for cell in cells] == [
        (seed, seconds, side) for seed in range(2) for seconds in (5.0, 9.0) for side in ("stock", "ours")
    ]
    assert cells[0].code == f"{code_of(['benchmarks/_equal_stock.py'])}, 7 epochs"
    assert {cell.image_size for cell in cells} == {32}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spaces": ["resnets"]}, "unknown space 'resnets'"),
        ({"spaces": ["vit"]}, "stock knows only resnet, swin"),
        ({"data": [Path("a/photos"), Path("b/photos")]}, "have the same name"),
    ],
)
def test_a_mistake_is_named_before_anything_runs(options, message):
    asked = Asked([Path("photos")], None, ["swin"], [5.0], 1, ["stock"], 7, 2, False)
    with pytest.raises(UserError, match=message):
        check(asked._replace(**options))
    with pytest.raises(UsageError, match="unknown side 'our'"):
        split_names("our", KNOWN)


def test_a_code_is_that_of_the_sources(tmp_path, monkeypatch):
    monkeypatch.setattr(_equal_sides, "ROOT", tmp_path)
    (tmp_path / "package").mkdir()
    source = tmp_path / "package" / "module.py"
    source.write_text("1")
    before = code_of(["package"])
    (tmp_path / "package" / "notes.txt").write_text("1")
    assert code_of(["package"]) == before
    source.write_text("2")
    assert code_of(["package"]) != before


def test_a_training_is_as_long_as_the_seconds_allow():
    assert affordable_epochs(10, 0.5, 8) == 2.5
    assert affordable_epochs(10.4, 0.5, 8) == 2.5
    assert affordable_epochs(1, 7.0, 8) == 1 / 8


@pytest.mark.parametrize(("name", "arch"), [("resnet", "resnet18"), ("swin", "swin_tiny")])
def test_one_training_is_the_published_start_of_the_cheapest_architecture(name, arch):
    start = cheapest_start(get_space(name), 32)
    assert start["arch"] == arch
    contains(get_space(name), start)


def test_stock_has_a_space_of_each_name():
    for name in equal_seconds.STOCK_SPACES:
        assert set(space_of(name, [])) == {
            "arch", "lr", "weight_decay", "drop_rate", "drop_path_rate", "batch_size",
        }  # fmt: skip


def test_stock_trains_on_all_images_but_the_holdout(folder_without_val, tmp_path):
    task = task_of(folder_without_val, tmp_path)
    assert len(task.holdout_files) == 12
    folder = image_folder(task, augmented=False)
    rows = training_rows(folder, task)
    names = {Path(folder.samples[row][0]).relative_to(task.root).as_posix() for row in rows}
    assert len(rows) == 120 - 12
    assert not names & set(task.holdout_files)
    train, select = split(rows, seed=0)
    assert (len(select), sorted(train + select)) == (5, rows)
    assert split(rows, seed=1)[1] != select


def test_stock_finds_the_folders_of_an_archive_with_a_published_val(colour_folder, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "colours"), "zip", colour_folder)
    task = task_of(Path(archive), tmp_path)
    assert all((task.root / file).is_file() for file in task.holdout_files)
    assert {Path(file).parts[0] for file in task.holdout_files} == {"val"}
    assert len(training_rows(image_folder(task, augmented=True), task)) == 120


def write_experiment(task: Task) -> None:
    """What our search leaves: an ensemble, and two trials of which one was resumed by another process."""
    folder = task.output / _equal_sides.EXPERIMENT
    write_ensemble(folder / "ensemble", "test_vit", [32], task.classes)
    manifest = read_manifest(folder / "ensemble")
    holdout = manifest.holdout.model_copy(update={"top1": 0.8, "loss": 0.6, "images": len(task.holdout_files)})
    select = manifest.select.model_copy(update={"top1": 0.9})
    changed = manifest.model_copy(update={"holdout": holdout, "select": select})
    (folder / "ensemble" / MANIFEST).write_text(changed.model_dump_json())
    split = SplitEvidence(task.holdout_files, np.array(task.holdout_labels), np.zeros((1, 30, 3)), np.zeros((30, 3)))
    write_evidence(Evidence(split, split), folder / "ensemble")
    for name, processes in (("0001-a", (7, 8)), ("0002-b", (9,))):
        (folder / name).mkdir()
        records = [
            {"epoch": epoch, "updates": 10 * epoch, "seconds_train": 2.0, "seconds_eval": 0.5, "pid": process}
            for epoch, process in enumerate(processes, 1)
        ]
        (folder / name / "result.json").write_text("".join(json.dumps(each) + "\n" for each in records))


def test_our_search_is_read_from_its_records_and_its_manifest(colour_folder, tmp_path):
    task = task_of(colour_folder, tmp_path)
    write_experiment(task)
    outcome = read_search(task, 100.0)
    assert (outcome.top1, outcome.loss, outcome.select_top1, outcome.holdout_images) == (0.8, 0.6, 0.9, 30)
    assert (outcome.trials, outcome.epochs, outcome.updates, outcome.inside_s) == (2, 3, 30, 7.5)
    assert outcome.slots == 2
    assert outcome.share(10.0) == pytest.approx(7.5 / 20)
    record = tmp_path / _equal_sides.EXPERIMENT / "0002-b" / "result.json"
    record.write_text(record.read_text().replace('"updates": 10, ', ""))
    assert read_search(task, 100.0).updates is None


def test_an_ensemble_that_was_scored_on_other_images_is_refused(colour_folder, tmp_path):
    task = task_of(colour_folder, tmp_path)
    write_experiment(task)
    others = task.model_copy(update={"holdout_files": (*task.holdout_files[1:], "val/red/other.png")})
    with pytest.raises(UserError, match="other holdout images"):
        read_search(others, 100.0)


def test_a_process_that_fails_or_hangs_is_an_error_that_says_why(tmp_path):
    log, python = tmp_path / "log.txt", sys.executable
    run_process([python, "-c", "print(1)"], log, 60)
    with pytest.raises(UserError, match="ended with 3: the reason"):
        run_process([python, "-c", "print('the reason\\n'); raise SystemExit(3)"], log, 60)
    with pytest.raises(UserError, match=r"took more than 0\.5 s"):
        run_process([python, "-c", "import time; time.sleep(60)"], log, 0.5)


def made_up_outcome(task: Task, ended: float) -> Outcome:
    figures = {"top1": 0.5, "loss": 1.0, "holdout_images": len(task.holdout_files), "select_top1": 0.6}
    return Outcome(**figures, ready=ended, trials=1, epochs=1, updates=9, inside_s=1, slots=1)


def test_a_side_that_fails_is_recorded_and_the_others_go_on(colour_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        _equal_sides,
        "SIDES",
        {
            STOCK: Side(lambda task: [sys.executable, "-c", "raise SystemExit('out of luck')"], made_up_outcome, ()),
            ONE: Side(lambda task: [sys.executable, "-c", ""], made_up_outcome, ()),
        },
    )
    asked = Asked([colour_folder], None, ["resnet"], [5.0], 1, [STOCK, ONE], 7, 2, False)
    images = {(colour_folder, 0): open_images(colour_folder, None, 0)}
    cells = wanted(asked, images)
    records = [record for _, record in run_all(cells, asked, images, tmp_path / "kept")]
    assert records[0]["failed"] == "ended with 1: out of luck"
    assert records[1]["top1"] == 0.5
    assert records[1]["wall_s"] > 0
    with pytest.raises(UserError, match="1 of 2 runs failed"):
        show(records, tmp_path / "chart.png")
    assert "stock, " in capsys.readouterr().out
    assert (tmp_path / "chart.png").stat().st_size > 0


def start(folder: Path, *options: str) -> subprocess.Popen:
    """The benchmark as a user starts it."""
    command = [sys.executable, "-m", "benchmarks.equal_seconds", "--quick", "--results", "results.jsonl", *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment, **streams)


def test_stock_and_one_run_on_the_digits_and_nothing_is_repeated(tmp_path):
    options = ("--sides", "stock,one", "--png", "chart.png")
    process = start(tmp_path, *options)
    _, told = process.communicate()
    assert process.returncode == 0, told
    records = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [record["side"] for record in records] == ["stock", "one"]
    for record in records:
        assert 0 <= record["top1"] <= 1
        assert record["holdout_images"] == 300
        assert 0 < record["inside"] < 1
        assert record["updates"] > 0
    assert records[0]["select_top1"] is not None
    assert records[1]["uncounted_s"] > 0
    assert (tmp_path / "chart.png").stat().st_size > 0
    written = (tmp_path / "results.jsonl").read_text()
    again = start(tmp_path, *options)
    shown, told = again.communicate()
    assert again.returncode == 0, told
    assert "resnet, 2 s" in shown
    assert (tmp_path / "results.jsonl").read_text() == written


def test_ctrl_c_ends_the_side_and_says_how_to_go_on(tmp_path):
    process = start(tmp_path, "--sides", "one", "--keep", "kept")
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("kept/*/log.txt")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    shown, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "0 of 1 runs are in results.jsonl, and the same command goes on" in shown
    assert "Traceback" not in told
    assert not (tmp_path / "results.jsonl").exists()
