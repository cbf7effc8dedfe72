"""What Prometheus and Ray's dashboard get to see of a search, read from a running Ray; and the Grafana dashboard."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

DOCKER = Path(__file__).parents[2] / "docker"
DASHBOARD = DOCKER / "grafana" / "dashboards" / "search.json"
TAGS = ("state", "part", "trial", "budget")

ONE_WATCHED_SEARCH = """
import json
import sys
import threading
import time
from pathlib import Path
import psutil
import ray
import requests
import tuning.monitoring
from ray.util.state import list_actors
from rich.console import Console
from search_spaces import Choice, Float, Space
from trainable import metrics
from trainable.trial import Trial
from tuning.plan import SearchPlan
from tuning.resources import Slots
from tuning.search import run_search
from tuning.storage import create_experiment

output = sys.argv[1]
tuning.monitoring.EXPORT_EVERY_S = 0.2
settings = {"metrics_report_interval_ms": 1000}
ray.init("local", num_cpus=2, include_dashboard=True, dashboard_port=0, log_to_driver=False, logging_level="ERROR",
         _system_config=settings)

class Epochs:
    "Takes the place of a training: an epoch is half a second."

    def __init__(self, config):
        self.config, self.epoch = config, 0

    @property
    def done(self):
        return self.epoch == self.config["epochs"]

    def run_step(self):
        self.epoch += 1
        time.sleep(0.5)
        record = {metrics.STEP: self.epoch, metrics.EPOCH: self.epoch}
        record |= {metrics.SCORE: 0.1 * self.epoch, metrics.TRAIN_LOSS: 1.0}
        times = {metrics.SECONDS_TRAIN: 0.3, metrics.SECONDS_EVAL: 0.2, metrics.SECONDS_CHECKPOINT: 0.0}
        return record | times | {metrics.SELECT_LOSS: 2.0, metrics.IMAGES_PER_SECOND: 50.0, metrics.DIVERGED: False}

class Quick(Trial):
    def setup(self, config):
        self._saved_at, self.training = time.perf_counter(), Epochs(config)

    def snapshot(self):
        epoch = self.training.epoch
        return lambda folder: Path(folder, "epoch").write_text(str(epoch))

    def load_checkpoint(self, folder):
        self.training.epoch = int(Path(folder, "epoch").read_text())

    def cleanup(self):
        pass

texts, titles, over = [], set(), threading.Event()
address = f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics"

def title(process):
    try:
        return (process.cmdline() or [""])[0]
    except psutil.Error:
        return ""

def watch():
    while not over.wait(0.5):
        texts.append(requests.get(address, timeout=10).text)
        titles.update(title(process) for process in psutil.process_iter())

watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
space = Space(name="tiny", dimensions=(Float(name="lr", low=1e-3, high=1e-2, log=True),), fixed={"arch": "test_vit"})
plan = SearchPlan(space=space, trial={}, trials=6, epochs=4, epoch_budget=24, name="watched", output=Path(output),
                  scheduler="none", sampler="random")
create_experiment(plan, {"dataset": "none"})
run_search(plan, Slots(2, 1, 0, "two"), 24, "none", Console(quiet=True), resumed=False, trainable=Quick)
actors = [actor.repr_name for actor in list_actors(ray.get_runtime_context().gcs_address, detail=True)]
patience = time.monotonic() + 60  # Ray drops a gauge 20 s after it was last set
while "search_trial_top1{" in texts[-1] and time.monotonic() < patience:
    time.sleep(0.5)
over.set()
watcher.join()
print(json.dumps({"texts": texts, "actors": actors, "titles": [each for each in titles if each.startswith("ray::0")]}))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> dict:
    """What Ray served twice a second while a search of 6 trials of 4 epochs ran on two slots, and just after."""
    arguments = [sys.executable, "-c", ONE_WATCHED_SEARCH, str(tmp_path_factory.mktemp("runs"))]
    answer = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=200)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout.splitlines()[-1])


def read(text: str) -> dict[tuple[str, str], float]:
    """(name, what tells the series from others) -> value, of the series of the search."""
    values = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.labels.get("experiment") == "watched":
                tag = next(
                    (sample.labels[key] for key in ("state", "part", "trial", "budget") if key in sample.labels), ""
                )
                values[sample.name.removeprefix("ray_search_"), tag] = sample.value
    return values


def test_the_figures_of_a_search_are_served_by_ray(seen):
    last = {key: value for text in seen["texts"] for key, value in read(text).items()}
    assert last["trials", "finished"] == 6
    assert {last["trials", state] for state in ("running", "pending", "paused", "failed")} == {0}
    assert (last["slots", ""], last["slots_busy", ""]) == (2, 0)
    assert last["epochs_total", ""] == 24
    assert last["best_top1", ""] == pytest.approx(0.4)
    assert last["budget_spent", "epochs"] == 1
    parts = {part: last["slot_seconds_total", part] for part in ("train", "eval", "waiting")}
    assert parts["train"] == pytest.approx(7.2)
    assert parts["eval"] == pytest.approx(4.8)
    assert parts["waiting"] > 0
    assert last["result_lag_seconds_count", ""] == 24
    assert 0 <= last["result_lag_seconds_sum", ""] < 24 * 10
    middle = [read(text) for text in seen["texts"]]
    assert any(each.get(("slots_busy", "")) == 2 for each in middle)
    assert any(each.get(("images_per_second", "")) == 100 for each in middle)


def test_a_trials_series_end_with_it(seen):
    trials = [{tag for name, tag in read(text) if name in ("trial_top1", "trial_loss")} for text in seen["texts"]]
    assert set.union(*trials) == {f"{number:04}-test_vit" for number in range(1, 7)}
    assert trials[-1] == set()


def test_ray_names_processes_by_their_trials(seen):
    assert {"0001-test_vit and later", "0002-test_vit and later"} <= set(seen["actors"])
    later = {f"ray::{number:04}-test_vit" for number in range(3, 7)}
    assert later & set(seen["titles"])  # of a process that has had others before


def expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_every_metric_of_the_grafana_dashboard_is_one_that_is_served(seen):
    from ray.dashboard.modules.metrics.dashboards.default_dashboard_panels import default_dashboard_config

    served = set()
    for text in seen["texts"]:
        served |= {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    asked = {name for expression in expressions() for name in re.findall(r"\bray_\w+", expression)}
    assert {name for name in asked if name.startswith("ray_search_")} <= served
    rays = repr(default_dashboard_config)  # without a GPU, its metrics aren't served
    assert {name for name in asked - served if name not in rays} == set()
    assert {name for name in asked - served if "gpu" not in name and "gram" not in name} == set()
    everything = {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in served}
    assert {name for name in everything if name.startswith("ray_search_")} == {
        name.removesuffix("_bucket") for name in asked if name.startswith("ray_search_")
    }


def test_the_grafana_dashboard_can_be_provisioned():
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["uid"] == "tune-to-ensemble"
    assert "id" not in dashboard  # it is the database's, which provisioning fills
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels]
    assert len(set(places)) == len(places)
    for panel in panels:
        assert {"title", "type", "datasource", "gridPos", "fieldConfig", "targets"} <= panel.keys()
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert panel["datasource"]["uid"] == "${datasource}"
    variables = {each["name"] for each in dashboard["templating"]["list"]}
    used = {name for text in expressions() for name in re.findall(r"\$\{?([a-zA-Z]\w*)", text)}
    assert used <= variables | {"__rate_interval"}
