"""What runs on Ray: joining a cluster, fractions of (logical) GPUs, and every scheduler to its end."""

import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks._replay_clock import Clock
from benchmarks._replay_curves import Curve
from benchmarks._replay_methods import Ours
from trainable import metrics
from tuning.decisions import DecisionLog
from tuning.executor import SEARCH_OVER
from tuning.policies import make_engine
from tuning.search import trial_name
from tuning.storage import read_experiment, read_records

pytestmark = pytest.mark.timeout(600)  # twelve searches in one fixture, on a machine that may be busy
SEVERAL_SEARCHES_ON_ONE_RAY = """
import json, shutil, sys, time
from pathlib import Path
import ray
import tuning.search
from ray.tune import Trainable
from rich.console import Console
from trainable import metrics
from trainable.trial import Trial
from search_spaces import Choice, Float, Space, narrow
from tuning.plan import Precautions, SearchPlan
from tuning.resources import Slots
from tuning.search import gpu_slots, prepare_data, run_search
from tuning.storage import create_experiment, read_records

data, output = sys.argv[1:]
space = Space(
    name="tiny",
    dimensions=(Choice(name="arch", values=("test_vit",)), Float(name="lr", low=1e-3, high=1e-2, log=True)),
    fixed={"batch_size": 32},
)
ray.init("local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
tuning.search.measure_peak_bytes = lambda configurations: (6 * 2**30, 16 * 2**30)  # the GPU that isn't here

class Diverging(Trainable):
    "Scores its learning rate; one that is too high diverges in the third epoch, while the others wait."

    def setup(self, config):
        self.config, self.epoch = config, 0

    def reset_config(self, config):
        self.setup(config)
        return True

    def step(self):
        self.epoch += 1
        diverged = self.epoch == 3 and self.config["lr"] > 6e-3
        time.sleep(diverged)
        score = 0.0 if diverged else self.config["lr"]
        record = {metrics.STEP: self.epoch, metrics.EPOCH: self.epoch, metrics.SCORE: score}
        record |= {metrics.DIVERGED: diverged, metrics.TRAIN_LOSS: 0.0}
        record |= {metrics.SELECT_LOSS: 0.0, metrics.IMAGES_PER_SECOND: 1.0}
        return record | {"done": diverged or self.epoch == self.config["epochs"]}

    def save_checkpoint(self, folder):
        Path(folder, "epoch").write_text(str(self.epoch))

    def load_checkpoint(self, folder):
        self.epoch = int(Path(folder, "epoch").read_text())

def search(name, slots=None, trainable=Trial, then=lambda: None, care=Precautions(), **changes):
    usual = {"space": space, "trial": {"data": data}, "trials": 3, "epochs": 2, "seed": 5}
    plan = SearchPlan(**usual | changes, name=name, output=Path(output))
    create_experiment(plan, prepare_data(plan, progress=False))
    then()
    slots = slots or gpu_slots(plan, "auto", None, None)
    outcome = run_search(plan, slots, 100, "none", Console(quiet=True), False, trainable=trainable, care=care)
    records = sorted((r["config"]["lr"], r["epoch"], r["train_loss"]) for r in read_records(plan.folder))
    epochs = {}
    for record in read_records(plan.folder):
        epochs.setdefault(record["trial_name"], []).append(record["epoch"])
    told = {"scored": outcome.scored, "failed": outcome.failed, "stopped_by": outcome.stopped_by}
    told |= {"records": records, "epochs": epochs}
    return told | {"slots": slots._asdict(), "folder": str(plan.folder)}

other = Path(output, "images")
shutil.copytree(data, other)
an_image = next(other.glob("train/*/*.png"))

one, two = Slots(1, 1, 0, "one"), Slots(2, 1, 0, "two")
print(json.dumps({
    "gpu": search("gpu"),
    "first": search("first", one),
    "asha": search("asha", one, scheduler="asha"),
    "freeze-thaw": search("freeze-thaw", one, Diverging, trials=12, epochs=8, space=narrow(space, ["lr=1e-3:5e-3"])),
    "second": search("second", one),
    **{name: search(name, one, scheduler=name) for name in ("asha-stop", "median", "none")},
    "few": search("few", two, scheduler="hyperband"),
    "hyperband": search(
        "hyperband", two, Diverging, scheduler="hyperband", trials=14, epochs=8, seed=1, sampler="random"
    ),
    "changed": search("changed", one, then=an_image.unlink, care=Precautions(retries=0), trial={"data": str(other)}),
    "pbt": search("pbt", two, scheduler="pbt", trials=4, epochs=4),
}))
"""


