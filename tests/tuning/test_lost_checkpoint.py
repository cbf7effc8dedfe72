"""A process that is killed while it writes the checkpoint of a trial which Ray believes to be saved: on a real Ray."""

import json
import re
import subprocess
import sys

import pytest

from benchmarks._chaos_checks import broken, wrong
from benchmarks._chaos_search import NAME
from tuning.past import read_past, whole_checkpoints
from tuning.storage import experiment_id

DIES_WHILE_IT_WRITES = """
import json, os, sys, time
from pathlib import Path
from rich.console import Console
from benchmarks._chaos_search import SETTINGS, ShortTrial, make_plan
from trainable.files import MODEL
from tuning.plan import Precautions
from tuning.resources import Slots
from tuning.search import run_search, start_ray
from tuning.storage import create_experiment

folder = Path(sys.argv[1])

class Dying(ShortTrial):
    "The process of the first trial dies while another one trains in it, before the first one's rung is written."

    def step(self):
        record = super().step()
        self._is_due = False
        return record

    def snapshot(self):
        mark = folder / "died"
        if not self.trial_id.endswith("-0001") or len(self.history) < 2 or mark.exists():
            return super().snapshot()

        def die(path):
            (path / MODEL).write_text("half")
            while "-0001" in begun()[-1]:
                time.sleep(0.01)
            mark.touch()
            os._exit(9)

        return die

def begun():
    "The epochs that this process has begun."
    lines = (folder / "begun.txt").read_text().splitlines()
    return [line for line in lines if line.endswith(f" {os.getpid()}")]

settings = {"epoch_ms": [200], "trials": 4, "epochs": 4, "first_rung": 2, "scheduler": "asha", "seed": 3}
(folder / SETTINGS).write_text(json.dumps(settings))
plan = make_plan(folder)
create_experiment(plan, {"dataset": "none"})
start_ray(None, 1, verbose=False)
console = Console(file=(folder / "said.txt").open("w"))
care = Precautions(free_bytes=0, retries=1)
outcome = run_search(plan, Slots(1, 1, 0, "one"), None, "none", console, False, trainable=Dying, care=care)
print("outcome", json.dumps(outcome._asdict()))
"""


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    """The folder of a search whose first trial lost the checkpoint of its rung, and how the search ended."""
    folder = tmp_path_factory.mktemp("lost")
    command = [sys.executable, "-c", DIES_WHILE_IT_WRITES, str(folder)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=150)
    assert answer.returncode == 0, answer.stderr
    assert (folder / "died").exists()
    return folder, json.loads(re.findall("^outcome (.*)$", answer.stdout, re.M)[-1])


def test_no_trial_fails_and_none_loses_an_epoch(search):
    folder, outcome = search
    assert (outcome["scored"], outcome["failed"]) == (4, 0)
    assert broken(folder) == []
    assert wrong(folder, 4) == []


def test_it_goes_on_from_the_checkpoint_before(search):
    folder, _ = search
    epochs = [line.split()[1] for line in (folder / "begun.txt").read_text().splitlines() if "-0001 " in line]
    assert epochs == ["1", "2", "2", "3", "4"]


def test_what_was_half_written_is_gone(search):
    folder, _ = search
    for trial in read_past(folder / NAME, experiment_id(folder / NAME)):
        assert sorted(trial.folder.glob("checkpoint_*")) == whole_checkpoints(trial.folder)
