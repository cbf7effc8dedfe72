"""Whether W&B and MLflow are used, and how; and a W&B that refuses the key, breaks or isn't there."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from types import SimpleNamespace

import psutil
import pytest
from ray.air.integrations.wandb import _QueueItem

from trainable.errors import UsageError
from tuning.tracking import (
    api_key_is_configured,
    check_mlflow,
    choose_wandb_mode,
    mlflow_callback,
    wandb_callback,
    wandb_refusal,
)


@pytest.fixture(autouse=True)
def no_key(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return tmp_path / "netrc"


def test_without_a_key_wandb_is_off_unless_asked_for():
    assert choose_wandb_mode(None) == "off"
    assert choose_wandb_mode("offline") == "offline"


def test_online_without_a_key_says_what_to_do():
    with pytest.raises(UsageError, match="wandb login"):
        choose_wandb_mode("online")


def test_a_key_in_the_environment_means_online(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert choose_wandb_mode(None) == "online"
    assert choose_wandb_mode("off") == "off"


def test_a_key_left_by_wandb_login_is_found(no_key):
    assert not api_key_is_configured()
    no_key.write_text("machine api.wandb.ai\n  login user\n  password secret\n")
    assert api_key_is_configured()


def test_the_callback_groups_by_experiment_and_can_go_on(make_plan, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    callback = wandb_callback(make_plan(wandb="offline"), print)
    assert callback.group == "test"
    assert callback.kwargs["resume"] == "allow"
    assert "train_loss" not in callback.excludes


class Answer(BaseHTTPRequestHandler):
    """To who asks for the user, as its server says; 401 to all else, at once, as a server does that took a key back."""

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        code, answer = self.server.answer if b"Viewer" in text else (401, "no")
        body = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing to stderr."""


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        ((200, {"data": {"viewer": {"id": "ann"}}}), None),
        ((200, {"data": {"viewer": None}}), "refuses the API key"),
        ((401, {}), "refuses the API key"),
        ((500, {}), "answers HTTP 500"),
        ((200, "hello"), "doesn't answer as W&B does"),
    ],
)
def test_the_server_is_asked_whether_it_takes_the_key(server, answer, refusal, monkeypatch):
    server.answer = answer
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("WANDB_BASE_URL", url)
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert wandb_refusal() == (f"{url} {refusal}" if refusal else None)


SEARCHES = """
import json
import os
import sys
import time
from pathlib import Path
import ray
from ray.tune import Trainable
from rich.console import Console
from search_spaces import Float, Space
from trainable import metrics
from tuning.plan import SearchPlan
from tuning.resources import Slots
from tuning.search import run_search
from tuning.storage import create_experiment

output, working, closed = sys.argv[1:]
os.environ["WANDB_BASE_URL"] = working
os.environ["WANDB_API_KEY"] = "x" * 40
os.environ.pop("WANDB_MODE", None)
ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

class Epochs(Trainable):
    def setup(self, config):
        self.config, self.epoch = config, 0

    def reset_config(self, config):
        self.setup(config)
        return True

    def step(self):
        self.epoch += 1
        time.sleep(0.5)
        record = {metrics.STEP: self.epoch, metrics.EPOCH: self.epoch}
        record |= {metrics.SCORE: 0.1 * self.epoch, metrics.TRAIN_LOSS: 1.0}
        record |= {metrics.SELECT_LOSS: 2.0, metrics.IMAGES_PER_SECOND: 50.0}
        return record | {"done": self.epoch == self.config["epochs"]}

    def save_checkpoint(self, folder):
        Path(folder, "epoch").write_text(str(self.epoch))

    def load_checkpoint(self, folder):
        self.epoch = int(Path(folder, "epoch").read_text())

def search(name, url):
    os.environ["WANDB_BASE_URL"] = url
    space = Space(name="tiny", dimensions=(Float(name="lr", low=1e-3, high=1e-2, log=True),), fixed={"arch": "vit"})
    plan = SearchPlan(space=space, trial={}, trials=2, epochs=2, name=name, output=Path(output), wandb="online",
                      scheduler="asha")
    create_experiment(plan, {"dataset": "none"})
    with open(Path(output, name + ".txt"), "w") as file:
        started = time.monotonic()
        run_search(plan, Slots(2, 1, 0, "two"), 4, "none", Console(file=file, width=500), False, trainable=Epochs)
        return time.monotonic() - started

print(json.dumps({"taken-back": search("taken-back", working), "closed": search("closed", closed)}))
"""


@pytest.fixture(scope="module")
def searches(server, tmp_path_factory):
    """Two searches online: W&B takes the key and then no run; and nobody listens there. Seconds, and their folder."""
    server.answer = (200, {"data": {"viewer": {"id": "ann"}}})
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as other:
        closed = other.server_port
    folder = tmp_path_factory.mktemp("runs")
    urls = [f"http://127.0.0.1:{port}" for port in (server.server_port, closed)]
    command = [sys.executable, "-c", SEARCHES, str(folder), *urls]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout.splitlines()[-1]), folder


