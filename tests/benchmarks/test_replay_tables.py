"""Tables of curves from recordings and experiments: spaces with choices and conditions, trials that ended early."""

import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks._curve_files import Recording, write_curves
from benchmarks._replay_clock import Clock
from benchmarks._replay_curves import Lookup, Surrogate, Table, regret_of
from benchmarks._replay_methods import make_method
from benchmarks._replay_tables import find_tables, load_table
from search_spaces import Choice, Float, Int, Space, columns, contains, encode, sample, start_point
from trainable.errors import UserError
from tuning.plan import SearchPlan
from tuning.storage import create_experiment

ROOT = Path(__file__).parents[2]
SPACE = Space(
    name="mixed",
    dimensions=(
        Choice(name="arch", values=("test_vit", "test_resnet")),
        Float(name="lr", low=1e-4, high=1e-1, log=True),
        Float(name="attn_drop_rate", low=0.0, high=0.3, when={"arch": ("test_vit",)}),
        Int(name="patch_size", low=2, high=8, when={"arch": ("test_vit",)}),
        Choice(name="batch_size", values=(32, 64, 128)),
    ),
    fixed={"label_smoothing": 0.1},
)
STEPS, ROWS, DIVERGED = 4, 30, 3
METHODS = (
    "ours",
    "ours-asha",
    "ours-asha-random",
    "ray",
    "ray-random",
    "optuna",
    "optuna-hyperband",
    "optuna-gp",
    "random",
)
"""Those that need no further packages."""


def configurations() -> list[dict[str, Any]]:
    rng = random.Random(0)
    return [sample(SPACE, rng) for _ in range(ROWS)]


def top1(config: dict[str, Any], epoch: int) -> float:
    """Best at a learning rate of 3e-3, and better for the transformer."""
    place = abs(math.log10(config["lr"]) - math.log10(3e-3)) / 2
    return (0.9 if config["arch"] == "test_vit" else 0.7) * max(0.0, 1 - place) * (1 - 0.5**epoch)


def rows_of(number: int, config: dict[str, Any]) -> list[dict[str, Any]]:
    """The transformer takes three times as long; one configuration diverges in its second epoch."""
    epochs = range(1, 3 if number == DIVERGED else STEPS + 1)
    seconds = 3.0 if config["arch"] == "test_vit" else 1.0
    return [
        {"configuration": number, **config, "epoch": epoch, "select_top1": top1(config, epoch), "select_loss": 1.0}
        | {"train_loss": 1.0, "diverged": number == DIVERGED and epoch == 2, "seconds": seconds, "wall_seconds": 9.0}
        for epoch in epochs
    ]


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    rows = [row for number, config in enumerate(configurations()) for row in rows_of(number, config)]
    file = tmp_path_factory.mktemp("recording") / "mixed-curves.parquet"
    write_curves(file, Recording(SPACE, {"space": SPACE.model_dump(mode="json"), "epochs": STEPS}, rows))
    return file


@pytest.fixture(scope="module")
def table(recording) -> Table:
    return load_table(recording)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Path:
    """Trials that ended after 1, 2, 4, 1, 2, 4 ... epochs, as successive halving leaves them."""
    output = tmp_path_factory.mktemp("runs")
    plan = SearchPlan(space=SPACE, trial={}, trials=6, epochs=STEPS, name="halved", output=output)
    create_experiment(plan, {})
    for number, config in enumerate(configurations()[:6]):
        folder = plan.folder / f"{number:04d}-{config['arch']}"
        folder.mkdir()
        records = [
            {"epoch": epoch, "select_top1": top1(config, epoch), "diverged": False, "config": config | {"seed": 0}}
            | {"seconds_train": 2.0 + number, "seconds_eval": 1.0, "timestamp": 100 * epoch + number}
            for epoch in range(1, (1, 2, 4)[number % 3] + 1)
        ]
        (folder / "result.json").write_text("".join(json.dumps(record) + "\n" for record in records))
    return plan.folder


def test_a_recording_is_read_with_its_space_and_its_seconds(table):
    assert (table.name, table.space, table.steps) == ("mixed-curves", SPACE, STEPS)
    assert table.points.shape == (ROWS, len(columns(SPACE)))
    assert table.points.tolist() == [encode(SPACE, config) for config in configurations()]
    transformer = np.array([config["arch"] == "test_vit" for config in configurations()])
    assert table.seconds.tolist() == np.where(transformer, 3.0, 1.0).tolist()
    assert table.costs.mean() == pytest.approx(1)


def test_scores_have_the_order_of_the_accuracies_and_diverged_ones_are_nothing(table):
    last = np.array([top1(config, STEPS) for config in configurations()])
    rest = np.arange(ROWS) != DIVERGED
    assert (np.argsort(table.scores[rest, -1], kind="stable") == np.argsort(last[rest], kind="stable")).all()
    assert regret_of(table.scores.max()) == 0
    assert table.scores[DIVERGED, 0] > 0
    assert table.scores[DIVERGED, 1:].tolist() == [0] * (STEPS - 1)


