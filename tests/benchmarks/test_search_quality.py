"""Searches on a virtual clock: regrets fall with the budget, nothing is replayed twice, the engine is by the paper."""

import json
import math
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks._replay_clock import Clock
from benchmarks._replay_curves import Curve, Lookup, Surrogate, regret_of, scores_of
from benchmarks._replay_methods import METHODS, Move, Ours, make_method, parse_method
from benchmarks._replay_tables import load_table
from trainable.errors import UserError
from tuning.engine import rung_levels

ROOT = Path(__file__).parents[2]
ROWS, STEPS = 60, 9
ELSEWHERE = ("ray-hyperband", "ray-bohb", "optuna-gp", "syne-")
"""How the names begin that test_replay_peers tests."""
NAMES = [name for name in METHODS if not name.startswith(ELSEWHERE)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """One table: the best learning rate is in the middle, the loss falls step by step, and three rows diverge."""
    folder = tmp_path_factory.mktemp("curves")
    rng = np.random.default_rng(0)
    hp = np.exp(rng.uniform(np.log(1e-4), np.log(1e-1), size=(ROWS, 2)))
    final = 0.2 + np.square(np.log(hp) - np.log(3e-3)).sum(axis=1)
    losses = final[:, None] * (1 + 1 / np.arange(1, STEPS + 1))
    losses[:3, 4:] = np.nan
    np.savez(folder / "toy.npz", hp=hp, hp_names=["lr", "decay"], valid_loss=losses.astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def table(folder):
    return load_table(folder / "toy.npz")


def row_of(folder: Path, row: int) -> dict[str, float]:
    """A configuration of the table."""
    content = np.load(folder / "toy.npz")
    return dict(zip(content["hp_names"].tolist(), content["hp"][row].tolist(), strict=True))


def run(folder: Path, out: Path, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "benchmarks.search_quality", "--curves", str(folder), "--json", str(out), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    return subprocess.run(command, cwd=out.parent, env=environment, capture_output=True, text=True, check=False)


def test_a_search_is_replayed_once_and_its_regret_falls_with_the_budget(folder, tmp_path):
    out, options = tmp_path / "out.jsonl", ("--methods", "ours,random", "--seeds", "1", "--budget", "4")
    first = run(folder, out, *options, "--plot", str(tmp_path / "out.png"))
    assert first.returncode == 0, first.stderr
    assert "ours" in first.stdout
    assert (tmp_path / "out.png").stat().st_size > 0
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["method"] for record in records] == ["ours", "random"]
    for record in records:
        assert len(record["regret"]) == 100
        assert all(math.isfinite(regret) for regret in record["regret"])
        assert record["regret"] == sorted(record["regret"], reverse=True)
        assert record["regret"][-1] < record["regret"][0]
    written = out.read_text()
    assert run(folder, out, *options).returncode == 0
    assert out.read_text() == written
    assert run(folder, out, *options, "--slots", "4,2").returncode == 0
    assert out.read_text().startswith(written)
    assert out.read_text().count("\n") == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--methods", "our"), "unknown method 'our'"),
        (("--methods", "random:1:2"), "rungs go to"),
        (("--protocols", "tables"), "unknown protocol 'tables'"),
        (("--slots", "0"), "positive whole numbers"),
    ],
)
def test_a_mistake_is_named(folder, tmp_path, options, message):
    done = run(folder, tmp_path / "out.jsonl", *options)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("protocol", [Lookup, Surrogate])
@pytest.mark.parametrize("name", NAMES)
def test_every_method_keeps_to_the_budget_and_repeats_itself(table, name, protocol):
    budget = 3 * table.steps
    replays = [Clock(make_method(name, table, seed=1), protocol(table), slots=3).run(budget) for _ in range(2)]
    assert replays[0].trace == replays[1].trace
    assert replays[0].trace[-1][0] <= budget + 1e-6
    assert replays[0].trials >= 3


@pytest.mark.parametrize("name", NAMES)
def test_every_method_begins_with_the_same_configuration(table, name):
    move = make_method(name, table, seed=2).next()
    assert move.config == pytest.approx(make_method("random", table, seed=2).next().config)


