"""Peers of the search on the virtual clock: they begin alike, repeat themselves and keep to the space."""

import importlib.metadata

import numpy as np
import pytest

from benchmarks._replay_clock import GRID, Clock
from benchmarks._replay_curves import Curve, Lookup
from benchmarks._replay_methods import METHODS, Setting, make_method, parse_method, version_of
from benchmarks._replay_releases import SYNE_RELEASES, check_installed
from benchmarks._replay_summary import Band, best_setting_rows
from benchmarks._replay_tables import load_table
from search_spaces import Choice, Float, Int, Space, contains, start_point
from trainable.errors import UserError

STEPS = 9
PEERS = ("ray-hyperband", "ray-bohb", "optuna-gp", "optuna-gp-full", *SYNE_RELEASES)
TRAININGS = {"optuna-gp-full": 13, "syne-cqr": 3, "syne-mobster": 3, "syne-hypertune": 3, "syne-dyhpo": 3}
"""Enough for the model to be asked, and as little as it can be where that is slow."""
MIXED = Space(
    name="mixed",
    dimensions=(
        Choice(name="arch", values=("plain", "deep"), start="deep"),
        Float(name="lr", low=1e-3, high=1.0, log=True, start=0.01),
        Float(name="momentum", low=0.5, high=0.9),
        Int(name="depth", low=3, high=9, when={"arch": ("deep",)}),
        Choice(name="sync", values=(False, 1.5, "often"), when={"arch": ("plain",)}),
        Int(name="only", low=4, high=4),
    ),
    fixed={"epochs": 9},
)

# what the peers' libraries warn of is theirs
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(params=PEERS)
def peer(request) -> str:
    """A method that can run here."""
    try:
        check_installed(request.param)
    except UserError as error:
        pytest.skip(str(error))
    return request.param


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Losses that tie in threes and fall step by step; every fifth row diverges."""
    rng = np.random.default_rng(0)
    hp = np.exp(rng.uniform(np.log(1e-4), np.log(1e-1), size=(60, 2)))
    losses = (np.arange(60) // 3)[:, None] / 10 + 1 / np.arange(1, STEPS + 1)
    losses[::5, 3:] = np.nan
    file = tmp_path_factory.mktemp("curves") / "ties.npz"
    np.savez(file, hp=hp, hp_names=["lr", "decay"], valid_loss=losses)
    return load_table(file)


class Made:
    """Curves that are made of the configuration, which must be of the space."""

    def __init__(self) -> None:
        self.seen = []

    def of(self, config):
        contains(MIXED, config)
        self.seen.append(config)
        rise = np.arange(1, STEPS + 1) / STEPS
        return Curve(rise * (0.9 if config["arch"] == "plain" else 0.5) * config["lr"], 1.0)


def test_a_peer_spends_the_budget_and_repeats_itself(peer, table):
    budget = TRAININGS.get(peer, 6) * STEPS
    replays = [Clock(make_method(peer, table, seed=1), Lookup(table), slots=3).run(budget) for _ in range(2)]
    assert replays[0].trace == replays[1].trace
    assert budget - table.costs.max() < replays[0].trace[-1][0] <= budget + 1e-6
    assert len(replays[0].trace) == budget


def test_a_peer_begins_with_the_first_configuration(peer, table):
    first = make_method("random", table, seed=2).next().config
    assert make_method(peer, table, seed=2).next().config == pytest.approx(first)


def test_a_peer_proposes_what_the_space_contains_though_parts_of_it_are_conditional(peer):
    curves = Made()
    setting = Setting(space=MIXED, first=start_point(MIXED), steps=STEPS, seed=3, rungs=None)
    Clock(METHODS[peer](setting), curves, slots=3).run(TRAININGS.get(peer, 6) * STEPS)
    assert start_point(MIXED).items() <= curves.seen[0].items()
    assert {config["arch"] for config in curves.seen} == {"plain", "deep"}


def test_rungs_reach_the_peer(peer, table):
    if peer == "optuna-gp-full":
        with pytest.raises(UserError, match="rungs go to all but random, optuna-gp-full"):
            parse_method(f"{peer}:1:2")
        return
    clocks = [Clock(make_method(f"{peer}:1:{factor}", table, seed=1), Lookup(table), slots=3) for factor in (2, 4)]
    for clock in clocks:
        clock.run(TRAININGS.get(peer, 12) * STEPS)
    assert clocks[0].done != clocks[1].done


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("ray-bohb:2:3", r"ray-bohb sets its first rung itself; write ray-bohb:1:3"),
        ("optuna:1:2.5", r"the factor of optuna is a whole number, such as optuna:1:3"),
    ],
)
def test_rungs_that_a_peer_cannot_have_are_named(method, message):
    with pytest.raises(UserError, match=message):
        parse_method(method)


def test_a_missing_package_and_another_release_are_named_with_what_to_install(monkeypatch):
    def missing(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(UserError, match=r"'ray-bohb' needs hpbandster; pip install .*\[peers\]"):
        check_installed("ray-bohb")
    with pytest.raises(UserError, match=r"'syne-bohb' needs syne-tune 0\.16\.0, found none; pip install .*\[peers\]"):
        check_installed("syne-bohb")
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "0.16.0")
    with pytest.raises(UserError, match=r"needs syne-tune 0\.14\.2, found 0\.16\.0; pip install --no-deps --target"):
        check_installed("syne-mobster")
    check_installed("syne-bohb")
    check_installed("random")


def test_a_result_of_syne_tune_hangs_on_its_own_release():
    assert version_of("syne-mobster:1:3") == "syne-tune 0.14.2"
    assert version_of("syne-cqr") == "syne-tune 0.16.0"


def test_a_paused_trial_goes_on_where_it_was(table):
    method = make_method("ray-hyperband:1:3", table, seed=0)
    started, steps = [], {}
    running = []
    for _ in range(400):
        move = method.next() if not running else None
        if move is not None:
            assert (move.config is None) == (move.key in started)
            started.append(move.key)
            running.append(move.key)
        key = running[0]
        steps[key] = steps.get(key, 0) + 1
        if not method.report(key, steps[key], 1 / (1 + int(key)), 1.0):
            running.clear()
    assert len(started) > len(set(started))
    assert max(steps.values()) == STEPS


def test_the_best_setting_in_hindsight_is_another_at_each_share():
    def band(*levels):
        mean = np.interp(GRID, (0.25, 0.5, 1.0), levels)
        return Band(mean, mean, mean)

    bands = {"ray": band(0.5, 0.4, 0.3), "ray:1:2": band(0.6, 0.3, 0.2), "random": band(0.1, 0.1, 0.1)}
    row = {"method": "ray, best setting", "25%": "0.500 ±0.000", "50%": "0.300 ±0.000", "100%": "0.200 ±0.000"}
    assert best_setting_rows(bands) == [row | {"trials": "", "ask ms": ""}]
