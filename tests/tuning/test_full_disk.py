"""Searches on small disks, real ones: how much they take, and what becomes of them where a disk is full."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks._chaos_checks import wrong
from benchmarks._chaos_search import BEGUN, NAME
from trainable.files import MODEL, PREDICTIONS, STATE
from tuning.decisions import DecisionLog

SEVERAL_SEARCHES_ON_SMALL_DISKS = """
import json, os, signal, sys, threading, time
from pathlib import Path
from rich.console import Console
from benchmarks._chaos_checks import broken
from benchmarks._chaos_search import BEGUN, NAME, SETTINGS, ShortTrial, make_plan
from trainable.errors import UserError
from trainable.files import MODEL, PREDICTIONS, STATE
from tuning.plan import Precautions
from tuning.resources import Slots
from tuning.search import run_search, start_ray
from tuning.storage import create_experiment

room, disks = Path(sys.argv[1]), sys.argv[2:]
start_ray(None, 2, verbose=False)

class Swin(ShortTrial):
    "Checkpoints a thousandth of Swin-Tiny's: 110 kB of weights and 220 kB of the optimiser's state."
    file_bytes = {MODEL: 110_000, STATE: 220_000, PREDICTIONS: 200}

class Small(ShortTrial):
    file_bytes = {MODEL: 20_000, STATE: 40_000, PREDICTIONS: 200}

def search(folder, trainable, resumed=False, **care):
    plan = make_plan(folder)
    if not resumed:
        create_experiment(plan, {"dataset": "none"})
    console = Console(file=(folder.parent / f"{folder.name}.txt").open("a"), width=1000)
    care = Precautions(**{"free_bytes": 0} | care)
    try:
        slots = Slots(2, 1, 0, "two")
        return run_search(plan, slots, None, "none", console, resumed, trainable=trainable, care=care)._asdict()
    except UserError as error:
        return {"error": str(error), "caused": repr(error.__cause__), "broken": broken(folder)}

def begin(folder, **settings):
    folder.mkdir(exist_ok=True)
    outside = folder.parent / f"{folder.name}.begun"
    outside.touch()
    (folder / BEGUN).symlink_to(outside)
    (folder / SETTINGS).write_text(json.dumps({"epoch_ms": [30, 60], "trials": 12, "epochs": 8} | settings))

def fill(folder, spare):
    while len((folder / BEGUN).read_text().splitlines()) < 12:
        time.sleep(0.02)
    with (folder / "big").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(file.tell() - spare)

def while_filled(folder, spare, then):
    thread = threading.Thread(target=lambda: (fill(folder, spare), then()))
    thread.start()
    return thread

told = {}

folder = room / "many"
begin(folder, trials=200, epochs=2, epoch_ms=[5], seed=3, scheduler="asha")
most, over = [0], threading.Event()
def look():
    while not over.is_set():
        size = 0
        for place, _, names in os.walk(folder / NAME):
            for name in names if "/checkpoint_" in place else ():
                try:
                    size += os.stat(os.path.join(place, name)).st_size
                except FileNotFoundError:
                    pass
        most[0] = max(most[0], size)
        time.sleep(0.02)
watching = threading.Thread(target=look)
watching.start()
told["many"] = search(folder, Swin, most_bytes=5_000_000)
over.set()
watching.join()
told["many"] |= {"most": most[0]}

if "watched" in disks:
    folder = room / "watched"
    begin(folder, trials=30)
    waited = []
    def make_room():
        known = -1
        while known != (known := len((folder / BEGUN).read_text().splitlines())):
            time.sleep(2)
        waited.append(known)
        (folder / "big").unlink()
    thread = while_filled(folder, 1_200_000, make_room)
    told["watched"] = search(folder, Small, free_bytes=1_500_000)
    thread.join()
    told["watched"] |= {"waited": waited[0]}

    folder = room / "stopped"
    begin(folder)
    def stop():
        time.sleep(4)
        os.kill(os.getpid(), signal.SIGINT)
    started = time.monotonic()
    thread = threading.Thread(target=stop)
    thread.start()
    told["stopped"] = search(folder, Small, free_bytes=10**9)
    told["stopped"] |= {"seconds": time.monotonic() - started}
    thread.join()

    for spare in (0, 100_000):
        folder = room / f"full-{spare}"
        begin(folder)
        thread = while_filled(folder, spare, lambda: None)
        told[folder.name] = {"first": search(folder, Small)}
        thread.join()
        (folder / "big").unlink()
        told[folder.name] |= {"resumed": search(folder, Small, resumed=True), "broken": broken(folder)}