@pytest.mark.parametrize(
    ("name", "told"),
    [("taken-back", "W&B didn't take all runs"), ("closed", "doesn't answer as W&B does): runs are kept")],
)
def test_a_search_goes_on_without_wandb_and_keeps_its_runs_for_later(searches, name, told):
    seconds, output = searches
    folder = output / name
    said = (output / f"{name}.txt").read_text()
    assert told in said
    assert f"wandb sync {folder}/wandb/" in said
    records = [line for path in folder.glob("0*/result.json") for line in path.read_text().splitlines()]
    assert len(records) >= 3
    ids = {json.loads(line)["trial_id"] for line in records}
    kept = {path.name.rpartition("-run-")[2].partition("-")[2]: path for path in folder.glob("wandb/offline-run-*")}
    assert kept.keys() == ids
    for key, path in kept.items():
        assert (path / f"run-{key}.wandb").stat().st_size > 1000
    assert seconds[name] < 120


def wandb_services() -> list[psutil.Process]:
    """The processes of wandb that this one has started."""
    return [each for each in psutil.Process().children(recursive=True) if each.name().startswith("wandb-core")]


@pytest.mark.filterwarnings("ignore")  # wandb's own
def test_the_process_of_a_run_ends_only_when_the_runs_file_is_whole(make_plan, monkeypatch, tmp_path):
    """`wandb.finish` returns before the file's end is written, and Ray kills the process when `run` returns."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_START_METHOD", "thread")  # as the process sets it, so that it is taken back
    monkeypatch.chdir(tmp_path)
    callback = wandb_callback(make_plan(wandb="offline"), print)
    options = callback.kwargs | {"id": "a", "project": "images", "dir": str(tmp_path)}
    queue = Queue()
    for step in (1, 2):
        queue.put((_QueueItem.RESULT, {"training_iteration": step, "select_top1": 0.1 * step}))
    queue.put((_QueueItem.END, None))
    callback._logger_actor_cls(str(tmp_path), queue, callback.excludes, [], **options).run()
    assert not wandb_services()
    (file,) = tmp_path.glob("wandb/offline-run-*/run-a.wandb")
    assert b"select_top1" in file.read_bytes()


def test_mlflow_that_is_not_there_is_told_with_what_to_do(monkeypatch):
    monkeypatch.setattr("tuning.tracking.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"--mlflow: mlflow isn't installed; pip install -e '.\[mlflow\]'"):
        check_mlflow("runs/mlflow")


def test_an_mlflow_address_with_a_password_is_refused_without_repeating_it():
    with pytest.raises(UsageError, match=r"--mlflow: leave the password out.*MLFLOW_TRACKING_PASSWORD") as caught:
        check_mlflow("http://ann:secret@tracking:5000")
    assert "secret" not in str(caught.value)


class Trial(SimpleNamespace):
    """What MLflow's callback asks of Ray's trial; hashable, as that is."""

    __hash__ = object.__hash__

    def __str__(self) -> str:
        return self.trial_name


@pytest.mark.filterwarnings("ignore")  # mlflow's own
def test_a_resumed_search_goes_on_in_the_same_runs_of_mlflow(make_plan, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow: pip install -e '.[mlflow]'")
    address = f"sqlite:///{tmp_path}/mlflow.db"
    plan, said = make_plan(mlflow=address), []
    trial = Trial(trial_id="1a2b-0001", trial_name="0001-vit", config={"lr": 0.1})
    for epoch in (1, 2):  # the second in another process
        callback = mlflow_callback(plan, address, said.append)
        callback.setup()
        callback.log_trial_start(trial)
        callback.log_trial_result(0, trial, {"training_iteration": epoch, "select_top1": 0.1 * epoch, "pid": 7})
        callback.log_trial_end(trial)
    client = mlflow.MlflowClient(address)
    (run,) = client.search_runs([client.get_experiment_by_name("test").experiment_id])
    assert (run.info.run_name, run.info.status) == ("0001-vit", "FINISHED")
    assert run.data.params["lr"] == "0.1"
    assert [metric.value for metric in client.get_metric_history(run.info.run_id, "select_top1")] == [0.1, 0.2]
    assert said == []


@pytest.mark.filterwarnings("ignore")
def test_an_mlflow_server_that_is_gone_is_told_once(make_plan, monkeypatch):
    pytest.importorskip("mlflow", reason="needs mlflow: pip install -e '.[mlflow]'")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    callback = mlflow_callback(make_plan(), "http://127.0.0.1:1", (said := []).append)
    trial = Trial(trial_id="1a2b-0001", trial_name="0001-vit", config={"lr": 0.1})
    callback.setup()
    callback.log_trial_start(trial)
    callback.log_trial_result(0, trial, {"training_iteration": 1, "select_top1": 0.1})
    callback.log_trial_end(trial)
    assert len(said) == 1
    assert "the search goes on without" in said[0]
