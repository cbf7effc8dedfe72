"""Trials that hang: how long one may be silent, and what becomes of those that hang on a real Ray."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks._chaos_checks import broken, wrong
from benchmarks._chaos_search import NAME
from trainable.files import STACKS
from tuning.decisions import DecisionLog
from tuning.past import read_past
from tuning.stalls import AT_LEAST_S, FIRST_EPOCH_S, LONGEST_EPOCHS, StallWatch
from tuning.storage import experiment_id

TWO_TRIALS_HANG = """
import json, sys, time
from pathlib import Path
import tuning.stalls
from rich.console import Console
from benchmarks._chaos_search import SETTINGS, ShortTrial, make_plan
from tuning.plan import Precautions
from tuning.resources import Slots
from tuning.search import run_search, start_ray
from tuning.storage import create_experiment

folder = Path(sys.argv[1])

class Hanging(ShortTrial):
    "In its third epoch the first trial hangs in a C call and the second in a loop, each once."

    def step(self):
        epoch = len(self.history) + 1
        mark = folder / f"{self.trial_id} hung"
        if epoch == 3 and self.trial_id.endswith(("-0001", "-0002")) and not mark.exists():
            mark.touch()
            hang_in_c() if self.trial_id.endswith("-0001") else hang_in_a_loop()
        return super().step()

def hang_in_c():
    time.sleep(1000)

def hang_in_a_loop():
    while True:
        pass

tuning.stalls.LOOK_EVERY_S = 0.2
(folder / SETTINGS).write_text(json.dumps({"epoch_ms": [20], "trials": 5, "epochs": 4, "first_rung": 4}))
plan = make_plan(folder)
create_experiment(plan, {"dataset": "none"})
start_ray(None, 2, verbose=False)
console = Console(file=(folder / "said.txt").open("w"))
care = Precautions(stall_timeout_s=2, free_bytes=0)
outcome = run_search(plan, Slots(2, 1, 0, "two"), None, "none", console, False, trainable=Hanging, care=care)
print("outcome", json.dumps(outcome._asdict()))
"""


@pytest.fixture(scope="module")
def hung(tmp_path_factory):
    """The folder of a search in which two trials hung, and how it ended."""
    folder = tmp_path_factory.mktemp("hung")
    command = [sys.executable, "-c", TWO_TRIALS_HANG, str(folder)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert answer.returncode == 0, answer.stderr
    return folder, json.loads(re.findall("^outcome (.*)$", answer.stdout, re.M)[-1])


def test_a_trial_that_hangs_is_ended_and_tried_again_and_the_search_ends_with_all(hung):
    folder, outcome = hung
    assert (outcome["scored"], outcome["failed"]) == (5, 0)
    assert broken(folder) == []
    assert wrong(folder, 5) == []
    said = (folder / "said.txt").read_text()
    assert said.count("its process is ended") == 2
    assert said.count("broke and is tried again") == 2


def test_it_goes_on_from_its_checkpoint(hung):
    folder, _ = hung
    begun = (folder / "begun.txt").read_text().split("\n")
    epochs = [line.split()[1] for line in begun if line.split(" ")[0].endswith(("-0001", "-0002"))]
    assert sorted(epochs) == sorted(2 * ["1", "2", "3", "4"])


@pytest.mark.parametrize(("number", "function"), [(1, "hang_in_c"), (2, "hang_in_a_loop")])
def test_the_dump_in_its_folder_names_the_function_that_it_hung_in(hung, number, function):
    folder, _ = hung
    (stacks,) = (folder / NAME).glob(f"{number:04}-*/{STACKS}")
    assert f"in {function}" in stacks.read_text()
    assert len(list((folder / NAME).glob(f"*/{STACKS}"))) == 2


def test_the_decisions_know_of_no_failure(hung):
    folder, _ = hung
    assert {each.kind for each in DecisionLog(folder / NAME).read_new()} <= {"start", "promote", "pause", "end", "stop"}
    assert not any(trial.failed for trial in read_past(folder / NAME, experiment_id(folder / NAME)))


def heard(watch: StallWatch, key: str, seconds: float) -> None:
    """A trial has finished an epoch of this length."""
    watch.on_trial_result(0, [], SimpleNamespace(trial_id=key), {"time_this_iter_s": seconds})


def test_a_trial_may_be_silent_as_long_as_was_asked():
    watch = StallWatch(Path("runs"), 7, print)
    heard(watch, "a", 1000)
    assert watch.limit("a") == 7
    assert watch.limit("b") == 7


def test_before_any_epoch_has_ended_a_trial_may_be_silent_for_hours():
    assert StallWatch(Path("runs"), None, print).limit("a") == FIRST_EPOCH_S


def test_a_trial_may_be_silent_for_many_of_its_longest_epochs_but_not_for_less_than_minutes():
    watch = StallWatch(Path("runs"), None, print)
    for seconds in (1, 500, 2):
        heard(watch, "a", seconds)
    heard(watch, "b", 1)
    assert watch.limit("a") == LONGEST_EPOCHS * 500
    assert watch.limit("b") == AT_LEAST_S


def test_a_trial_without_an_epoch_is_measured_by_the_longest_of_the_others():
    watch = StallWatch(Path("runs"), None, print)
    heard(watch, "a", 100)
    heard(watch, "b", 300)
    assert watch.limit("c") == LONGEST_EPOCHS * 300


def test_only_a_running_trial_that_has_been_heard_before_can_be_too_silent():
    watch, ended = StallWatch(Path("runs"), 0.0, print), []
    watch.end = lambda trial, silent: ended.append(trial.trial_id)
    states = (("a", "RUNNING"), ("b", "PAUSED"))
    trials = [SimpleNamespace(trial_id=key, status=status, config={}) for key, status in states]
    watch.on_step_end(0, trials)
    assert ended == []
    for trial in trials:
        watch.on_trial_start(0, trials, trial)
    watch.next_look = 0.0
    watch.on_step_end(0, trials)
    assert ended == ["a"]


def test_a_probe_says_nothing_of_epochs_and_may_take_long_itself():
    watch = StallWatch(Path("runs"), None, print)
    watch.on_trial_start(0, [], SimpleNamespace(trial_id="probe", config={"freeze": "all"}))
    heard(watch, "probe", 5000)
    heard(watch, "other", 5)
    assert watch.limit("probe") == FIRST_EPOCH_S
    assert watch.limit("other") == AT_LEAST_S
