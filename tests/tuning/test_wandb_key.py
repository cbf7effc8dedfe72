"""The key of Weights & Biases reaches Ray's processes, and the dashboard doesn't show it."""

import json
import os
import stat
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tuning.wandb_key import leave_key, take_key, without_key

KEY = "0123456789" * 4
SENT = b64encode(f"api:{KEY}".encode()).decode()
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_its_file_is_its_owners_alone():
    file = leave_key()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with without_key():
        assert "WANDB_API_KEY" not in os.environ
        assert leave_key() is None
        take_key(file)
        assert os.environ["WANDB_API_KEY"] == KEY
    assert os.environ["WANDB_API_KEY"] == KEY


RUN = """
import json, os, sys, tempfile
from pathlib import Path
import ray
from ray.util.state import list_actors, list_runtime_envs, list_workers
from search_spaces import Float, Space
from tuning.plan import SearchPlan
from tuning.tracking import wandb_callback

key, folder, requests = os.environ.pop("WANDB_API_KEY"), Path(sys.argv[1]), Path(sys.argv[2])
context = ray.init("local", num_cpus=1, include_dashboard=True, log_to_driver=False, logging_level="ERROR")
dashboard = f"http://{context.dashboard_url}"
tempfile.tempdir = sys.argv[3]
os.environ["WANDB_API_KEY"] = key  # after Ray's start, as where a cluster runs already

class Trial:
    config, trial_id, local_path, experiment_dir_name = {"lr": 0.1}, "a", str(folder), "runs"

space = Space(name="tiny", dimensions=(Float(name="lr", low=1e-3, high=1e-2, log=True),), fixed={"arch": "vit"})
plan = SearchPlan(space=space, trial={}, trials=1, epochs=1, name="runs", output=folder, wandb="online")
callback, trial = wandb_callback(plan, print), Trial()
callback.setup()
callback.log_trial_start(trial)
while not requests.exists():
    ray.wait(list(callback._trial_logging_futures.values()), timeout=0.2)
shown = [each for ask in (list_actors, list_runtime_envs, list_workers) for each in ask(dashboard, detail=True)]
print(json.dumps({"shown": repr(shown), "left": os.environ["WANDB_API_KEY"] == key}))
callback.on_experiment_end([trial])
"""


class Wandb(BaseHTTPRequestHandler):
    """Stands for W&B's server, which isn't to be had here: takes the key, and then no run."""

    file: Path

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        is_question = b"query Viewer { viewer { id } }" in content
        if not is_question and self.headers.get("Authorization") == f"Basic {SENT}":
            self.file.touch()
        body = json.dumps({"data": {"viewer": {"id": "ann"}}}).encode()
        self.send_response(200 if is_question else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing to stderr."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    Wandb.file = tmp_path / "key-came"
    with ThreadingHTTPServer(("127.0.0.1", 0), Wandb) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.timeout(240)
def test_it_reaches_the_process_of_a_run_and_is_not_shown(server: str, tmp_path: Path):
    keys = tmp_path / "keys"
    keys.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "WANDB_MODE"))}
    settings = {"WANDB_BASE_URL": server, "NETRC": str(tmp_path / "none"), "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", RUN, str(tmp_path), str(Wandb.file), str(keys)]
    environment = kept | settings
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    told = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert told["left"], "the search itself keeps it"
    assert "TrialRun" in told["shown"]
    assert KEY not in told["shown"]
    assert not list(keys.glob("wandb-key-*")), "it goes with the search"
