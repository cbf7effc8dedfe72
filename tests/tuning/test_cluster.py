"""A search on a real Ray cluster: nodes of this machine, each with an address of its own, and logical GPUs."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

CLUSTER = """
import json, os, subprocess, sys, threading, time
from functools import partial
from pathlib import Path
import ray
from ray._private import services, utils
from ray.cluster_utils import Cluster
from rich.console import Console
import tuning.search
from benchmarks._chaos_search import SETTINGS, ShortTrial, make_plan
from trainable.errors import UserError
from ray.autoscaler.v2.sdk import get_cluster_status
from tuning.cluster import check_data, check_shared, read_nodes
from tuning.plan import Precautions
from tuning.search import gpu_slots, run_search, start_ray
from tuning.storage import create_experiment

quick_to_see_that_a_node_died = {
    "health_check_period_ms": 1000, "health_check_failure_threshold": 3
}
common = {"object_store_memory": 80 * 2**20, "include_dashboard": False}

def patiently(ask, *arguments):  # Ray gives a node 30 s to start, which is little beside other tests
    for _ in range(90):
        try:
            return ask(*arguments)
        except RuntimeError:
            time.sleep(1)
    return ask(*arguments)

services.get_node = partial(patiently, services.get_node)
utils.set_sigterm_handler = lambda handler: None  # which a thread, that adds a node, may not set

def start_head(**more):
    cluster = Cluster()
    cluster.add_node(node_ip_address="127.0.0.1", _system_config=quick_to_see_that_a_node_died, **common, **more)
    return cluster

def add(cluster, address, gpus=0, gpu_type=None, cpus=1):
    resources = {f"accelerator_type:{gpu_type}": 1} if gpu_type else {}
    return cluster.add_node(node_ip_address=address, num_cpus=cpus, num_gpus=gpus, resources=resources, **common)

def experiment(folder, **settings):
    folder.mkdir()
    usual = {"epoch_ms": [1000, 1500], "epochs": 4, "scheduler": "asha", "sampler": "random"}
    (folder / SETTINGS).write_text(json.dumps(usual | settings))
    plan = make_plan(folder)
    create_experiment(plan, {"dataset": "none"})
    return plan

tuning.search.data_opener = lambda plan: lambda: "none"  # images that formulas don't need
NEW_NODE = "127.0.0.5"

class Placed(ShortTrial):
    "Notes where each epoch begins, and with what."

    def step(self):
        place, epoch = ray.util.get_node_ip_address(), len(self.history) + 1
        line = [self.trial_id, epoch, place, ray.get_runtime_context().get_assigned_resources(), time.time()]
        where = Path(self.config["data"] + ".where")
        with where.open("a") as file:
            file.write(json.dumps(line) + "\\n")
        patience = time.monotonic() + 60
        while epoch > 1 and where.with_suffix(".killed").exists() and time.monotonic() < patience:
            if NEW_NODE in where.read_text():
                break
            time.sleep(0.1)
        return super().step()

def begun(plan):
    path = Path(plan.trial["data"] + ".where")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

def search(plan, slots, said=os.devnull):
    care = Precautions(retries=0, free_bytes=0)
    with open(said, "w") as file:
        console = Console(file=file, width=200)
        outcome = run_search(plan, slots, None, "none", console, False, trainable=Placed, care=care)
    return {"slots": [slots.concurrent, slots.reason], "outcome": outcome._asdict(), "begun": begun(plan)}

def refusal(call, *arguments):
    try:
        call(*arguments)
    except UserError as error:
        return str(error)

folder = Path(sys.argv[1])
"""

WITH_A_SHARE = (
    CLUSTER
    + """
start_ray(sys.argv[2], 0, verbose=False)
plan = experiment(folder / sys.argv[3], trials=3, epochs=2)
slots = gpu_slots(plan, "0", 2.0, None, max_slots=1)
print("told", json.dumps(search(plan, slots)))
"""
)

SEARCHES = (
    CLUSTER
    + """
cluster, told = start_head(num_cpus=0), {}
add(cluster, "127.0.0.2", 1, "A100", cpus=4)
spot = add(cluster, "127.0.0.3", 2, "T4", cpus=2)
small = add(cluster, "127.0.0.4")
start_ray(cluster.address, 0, verbose=False)

def probe(configurations):  # the GPUs that aren't here
    resources = ray.get_runtime_context().get_assigned_resources()
    total = {"A100": 16, "T4": 4, "L4": 8}
    return 3 * 2**30, next(size for name, size in total.items() if f"accelerator_type:{name}" in resources) * 2**30

tuning.search.measure_peak_bytes = probe
plan = experiment(folder / "spot", trials=16)
slots = gpu_slots(plan, "auto", None, None, cpu_trials=True)