print("told", json.dumps(told))
"""

DISKS = {"watched": "4m", "stopped": "4m", "full-0": "4m", "full-100000": "4m"}
FULL = [name for name in DISKS if name.startswith("full")]


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A folder with a small file system of its own for each search that needs one, where those may be mounted."""
    folder, mounted = tmp_path_factory.mktemp("disks"), []
    for name, size in DISKS.items():
        (folder / name).mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder / name)]
        if os.getuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0:
            mounted.append(folder / name)
    yield folder
    for path in mounted:
        subprocess.run(["umount", "--lazy", str(path)], check=False)


@pytest.fixture(scope="module")
def told(room) -> dict:
    """What the searches came to, by the names of their folders; one Ray for all."""
    disks = [name for name in DISKS if os.path.ismount(room / name)]
    command = [sys.executable, "-c", SEVERAL_SEARCHES_ON_SMALL_DISKS, str(room), *disks]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert answer.returncode == 0, answer.stderr
    assert "Traceback" not in answer.stdout + answer.stderr
    return json.loads(re.findall("^told (.*)$", answer.stdout, re.M)[-1])


@pytest.fixture
def on_disks(told) -> dict:
    """The same, where small disks may be mounted."""
    if "watched" not in told:
        pytest.skip("a small file system can be mounted by root only")
    return told


def said(room: Path, name: str) -> str:
    return (room / f"{name}.txt").read_text()


def test_two_hundred_trials_stay_below_the_largest_size(room, told, record_property):
    most, a_checkpoint = told["many"]["most"], 330_000
    record_property("most bytes of checkpoints", most)
    print(f"200 trials: at most {most / 1e6:.2f} MB of checkpoints")
    assert (told["many"]["scored"], told["many"]["failed"]) == (200, 0)
    # what running trials write, two checkpoints each and the one that is being written, comes on top
    assert 4_000_000 < most < 5_000_000 + 2 * 3 * a_checkpoint


def test_their_predictions_and_records_are_all_kept(room, told):
    experiment = room / "many" / NAME
    assert len({path.parent.parent for path in experiment.glob(f"*/*/{PREDICTIONS}")}) == 200
    assert wrong(room / "many", 200) == []
    with_state = {path.parent.parent.name for path in experiment.glob(f"*/*/{STATE}")}
    with_weights = {path.parent.parent.name for path in experiment.glob(f"*/*/{MODEL}")}
    assert 1 <= len(with_state | with_weights) <= 10


def test_trials_that_gave_their_weights_up_promised_least(room, told):
    ended = [each for each in DecisionLog(room / "many" / NAME).read_new() if "made room" in each.reason]
    assert ended
    assert all(each.step < 2 for each in ended)
    assert said(room, "many").count("(--max-size)") == len(ended)


def test_below_min_free_no_trial_begins_until_there_is_room_again(room, on_disks):
    lines = said(room, "watched").splitlines()
    held = next(index for index, line in enumerate(lines) if "no trial begins until there is more" in line)
    free = next(index for index, line in enumerate(lines) if "trials begin again" in line)
    assert sum(" starts: " in line for line in lines[held:free]) <= 2, "none but what Ray was about to run"
    assert [line for line in lines[free:] if " starts: " in line]
    assert (on_disks["watched"]["scored"], on_disks["watched"]["failed"]) == (30, 0)
    assert wrong(room / "watched", 30) == []


def test_a_search_that_waits_for_room_can_be_stopped(room, on_disks):
    assert on_disks["stopped"]["interrupted"]
    assert on_disks["stopped"]["scored"] == 0
    assert on_disks["stopped"]["seconds"] < 30


@pytest.mark.parametrize("name", FULL)
def test_a_full_disk_ends_the_search_with_one_clear_line_and_nothing_broken(room, on_disks, name):
    first = on_disks[name]["first"]
    assert first["error"].startswith(f"{room / name / NAME}: the disk is full (")
    assert first["error"].endswith("make room, then go on by --resume search")
    assert "\n" not in first["error"]
    assert first["caused"] == "None"
    assert first["broken"] == []


@pytest.mark.parametrize("name", FULL)
def test_once_there_is_room_it_goes_on_from_all_that_was_finished(room, on_disks, name):
    resumed = on_disks[name]["resumed"]
    assert (resumed["scored"], resumed["failed"], resumed["interrupted"]) == (12, 0, False)
    assert on_disks[name]["broken"] == []
    assert wrong(room / name, 12) == []
    begun = (room / name / BEGUN).read_text().splitlines()
    epochs = [tuple(line.split()[:2]) for line in begun]
    assert len(epochs) - len(set(epochs)) <= 2, "what ran when the disk was full is trained again, and no more"
