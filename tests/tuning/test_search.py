"""What runs on Ray: joining a cluster, fractions of (logical) GPUs, and which weights stay."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from trainable import metrics
from tuning.search import WeightKeeper, trial_name

JOIN_A_CLUSTER_WITH_A_LOGICAL_GPU = """
import json, sys
from pathlib import Path
import ray
import tuning.search
from rich.console import Console
from search_spaces import Choice, Float, Space
from tuning.plan import SearchPlan
from tuning.search import gpu_slots, prepare_data, run_search
from tuning.storage import create_experiment

data, output = sys.argv[1:]
space = Space(
    name="tiny",
    dimensions=(Choice(name="arch", values=("test_vit",)), Float(name="lr", low=1e-3, high=1e-2, log=True)),
    fixed={"batch_size": 32},
)
plan = SearchPlan(space=space, trial={"data": data}, trials=3, epochs=2, name="shared", output=Path(output))
create_experiment(plan, prepare_data(plan, progress=False))
ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
tuning.search.measure_peak_bytes = lambda configurations: (6 * 2**30, 16 * 2**30)  # the GPU that isn't here
slots = gpu_slots(plan, "auto", None, None)
outcome = run_search(plan, slots, 100, "none", Console(quiet=True), resumed=False)
print(json.dumps({"slots": slots._asdict(), "ended": outcome.ended, "failed": outcome.failed}))
"""


def test_two_trials_share_a_logical_gpu_as_the_measured_memory_allows(tmp_path, colour_folder):
    arguments = [sys.executable, "-c", JOIN_A_CLUSTER_WITH_A_LOGICAL_GPU, str(colour_folder), str(tmp_path)]
    answer = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=200)
    assert answer.returncode == 0, answer.stderr
    assert '"concurrent": 2, "cpus_per_trial": 1' in answer.stdout
    assert '"gpus_per_trial": 0.5' in answer.stdout
    assert '"ended": 3, "failed": 0' in answer.stdout


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
