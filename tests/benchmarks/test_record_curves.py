"""Recording learning curves: what is in the file, and that nothing is trained twice."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from benchmarks._curve_files import Recording, read_curves
from benchmarks._replay_tables import load_table
from benchmarks.record_curves import TURNS, Setup, draw, stratified
from search_spaces import contains, get_space
from trainable.data.dataset import open_dataset
from trainable.data.digits import write_digits
from trainable.errors import UsageError

ROOT = Path(__file__).parents[2]
SMALL = ("--epochs", "2", "--train-images", "40", "--select-images", "20")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_space) -> Path:
    """Where the command runs: with a space of two tiny architectures and the digits."""
    folder = tmp_path_factory.mktemp("record")
    (folder / "tiny.toml").write_text(tiny_space)
    write_digits(folder / "data/digits")
    return folder


def start(folder: Path, output: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks.record_curves", "--space", "tiny.toml", "--output", str(output)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*command, *SMALL, *options], cwd=folder, env=environment, text=True, **pipes)


def record(folder: Path, output: Path, *options: str) -> tuple[int, str]:
    """Exit code and messages."""
    process = start(folder, output, *options)
    _, messages = process.communicate()
    return process.returncode, messages


@pytest.fixture(scope="module", params=[signal.SIGKILL, signal.SIGINT], ids=["killed", "ctrl-c"])
def gone_on(request, folder) -> tuple[Recording, Recording, Path]:
    """What was there when a recording was ended from outside, and when it had gone on by one configuration."""
    output = folder / f"{request.param.name}.parquet"
    process = start(folder, output, "--configurations", "500")
    while not output.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(request.param)
    process.communicate()
    assert process.returncode == (-signal.SIGKILL if request.param == signal.SIGKILL else 130)
    before = read_curves(output)
    count = len(before.rows) // 2 + 1
    code, messages = record(folder, output, "--configurations", str(count))
    assert code == 0, messages
    assert messages.count("best top-1") == 1
    return before, read_curves(output), output


def test_a_recording_that_was_ended_goes_on_and_keeps_what_it_has(gone_on):
    before, after, _ = gone_on
    assert after.rows[:-2] == before.rows
    assert [row["configuration"] for row in after.rows] == [index // 2 for index in range(len(after.rows))]


def test_an_epoch_has_its_configuration_scores_and_seconds(gone_on):
    _, recording, output = gone_on
    for row in recording.rows:
        contains(recording.space, {name: row[name] for name in ("arch", "lr", "attn_drop_rate") if name in row})
        assert 0 <= row["select_top1"] <= 1
        assert row["select_loss"] > 0
        assert row["train_loss"] > 0
        assert row["seconds"] > 0
        assert row["wall_seconds"] > 0
    assert [row["epoch"] for row in recording.rows[:4]] == [1, 2, 1, 2]
    facts = recording.facts
    assert (facts["train_images"], facts["select_images"], facts["epochs"], facts["threads"]) == (40, 20, 2, 1)
    assert {"torch", "timm"} <= set(facts["versions"])
    assert output.stat().st_size < 20_000


def test_a_file_of_another_recording_is_left_alone(gone_on, folder):
    *_, output = gone_on
    content = output.read_bytes()
    code, messages = record(folder, output, "--seed", "1")
    assert (code, "was recorded with another seed: 0, now 1" in messages) == (1, True)
    assert output.read_bytes() == content


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--output", "curves.csv"), "ends in .parquet"),
        (("--set", "lr=1:0"), "the range is upside down"),
        (("--train-images", "2000", "--output", "new.parquet"), "2000 train images: there are only 1297"),
    ],
)
def test_a_mistake_is_named(folder, options, message):
    code, messages = record(folder, folder / "new.parquet", *options)
    assert code == 2
    assert message in messages
    assert "Traceback" not in messages


def test_every_architecture_has_its_turns_and_more_draws_keep_the_first():
    setup = Setup(get_space("all"), epochs=8, train_images=1, select_images=1, seed=0, threads=1)
    drawn = draw(setup, 64)
    assert draw(setup, 70)[:64] == drawn
    assert draw(setup._replace(seed=1), 64) != drawn
    counts = Counter(configuration["arch"] for configuration in drawn)
    assert len(counts) == 8
    assert min(counts.values()) >= TURNS
    assert counts["swin_tiny"] > counts["resnet152"]
    for configuration in drawn:
        contains(setup.space, configuration)


def test_images_are_drawn_evenly_from_the_classes(folder):
    dataset = open_dataset(folder / "data/digits", progress=False)
    for part, count in (("train", 128), ("val", 120)):
        rows = stratified(dataset, part, count, seed=0)
        assert len(set(rows)) == count
        assert set(Counter(dataset.cache.labels[rows]).values()) <= {12, 13}
        assert (stratified(dataset, part, count, seed=1) != rows).any()
    with pytest.raises(UsageError, match="301 val images: there are only 300"):
        stratified(dataset, "val", 301, seed=0)


def test_the_curves_that_come_with_the_project_are_whole_and_small():
    file = ROOT / "benchmarks/curves/digits-all.parquet"
    table = load_table(file)
    assert file.stat().st_size < 1_000_000
    assert len(table.scores) >= 60
    assert table.steps == 8
    assert len(set(map(tuple, table.points.tolist()))) == len(table.points)
    assert (table.seconds > 0).all()