def take_the_spot_node_back():
    global new
    while not any(place == "127.0.0.3" and epoch > 1 for _, epoch, place, *_ in begun(plan)):
        time.sleep(0.1)
    time.sleep(0.5)
    cluster.remove_node(spot, allow_graceful=False)
    Path(plan.trial["data"] + ".killed").touch()
    new = add(cluster, NEW_NODE, 1, "L4", cpus=2)
    threading.Event().wait()  # Linux ends the node's processes with the thread that started them

clouds = threading.Thread(target=take_the_spot_node_back, daemon=True)
clouds.start()
told["spot"] = search(plan, slots, folder / "said.txt") | {"said": (folder / "said.txt").read_text()}

def open_data():
    place = ray.util.get_node_ip_address()
    if place == "127.0.0.4":
        raise UserError("data/x: no such folder; give --data")
    return "other" if place == NEW_NODE else "here"

slots = gpu_slots(plan, "0", 1.0, None)
told["data"] = refusal(check_data, slots, open_data, "here", Console(quiet=True))
told["same data"] = refusal(check_data, slots, lambda: "here", "here", Console(quiet=True))
own = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
told["own folder"] = refusal(check_shared, Path(f"/proc/self/fd/{own}"), "--storage")
told["shared folder"] = refusal(check_shared, folder / "runs")

for node in (small, new):
    cluster.remove_node(node)
while len(read_nodes()) > 2:
    time.sleep(0.1)

plan, over, demands = experiment(folder / "more", trials=4, epochs=2), threading.Event(), []

def count_demands():
    while not over.wait(0.2):
        groups = get_cluster_status(cluster.address).resource_demands.placement_group_demand
        if len(begun(plan)) > 1:  # else those of trials that start are among them
            demands.append(sum(each.count for group in groups for each in group.bundles_by_count))

watching = threading.Thread(target=count_demands)
watching.start()
told["more"] = search(plan, gpu_slots(plan, "0", 2.0, None, max_slots=4))
asked, patience = sorted(set(demands)), time.monotonic() + 20
while demands[-1] and time.monotonic() < patience:
    time.sleep(0.2)
over.set()
watching.join()
told["demands"] = [asked, demands[-1]]

shares = [sys.executable, "-c", os.environ["WITH_A_SHARE"], str(folder), cluster.address]
both = [subprocess.Popen([*shares, name], stdout=subprocess.PIPE, text=True) for name in ("one", "other")]
answers = [process.communicate()[0] for process in both]
told["shares"] = [json.loads(answer.rpartition("told ")[2]) for answer in answers]

ray.shutdown()
ray.__version__ = "2.50.0"
told["version"] = refusal(start_ray, cluster.address, 0, False)
print("told", json.dumps(told), flush=True)
cluster.shutdown()
"""
)

JOINING = (
    CLUSTER
    + """
cluster, told, said = start_head(num_cpus=0), {}, []
add(cluster, "127.0.0.2", cpus=2)
spot = add(cluster, "127.0.0.3", 1, "T4")
start_ray(cluster.address, 0, verbose=False)

def measure_for_ever(configurations):
    (folder / "measuring").touch()
    time.sleep(600)

def take_the_spot_node_back():
    while not (folder / "measuring").exists():
        time.sleep(0.1)
    time.sleep(3)
    cluster.remove_node(spot, allow_graceful=False)

tuning.search.measure_peak_bytes = measure_for_ever
threading.Thread(target=take_the_spot_node_back, daemon=True).start()
plan = experiment(folder / "joined", trials=8, epochs=3)
slots = gpu_slots(plan, "auto", None, None, say=said.append)
told["measured"] = [slots.concurrent, slots.rule.gpus_per_trial, said]

def open_data():
    if ray.util.get_node_ip_address() == "127.0.0.4":
        raise UserError("data/x: no such folder; give --data")
    return "none"

tuning.search.data_opener = lambda plan: open_data

def let_nodes_join():
    while len(begun(plan)) < 2:
        time.sleep(0.1)
    Path(plan.trial["data"] + ".killed").touch()
    add(cluster, "127.0.0.4", cpus=2)
    while "127.0.0.4" not in (folder / "said.txt").read_text():
        time.sleep(0.1)
    add(cluster, NEW_NODE)
    threading.Event().wait()