def test_a_trial_that_ended_early_keeps_its_last_score(experiment):
    table = load_table(experiment)
    assert (table.name, table.space, table.scores.shape) == ("halved", SPACE, (6, STEPS))
    assert table.seconds.tolist() == [3, 4, 5, 6, 7, 8]
    for scores, epochs in zip(table.scores, (1, 2, 4, 1, 2, 4), strict=True):
        assert (scores[epochs - 1 :] == scores[epochs - 1]).all()
        assert (np.diff(scores[:epochs]) > 0).all()


@pytest.mark.parametrize("protocol", [Lookup, Surrogate])
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_method_keeps_to_a_mixed_space_and_its_budget(table, name, protocol):
    class Watched(protocol):
        def of(self, config):
            contains(SPACE, config)
            seen.append(config)
            return super().of(config)

    seen = []
    replay = Clock(make_method(name, table, seed=1), Watched(table), slots=2).run(8 * STEPS)
    assert replay.trials == len(seen) >= 8
    assert replay.trace[-1][0] <= 8 * STEPS
    assert replay.trace[-1][1] < 1
    assert {config["arch"] for config in seen} == {"test_vit", "test_resnet"}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_every_method_begins_with_the_same_configuration(table, name):
    first = [make_method(name, table, seed).next().config for seed in range(4)]
    assert first == [make_method("random", table, seed).next().config for seed in range(4)]
    assert len({config["arch"] for config in first}) == 2


def test_the_first_configuration_is_where_the_space_starts(table):
    for config in configurations():
        assert SPACE.fixed | start_point(table.space_from(config)) == config


def test_a_proposal_is_taken_for_the_nearest_row_of_its_architecture(table):
    config = configurations()[7]
    lookup = Lookup(table)
    near = config | {"lr": config["lr"] * 1.01}
    assert lookup.of(near).scores.tolist() == table.scores[7].tolist()
    assert lookup.of(near).cost == table.costs[7]
    assert lookup.taken.sum() == 2


def test_a_surrogate_repeats_the_rows_of_a_mixed_table(table):
    assert Surrogate(table).of(configurations()[7]).scores == pytest.approx(table.scores[7], abs=1e-6)


def test_tables_are_found_in_files_folders_and_experiments(recording, experiment):
    assert find_tables([recording, experiment]) == {"mixed-curves": recording, "halved": experiment}
    assert find_tables([recording.parent, recording]) == {"mixed-curves": recording}


def test_the_benchmark_takes_several_tables_and_a_budget_in_seconds(recording, experiment, tmp_path):
    out = tmp_path / "out.jsonl"
    done = run("--curves", str(recording), "--curves", str(experiment), "--json", str(out), "--budget-seconds", "80")
    assert done.returncode == 0, done.stderr
    assert "2 tables" in " ".join(done.stdout.split())
    records = [json.loads(line) for line in out.read_text().splitlines()]
    means = {"mixed-curves": load_table(recording).seconds.mean(), "halved": load_table(experiment).seconds.mean()}
    for record in records:
        assert record["budget"] == pytest.approx(80 / STEPS / means[record["table"]])
    assert {record["table"] for record in records} == set(means)


def run(*options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "benchmarks.search_quality", "--methods", "random", "--seeds", "1", *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_what_holds_no_table_is_named_in_one_line(tmp_path):
    done = run("--curves", str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "holds no .npz or .parquet file and no experiment.json" in done.stderr
    (tmp_path / "curves.csv").write_text("lr,score\n")
    with pytest.raises(UserError, match=r"curves\.csv: not a \.npz or \.parquet file"):
        find_tables([tmp_path / "curves.csv"])
    (tmp_path / "broken.parquet").write_text("lr,score\n")
    with pytest.raises(UserError, match=r"broken\.parquet: can't be read"):
        load_table(tmp_path / "broken.parquet")


def test_a_parquet_file_of_something_else_is_named(recording, tmp_path):
    content = pq.read_table(recording)
    pq.write_table(content.drop_columns("select_top1"), tmp_path / "short.parquet")
    with pytest.raises(UserError, match=r"short\.parquet: has no column 'select_top1'; it has configuration, "):
        load_table(tmp_path / "short.parquet")
    pq.write_table(pa.table({"lr": [0.1]}), tmp_path / "other.parquet")
    with pytest.raises(UserError, match=r"other\.parquet: not a file of benchmarks\.record_curves"):
        load_table(tmp_path / "other.parquet")


def test_an_experiment_in_which_nothing_was_trained_is_named(tmp_path):
    create_experiment(SearchPlan(space=SPACE, trial={}, trials=6, epochs=STEPS, name="new", output=tmp_path), {})
    with pytest.raises(UserError, match="new: 0 configurations were trained; a table needs at least 2"):
        load_table(tmp_path / "new")


def test_two_tables_of_one_name_are_refused(recording, tmp_path):
    (tmp_path / recording.name).write_bytes(recording.read_bytes())
    with pytest.raises(UserError, match="have the same name"):
        find_tables([recording, tmp_path])
