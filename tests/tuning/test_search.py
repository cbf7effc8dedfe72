"""What runs on Ray: joining a cluster, fractions of (logical) GPUs, and which weights stay."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from trainable import metrics
from tuning.search import WeightKeeper, trial_name

SEVERAL_SEARCHES_ON_ONE_RAY = """
import json, sys
from pathlib import Path
import ray
import tuning.search
from rich.console import Console
from search_spaces import Choice, Float, Space
from tuning.plan import SearchPlan
from tuning.resources import Slots
from tuning.search import gpu_slots, prepare_data, run_search
from tuning.storage import create_experiment, read_records

data, output = sys.argv[1:]
space = Space(
    name="tiny",
    dimensions=(Choice(name="arch", values=("test_vit",)), Float(name="lr", low=1e-3, high=1e-2, log=True)),
    fixed={"batch_size": 32},
)
ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
tuning.search.measure_peak_bytes = lambda configurations: (6 * 2**30, 16 * 2**30)  # the GPU that isn't here

def search(name, slots=None, **changes):
    plan = SearchPlan(
        space=space, trial={"data": data}, trials=3, epochs=2, seed=5, name=name, output=Path(output), **changes
    )
    create_experiment(plan, prepare_data(plan, progress=False))
    slots = slots or gpu_slots(plan, "auto", None, None)
    outcome = run_search(plan, slots, 100, "none", Console(quiet=True), resumed=False)
    records = sorted((r["config"]["lr"], r["epoch"], r["train_loss"]) for r in read_records(plan.folder))
    return {"slots": slots._asdict(), "ended": outcome.ended, "failed": outcome.failed, "records": records}

one = Slots(1, 1, 0, "one")
print(json.dumps({
    "gpu": search("gpu"),
    "first": search("first", one),
    "second": search("second", one),
    **{name: search(name, one, scheduler=name) for name in ("asha-stop", "median", "none")},
}))
"""


@pytest.fixture(scope="module")
def searches(tmp_path_factory, colour_folder) -> dict:
    """Six searches of three trials, by what is special about them; one Ray for all, since its start takes longer."""
    arguments = [sys.executable, "-c", SEVERAL_SEARCHES_ON_ONE_RAY, colour_folder, tmp_path_factory.mktemp("runs")]
    answer = subprocess.run([*map(str, arguments)], capture_output=True, text=True, check=False, timeout=280)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout.splitlines()[-1])


def test_two_trials_share_a_logical_gpu_as_the_measured_memory_allows(searches):
    slots = searches["gpu"]["slots"]
    assert (slots["concurrent"], slots["cpus_per_trial"], slots["gpus_per_trial"]) == (2, 1, 0.5)
    assert searches["gpu"]["ended"] == 3


@pytest.mark.parametrize("name", ["first", "asha-stop", "median", "none"])
def test_every_scheduler_ends_with_all_trials(searches, name):
    assert (searches[name]["ended"], searches[name]["failed"]) == (3, 0)
    assert len({lr for lr, _, _ in searches[name]["records"]}) == 3


def test_without_early_stopping_every_trial_has_its_full_length(searches):
    assert len(searches["none"]["records"]) == 3 * 2


def test_one_seed_gives_one_search_on_one_slot(searches):
    assert searches["first"]["records"] == searches["second"]["records"]


def ended(tmp_path: Path, number: int, top1: float, arch: str = "swin_tiny") -> SimpleNamespace:
    folder = tmp_path / f"{number:04}-{arch}" / "checkpoint_000000"
    folder.mkdir(parents=True)
    for name in ("model.safetensors", "state.pt", "predictions.npz", "trial.json"):
        (folder / name).write_text("x")
    return SimpleNamespace(
        trial_id=str(number),
        status="TERMINATED",
        path=str(folder.parent),
        config={"arch": arch},
        last_result={metrics.BEST_TOP1: top1},
    )


def test_only_the_best_ended_trials_keep_their_weights(tmp_path):
    trials = [ended(tmp_path, 1, 0.5), ended(tmp_path, 2, 0.9), ended(tmp_path, 3, 0.7), ended(tmp_path, 4, 0.1, "vit")]
    running = ended(tmp_path, 5, 0.0)
    running.status = "RUNNING"
    WeightKeeper(2).on_trial_complete(0, [*trials, running], trials[-1])
    with_weights = {path.parent.parent.name[:4] for path in tmp_path.rglob("model.safetensors")}
    assert with_weights == {"0002", "0003", "0004", "0005"}
    assert len(list(tmp_path.rglob("predictions.npz"))) == 5


def test_trials_are_named_by_the_order_of_their_proposal():
    trial = SimpleNamespace(experiment_tag="12_arch=swin_tiny,lr=0.1", config={"arch": "swin_tiny"})
    assert trial_name(trial) == "0012-swin_tiny"
