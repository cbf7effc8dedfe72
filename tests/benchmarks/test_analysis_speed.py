"""The benchmark of the analysis on a small made-up experiment; speed is not tested."""

import json
import subprocess
import sys

from analysis.experiment import load_experiment
from benchmarks.analysis_speed import write_experiment


def test_the_made_up_experiment_is_read_as_one_that_was_searched(tmp_path):
    trials = load_experiment(write_experiment(tmp_path / "made", trials=300, epochs=8, journal=False))
    assert len(trials) == 300
    assert {"finished", "unfinished", "failed", "diverged"} <= set(trials["state"])
    assert trials["epochs"].max() == 8
    full = load_experiment(write_experiment(tmp_path / "full", trials=20, epochs=3, halving=False, journal=False))
    assert set(full["epochs"]) == {3}


def test_the_command_writes_the_report_and_a_row(tmp_path):
    file = tmp_path / "figures.json"
    options = ["--trials", "30", "--epochs", "4", "--keep", str(tmp_path), "--json", str(file)]
    command = [sys.executable, "-m", "benchmarks.analysis_speed", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(file.read_text())["rows"]
    assert float(row["whole"].split()[0]) > 0
    assert row["page size"].endswith(" MB")
    assert (tmp_path / "made-up-30" / "report" / "index.html").stat().st_size > 4_000_000
