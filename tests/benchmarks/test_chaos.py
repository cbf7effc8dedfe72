"""The kill matrix: real searches on a real cluster, broken at seeded moments and in seeded writes, lose nothing."""

import random
import signal
from pathlib import Path

import pytest

from benchmarks._chaos_checks import broken, epochs_begun, wrong
from benchmarks._chaos_search import NAME, drive
from benchmarks.chaos import DRIVER_FAULTS, FORKS, LOG, TRIALS, Tally, begin, break_search, cluster, has_ended
from tuning.decisions import DecisionLog
from tuning.past import read_past
from tuning.storage import experiment_id

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets of Ray's cluster

FAULTS = 30
"""At least so many are injected."""


@pytest.fixture(scope="module")
def nodes():
    """Two real nodes with one core each."""
    with cluster() as nodes:
        yield nodes


@pytest.mark.timeout(600)
def test_nothing_is_lost_whatever_is_killed(nodes, tmp_path):
    rng, tally = random.Random(5), Tally()
    while tally.faults.total() < FAULTS:
        folder = tmp_path / str(tally.searches)
        folder.mkdir()
        break_search(folder, rng, nodes, tally)
    assert tally.wrong == []
    assert tally.broken == []
    assert len(tally.faults) >= len(DRIVER_FAULTS), tally.faults
    assert tally.repeated <= 2 * tally.faults.total()


def search(folder: Path, nodes, write: int = 0) -> int:
    """Run the search of `folder` on one slot, or go on with it; returns the process's exit code."""
    driver = FORKS.Process(target=drive, args=(folder, nodes.address, 1, write, folder / LOG))
    driver.start()
    driver.join(120)
    return driver.exitcode


def outcome(folder: Path) -> tuple[list[tuple[dict, dict[int, float]]], list[tuple]]:
    """Each trial's configuration and curve, and what was decided, in order, a decision that was taken again once."""
    experiment = folder / NAME
    past = read_past(experiment, experiment_id(experiment))
    names = {trial.key: trial.number for trial in past}
    lines = [each for each in DecisionLog(experiment).read_new() if each.kind != "stop"]  # at the end, in no order
    decisions = [(each.kind, names[each.trial], each.step, each.target) for each in lines]
    values = [({name: trial.config[name] for name in ("lr", "batch_size")}, trial.curve) for trial in past]
    return values, list(dict.fromkeys(decisions))


@pytest.mark.timeout(600)
def test_a_search_that_was_killed_in_many_writes_ends_as_one_that_never_was(nodes, tmp_path):
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        begin(tmp_path / name, seed=11)
    assert search(tmp_path / "whole", nodes) == 0
    rng, kills = random.Random(1), 0
    while not has_ended(tmp_path / "killed"):
        code = search(tmp_path / "killed", nodes, write=rng.randrange(20, 100) if kills < 8 else 0)
        kills += code == -signal.SIGKILL
        assert broken(tmp_path / "killed") == []
    assert kills >= 4
    assert wrong(tmp_path / "killed", TRIALS) == []
    begun = epochs_begun(tmp_path / "killed")
    assert begun.total() - len(begun) <= kills
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