threading.Thread(target=let_nodes_join, daemon=True).start()
told |= search(plan, slots, folder / "said.txt") | {"said": (folder / "said.txt").read_text()}
print("told", json.dumps(told), flush=True)
cluster.shutdown()
"""
)


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict:
    """What came of everything that is tried on one cluster, since a node takes seconds to start."""
    return answer_of(SEARCHES, tmp_path_factory.mktemp("searches"))


@pytest.fixture(scope="module")
def joined(tmp_path_factory) -> dict:
    """A search whose GPU left while it was measured, and that a node without its data joins, then one with them."""
    return answer_of(JOINING, tmp_path_factory.mktemp("joining"))


def answer_of(script: str, folder: Path) -> dict:
    command = [sys.executable, "-c", script, str(folder)]
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as own:  # a short path, for its sockets
        environment = os.environ | {"RAY_TMPDIR": own, "WITH_A_SHARE": WITH_A_SHARE}
        environment["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280, env=environment)
    lines = [line for line in answer.stdout.splitlines() if line.startswith("told ")]
    assert lines, answer.stdout + answer.stderr
    return json.loads(lines[-1].removeprefix("told "))


@pytest.fixture(scope="module")
def spot(told) -> dict:
    """The search on three nodes, of which the one that was cheap is taken back in the midst of an epoch."""
    return told["spot"]


def test_each_node_has_as_many_slots_as_its_gpus_hold_trials(spot):
    concurrent, reason = spot["slots"]
    assert concurrent == 4 + 2 + 1
    assert "A100: 4 of 0.25 GPU" in reason
    assert "T4: 2 of 1 GPU" in reason
    assert "127.0.0.4: 1 of 1 cores" in reason


def test_all_trials_end_well_though_a_node_was_lost_under_them(spot):
    outcome = spot["outcome"]
    assert (outcome["scored"], outcome["failed"], outcome["interrupted"]) == (16, 0, False)


def test_trials_get_the_share_of_the_gpu_that_they_run_on(spot):
    shares = {"127.0.0.2": 0.25, "127.0.0.3": 1.0, "127.0.0.4": 0, "127.0.0.5": 0.5}
    for _, _, place, resources, _ in spot["begun"]:
        assert resources.get("GPU", 0) == shares[place]
        assert resources["CPU"] == 1
    assert {place for _, _, place, *_ in spot["begun"]} == set(shares)


def test_a_lost_node_costs_the_epoch_that_it_was_in_and_no_other(spot):
    times = Counter((key, epoch) for key, epoch, *_ in spot["begun"])
    repeated = {key for key, count in times.items() if count > 1}
    lost = {(key, epoch) for key, epoch, place, *_ in spot["begun"] if place == "127.0.0.3"}
    assert repeated
    assert repeated <= lost
    assert len(repeated) <= 2
    assert max(times.values()) == 2


def test_what_comes_and_goes_is_said(spot):
    assert re.search("a node left", spot["said"])
    assert re.search("a node joined", spot["said"])
    assert re.findall(r": (\d+) trials at once", spot["said"])[-1] == "7"
    assert "tried again" in spot["said"]


def test_data_that_a_node_lacks_or_that_differ_there_are_refused_with_the_node_s_name(told):
    assert "node 127.0.0.4: data/x: no such folder; give --data" in told["data"]
    assert "node 127.0.0.5: has other images than this machine" in told["data"]
    assert "127.0.0.2" not in told["data"]
    assert told["same data"] is None


def test_a_folder_of_one_machine_is_no_storage_for_several(told):
    assert told["own folder"].startswith("--storage /proc/self/fd/")
    assert "isn't shared with node " in told["own folder"]
    assert "127.0.0.2, 127.0.0.4, 127.0.0.5, so" in told["own folder"]
    assert told["shared folder"] is None


def test_slots_that_are_wanted_and_not_there_are_asked_for_until_the_search_ends(told):
    assert told["more"]["slots"] == [2, "4 cores / 2 a trial; up to 4 as nodes join"]
    assert told["more"]["outcome"]["scored"] == 4
    asked, at_the_end = told["demands"]
    assert 2 in asked
    assert at_the_end == 0


def test_two_searches_with_a_share_each_run_side_by_side_and_within_it(told):
    one, other = (sorted(search["begun"], key=lambda epoch: epoch[-1]) for search in told["shares"])
    for search in told["shares"]:
        assert search["slots"] == [1, "as asked"]
        assert (search["outcome"]["scored"], search["outcome"]["failed"]) == (3, 0)
    assert one[0][-1] < other[-1][-1]
    assert other[0][-1] < one[-1][-1]


def test_another_version_of_ray_is_told_in_a_line(told):
    assert "the cluster has Ray 2.6" in told["version"]
    assert "this machine Ray 2.50.0" in told["version"]
    assert "\n" not in told["version"]


def test_a_gpu_that_leaves_while_it_is_measured_is_waited_for_no_longer(joined):
    concurrent, gpus_per_trial, said = joined["measured"]
    assert concurrent == 3 - 1
    assert gpus_per_trial is None, "it is measured when it is back"
    assert said[0] == "measuring the memory of a trial on T4 ..."
    assert "T4 left the cluster before" in said[1]


def test_a_node_that_joins_without_the_data_is_told_and_takes_no_trials(joined):
    assert "node 127.0.0.4 joined, but takes no trials: data/x: no such folder; give --data" in joined["said"]
    assert {place for _, _, place, *_ in joined["begun"]} == {"127.0.0.2", "127.0.0.5"}
    assert re.findall(r": (\d+) trials at once", joined["said"]) == ["3"]
    assert (joined["outcome"]["scored"], joined["outcome"]["failed"]) == (8, 0)