@pytest.fixture(scope="module")
def searches(tmp_path_factory, colour_folder) -> dict:
    """Twelve searches, by what is special about them; one Ray for all, since its start takes longer."""
    arguments = [sys.executable, "-c", SEVERAL_SEARCHES_ON_ONE_RAY, colour_folder, tmp_path_factory.mktemp("runs")]
    answer = subprocess.run([*map(str, arguments)], capture_output=True, text=True, check=False, timeout=560)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout.splitlines()[-1])


def test_trials_on_other_images_than_the_search_began_with_fail_and_say_so(searches):
    changed = searches["changed"]
    assert changed["scored"] == 0
    assert "images: the images on " in changed["stopped_by"]
    assert "aren't those that the search began with" in changed["stopped_by"]


def test_two_trials_share_a_logical_gpu_as_the_measured_memory_allows(searches):
    slots = searches["gpu"]["slots"]
    assert (slots["concurrent"], slots["cpus_per_trial"], slots["gpus_per_trial"]) == (2, 1, 0.5)
    assert searches["gpu"]["scored"] == 3


@pytest.mark.parametrize("name", ["first", "asha", "asha-stop", "median", "none", "few"])
def test_every_scheduler_ends_with_all_trials(searches, name):
    assert (searches[name]["scored"], searches[name]["failed"]) == (3, 0)
    assert len({lr for lr, _, _ in searches[name]["records"]}) == 3


def test_hyperband_ends_also_where_a_trial_diverges_that_others_wait_for(searches):
    assert (searches["hyperband"]["scored"], searches["hyperband"]["failed"]) == (14, 0)
    ends = sorted(epochs[-1] for epochs in searches["hyperband"]["epochs"].values())
    assert ends == [2] * 3 + [3] + [4] * 2 + [8] * 8


def test_a_population_copies_checkpoints_and_ends_with_the_copied_history(searches):
    assert (searches["pbt"]["scored"], searches["pbt"]["failed"]) == (4, 0)
    folder = Path(searches["pbt"]["folder"])
    assert not list(folder.glob("*/clone"))
    assert len((folder / "pbt_global.txt").read_text().splitlines()) < 12  # no trial takes over for ever
    for trial in folder.glob("0*"):
        newest = max(trial.glob("checkpoint_*"))
        record = json.loads((newest / "trial.json").read_text())
        assert [epoch["epoch"] for epoch in record["epochs"]] == [1, 2, 3, 4]
        config = json.loads((trial / "params.json").read_text())
        assert config["lr"] == record["config"]["lr"]
        assert 1e-3 <= config["lr"] <= 1e-2


class Recorded:
    """Curves of trials that ran, by their learning rate."""

    def __init__(self, curves: dict[float, list[float]]) -> None:
        self.curves = curves

    def of(self, config):
        return Curve(self.curves[config["lr"]], cost=1.0)


def test_ray_and_the_replay_decide_alike(searches):
    folder = Path(searches["freeze-thaw"]["folder"])
    in_ray, replayed = DecisionLog(folder).read_new(), []
    curves: dict[float, list[float]] = {}
    for record in read_records(folder):
        curves.setdefault(record["config"]["lr"], []).append(record[metrics.SCORE])
    method = Ours(make_engine(read_experiment(folder), note=replayed.append))
    Clock(method, Recorded(curves), slots=1).run(budget=math.inf)
    assert sum(decision.expected_improvement is not None for decision in in_ray) > 3
    names = {}
    for decision in in_ray:
        names.setdefault(decision.trial, f"{len(names):05d}")
    in_ray = [decision._replace(trial=names[decision.trial]) for decision in in_ray]
    last = next(index for index, each in enumerate(in_ray) if each.reason == SEARCH_OVER)
    assert in_ray[:last] == replayed
    assert {each.reason for each in in_ray[last:]} == {SEARCH_OVER}


def test_without_early_stopping_every_trial_has_its_full_length(searches):
    assert len(searches["none"]["records"]) == 3 * 2


def test_one_seed_gives_one_search_on_one_slot(searches):
    assert searches["first"]["records"] == searches["second"]["records"]


def test_trials_are_named_by_the_order_of_their_proposal():
    trial = SimpleNamespace(experiment_tag="12_arch=swin_tiny,lr=0.1", config={"arch": "swin_tiny"})
    assert trial_name(trial) == "0012-swin_tiny"
