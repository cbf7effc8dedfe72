"""The scale benchmark: it runs both halves, and its arithmetic gives what made-up results hold."""

import json
import subprocess
import sys

import pytest

from benchmarks._scale_clock import Costs, Simulation, new_engine
from benchmarks._scale_search import Drive, Handled
from benchmarks.cluster_scale import cost_of_result, gaps, summary

FREE = Costs(result_s=0.0, known_trial_s=0.0, handover_s=0.0)


def simulate(slots: int, costs: Costs, trials: int = 300):
    return Simulation(new_engine("asha", trials, epochs=5), slots, epoch_s=30.0, costs=costs).run()


def test_slots_of_a_driver_that_costs_nothing_are_busy():
    done = simulate(20, FREE)
    assert done.busy > 0.99
    assert done.trials == 300


def test_slots_wait_for_a_driver_that_has_more_to_do_than_there_is_time():
    done = simulate(20, Costs(result_s=3.0, known_trial_s=0.0, handover_s=0.0))
    assert done.driver > 0.95
    assert done.busy == pytest.approx(30 / (20 * 3), abs=0.05)  # each slot has its turn once in 60 s
    assert max(done.lag_s) > 20


def test_a_handover_takes_its_share_of_each_slot():
    done = simulate(20, Costs(result_s=0.0, known_trial_s=0.0, handover_s=10.0))
    assert done.busy == pytest.approx(0.75, abs=0.02)


def test_what_each_known_trial_costs_is_found():
    handled, cpu_s = [], 0.0
    for at in range(1000):
        cpu_s += 0.010 + 2e-6 * at + 0.005
        handled.append(Handled(0.0, 0.0, 0.0, 1, cpu_s, 0.005 * (at + 1), 0, at))
    result_s, known_trial_s = cost_of_result(handled)
    assert result_s == pytest.approx(0.010, rel=0.02)
    assert known_trial_s == pytest.approx(2e-6, rel=0.05)


def test_a_slot_that_trains_half_of_the_time_is_half_busy(tmp_path):
    task = Drive(folder=tmp_path, nodes=1, slots_a_node=1, epochs=5, epoch_s=1.0, seconds=60, scheduler="asha")
    handled = [Handled(2 * at, 2 * at + 1, 2 * at + 1.25, 7, 0.1 * at, 0.0, 10**8, at + 1) for at in range(50)]
    figures = summary(task, handled)
    assert gaps(handled) == pytest.approx([1.0] * 49)
    assert figures["slots_busy"] == pytest.approx(0.5, abs=0.02)
    assert figures["lag_s_p95"] == pytest.approx(0.25)
    assert figures["driver_cpu_s_a_result"] == pytest.approx(0.1)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The figures of a short run of both halves."""
    file = tmp_path_factory.mktemp("scale") / "figures.json"
    command = [sys.executable, "-m", "benchmarks.cluster_scale", "--quick", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr
    assert "slots busy" in done.stdout
    return file


def test_the_command_drives_a_real_cluster_and_simulates_a_large_one(written):
    figures = json.loads(written.read_text())
    assert figures["real"]["nodes"] == 2
    assert figures["real"]["trials"] > 2
    assert 0 < figures["real"]["slots_busy"] <= 1
    assert figures["real"]["lag_s_p95"] > 0
    assert 0.5 < figures["simulated"]["slots_busy"] <= 1


def test_costs_that_were_measured_before_are_used_again(written, tmp_path):
    again = tmp_path / "again.json"
    command = [sys.executable, "-m", "benchmarks.cluster_scale", "--costs", str(written), "--json", str(again)]
    options = ["--nodes", "2", "--slots", "3", "--trials", "20", "--scheduler", "asha"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    figures = json.loads(again.read_text())
    assert figures["real"] == json.loads(written.read_text())["real"]
    assert figures["simulated"]["slots"] == 6


def test_a_file_of_something_else_is_named(tmp_path):
    file = tmp_path / "other.json"
    file.write_text("[]")
    command = [sys.executable, "-m", "benchmarks.cluster_scale", "--costs", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 1
    assert str(file) in done.stderr.replace("\n", "")