def test_the_search_on_one_slot_is_successive_halving_by_hand(table):
    budget = 4 * table.steps
    replay = Clock(make_method("ours-asha-random:1:3", table, seed=0), Lookup(table), slots=1).run(budget)
    method, curves = make_method("ours-asha-random:1:3", table, seed=0), Lookup(table)
    assert isinstance(method, Ours)
    expected = by_hand(lambda key: curves.of(method.engine.policy.propose(key)), rung_levels(1, 3, STEPS), 3, budget)
    assert [regret for _, regret in replay.trace] == expected


def by_hand(new_curve, rungs: list[int], factor: int, budget: int) -> list[float]:
    """Regret after each step of one worker: algorithm 2 of Li et al. 2020, with lists of lists."""
    curves, done, regrets = [], [], [1.0]
    while len(regrets) <= budget:
        index, target = choose(curves, done, rungs, factor)
        if index is None:
            index, target = len(curves), rungs[0]
            curves.append(new_curve(str(index)).scores)
            done.append(0)
        for score in curves[index][done[index] : target]:
            regrets.append(min(regrets[-1], regret_of(score)))
        done[index] = target
    return regrets[1 : budget + 1]


def choose(curves, done, rungs, factor):
    """The trial to promote and its next rung; none where a new trial is due."""
    for rung, target in reversed(list(pairwise(rungs))):
        reached = sorted(
            (index for index in range(len(curves)) if done[index] >= rung), key=lambda i: -curves[i][rung - 1]
        )
        for index in reached[: len(reached) // factor]:
            if done[index] == rung:
                return index, target
    return None, None


def test_slots_work_at_the_same_time_and_results_come_in_the_order_of_time():
    class Recorder:
        """Two trials, the first twice as slow."""

        def __init__(self):
            self.moves = [Move("slow", {"cost": 2.0}), Move("fast", {"cost": 1.0})]
            self.seen = []

        def next(self):
            return self.moves.pop(0) if self.moves else None

        def report(self, key, step, score, seconds):
            self.seen.append((key, step))
            return step < 2

    class Given:
        """Every trial has two steps."""

        def of(self, config):
            return Curve(np.array([0.5, 0.6]), config["cost"])

    recorder = Recorder()
    replay = Clock(recorder, Given(), slots=2).run(100)
    assert recorder.seen == [("fast", 1), ("slow", 1), ("fast", 2), ("slow", 2)]
    assert [spent for spent, _ in replay.trace] == [1, 3, 4, 6]
    assert replay.full == 2


def test_scores_fall_as_losses_rise_and_give_the_regret_back():
    scores = scores_of(np.array([[3.0, 1.0], [4.0, 2.0], [5.0, np.nan], [1e19, 3.0]]))
    assert regret_of(scores[0, 1]) == 0
    assert regret_of(scores[1, 1]) == pytest.approx(1 / 1.5)
    assert scores[2, 1] == 0
    assert scores[0, 0] > scores[1, 0] > scores[2, 0] > scores[3, 0] > 0
    assert regret_of(scores[3, 0]) == regret_of(0.0) == 1


def test_a_proposal_is_taken_for_the_nearest_row_that_is_free(folder, table):
    lookup = Lookup(table)
    config = row_of(folder, 7)
    assert np.array_equal(lookup.of(config).scores, table.scores[7], equal_nan=True)
    assert lookup.taken.nonzero()[0].tolist() == [7]
    for _ in range(ROWS - 1):
        lookup.of(config)
    assert lookup.taken.all()
    assert np.array_equal(lookup.of(config).scores, table.scores[7])


def test_a_surrogate_repeats_the_rows_of_its_table(folder, table):
    config = row_of(folder, 7)
    assert Surrogate(table).of(config).scores == pytest.approx(table.scores[7], abs=1e-6)


def test_rungs_are_read_from_the_name_of_a_method():
    assert parse_method("ours:2:3") == ("ours", (2, 3.0))
    with pytest.raises(UserError, match="write ours:FIRST_RUNG:FACTOR"):
        parse_method("ours:2")


def test_a_folder_without_tables_and_a_table_without_curves_are_named(tmp_path):
    done = run(tmp_path, tmp_path / "out.jsonl")
    assert (done.returncode, "no .npz or .parquet file" in done.stderr) == (1, True)
    np.savez(tmp_path / "bad.npz", hp=np.ones((2, 1)), hp_names=["lr"])
    with pytest.raises(UserError, match="has no array 'valid_loss'"):
        load_table(tmp_path / "bad.npz")
