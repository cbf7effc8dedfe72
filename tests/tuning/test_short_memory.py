"""What becomes of a search whose trials together need more memory than there is, under Ray's real memory monitor."""

import json
import re
import subprocess
import sys

import psutil
import pytest
import ray.exceptions
from ray.air.execution._internal.actor_manager import RayActorManager

from benchmarks._chaos_checks import broken, wrong
from tuning.failures import is_memory, lost_processes_are_failures

SPARE = 4 * 10**9
"""Ray ends processes where so much more is used than when the search begins; other programs may take some of it."""

TRIALS_THAT_NEED_MORE_THAN_THERE_IS = """
import json, os, sys, time
from pathlib import Path
import psutil
from rich.console import Console
from benchmarks._chaos_search import SETTINGS, ShortTrial, make_plan
from tuning.plan import Precautions
from tuning.resources import Slots
from tuning.search import run_search, start_ray
from tuning.storage import create_experiment

folder, spare = Path(sys.argv[1]), float(sys.argv[2])

class Greedy(ShortTrial):
    "Takes memory for as long as another trial runs beside it."

    def step(self):
        mark, held, patience = folder / f"{os.getpid()}.runs", [], time.monotonic() + 60
        mark.touch()
        time.sleep(0.5)
        while time.monotonic() < patience and any(
            path != mark and psutil.pid_exists(int(path.stem)) for path in folder.glob("*.runs")
        ):
            held.append(b"x" * (50 * 10**6))
            time.sleep(0.02)
        mark.unlink()
        return super().step()

total, free = psutil.virtual_memory()[:2]
os.environ["RAY_memory_usage_threshold"] = str((total - free + spare) / total)
os.environ["RAY_memory_monitor_refresh_ms"] = "100"
(folder / SETTINGS).write_text(json.dumps({"epoch_ms": [20], "trials": 4, "epochs": 2, "first_rung": 2}))
plan = make_plan(folder)
create_experiment(plan, {"dataset": "none"})
start_ray(None, 2, verbose=False)
console = Console(file=(folder / "said.txt").open("w"))
care = Precautions(free_bytes=0, retries=4)
outcome = run_search(plan, Slots(2, 1, 0, "two"), None, "none", console, False, trainable=Greedy, care=care)
print("outcome", json.dumps(outcome._asdict()))
"""


@pytest.mark.skipif(
    psutil.virtual_memory().available < 2 * SPARE, reason="so little memory is free that none can be used up"
)
def test_where_memory_is_short_fewer_trials_run_at_once_and_all_end_well(tmp_path):
    command = [sys.executable, "-c", TRIALS_THAT_NEED_MORE_THAN_THERE_IS, str(tmp_path), str(SPARE)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert answer.returncode == 0, answer.stderr
    outcome = json.loads(re.findall("^outcome (.*)$", answer.stdout, re.M)[-1])
    said = (tmp_path / "said.txt").read_text()
    assert "memory is short: 1 trial at once from now on" in said
    assert re.search("tried again: OutOfMemoryError: Ray ended its process .* low on memory: .*GB used / .*GB", said)
    assert (outcome["scored"], outcome["failed"], outcome["stopped_by"]) == (4, 0, None)
    assert broken(tmp_path) == []
    assert wrong(tmp_path, 4) == []


def test_a_process_that_died_of_another_cause_says_nothing_of_memory():
    reason = "The actor is dead: (1) the process was killed by the OOM killer due to high memory usage"
    assert not is_memory(reason)


def test_what_ray_knows_no_answer_to_fails_one_trial_and_not_the_search():
    """Should Ray mend it, the first half fails and says so."""
    manager, heard = RayActorManager(None), []
    task = type("Task", (), {"_tracked_actor": type("Actor", (), {"_on_error": None, "actor_id": 1})()})()
    task._on_error = lambda actor, exception: heard.append(exception)
    lost = ray.exceptions.OutOfMemoryError("low on memory")
    with pytest.raises(RuntimeError, match="unexpected exception"):
        manager._actor_task_failed(tracked_actor_task=task, exception=lost)
    manager._cleanup_actor = lambda tracked_actor: None
    with lost_processes_are_failures():
        manager._actor_task_failed(tracked_actor_task=task, exception=lost)
    assert [type(exception) for exception in heard] == [ray.exceptions.RayActorError]
    assert str(heard[0]) == "low on memory"
