"""docker/entrypoint.sh: what each word runs, by commands that record their arguments, and for real where it works."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENTRYPOINT = ROOT / "docker/entrypoint.sh"


@pytest.fixture
def start(tools, tmp_path):
    """Run the entrypoint with the tools alone on its PATH."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(tools / "bash"), str(ENTRYPOINT), *arguments],
            env={"PATH": str(tools), "TMPDIR": str(tmp_path), **environment},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], ["-m", "tuning.run"]),
        (
            ["--space", "all", "--set", "lr=1e-4:1e-2:log"],
            ["-m", "tuning.run", "--space", "all", "--set", "lr=1e-4:1e-2:log"],
        ),
        (["run", "--dry-run"], ["-m", "tuning.run", "--dry-run"]),
        (["jobs", "submit", "--", "--space", "all"], ["-m", "tuning.jobs", "submit", "--", "--space", "all"]),
        (["train", "--epochs", "2"], ["-m", "trainable.train", "--epochs", "2"]),
        (["predict", "a folder", "*.jpg"], ["-m", "analysis.predict", "a folder", "*.jpg"]),
        (["serve", "e"], ["-m", "analysis.serve", "--host", "127.0.0.1", "e"]),
        (["trainable.data.download"], ["-m", "trainable.data.download"]),
    ],
)
def test_a_word_runs_its_module(start, stub, given, expected):
    asked = stub("python")
    assert start(*given).returncode == 0
    assert asked() == expected


def test_head_and_worker_start_ray(start, stub):
    asked = stub("ray")
    start("head", "--num-cpus", "0", DASHBOARD_HOST="0.0.0.0")
    assert asked()[:3] == ["start", "--head", "--block"]
    assert asked()[asked().index("--dashboard-host") + 1] == "0.0.0.0"
    assert asked()[-2:] == ["--num-cpus", "0"]
    start("worker", "head:6379", "--num-gpus", "0")
    assert asked()[asked().index("--address") + 1] == "head:6379"
    assert "--head" not in asked()
    assert asked()[-2:] == ["--num-gpus", "0"]


@pytest.mark.parametrize("given", [["worker"], ["worker", "--num-cpus", "2"]])
def test_a_worker_needs_an_address(start, stub, given):
    stub("ray")
    answer = start(*given)
    assert answer.returncode == 2
    assert "worker HOST:6379" in answer.stderr


def test_an_empty_token_is_told_of_before_ray_starts(start, stub, tmp_path):
    stub("ray")
    token = tmp_path / "token"
    token.write_text("")
    answer = start("head", RAY_AUTH_TOKEN_PATH=str(token))
    assert answer.returncode == 2
    assert f"{token} holds no token" in answer.stderr
    token.write_text("secret")
    assert start("head", RAY_AUTH_TOKEN_PATH=str(token)).returncode == 0


def test_anything_else_is_run_as_it_is(start):
    answer = start("bash", "-c", 'echo "$1"; exit 3', "-", "two  words")
    assert answer.stdout == "two  words\n"
    assert answer.returncode == 3


def test_help_names_the_words(start):
    answer = start("help")
    assert answer.returncode == 0
    for word in ("head", "worker ADDRESS", "serve", "health"):
        assert word in answer.stdout


def test_a_command_without_a_port_is_healthy(start):
    assert start("health").returncode == 0


class Answers(BaseHTTPRequestHandler):
    """/healthz answers with the server's `code`."""

    code = 200

    def do_GET(self) -> None:
        self.send_response(self.code if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.mark.parametrize("form", ["--port {}", "--port={}"])
def test_health_asks_the_server_that_was_started(start, stub, tools, form):
    wget = Path("/usr/bin/wget")
    if not wget.exists():
        pytest.skip("wget isn't installed")
    (tools / "wget").symlink_to(wget)
    stub("python")
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        start("serve", "ensemble", *form.format(server.server_port).split())
        assert start("health").returncode == 0
        server.RequestHandlerClass = type("Broken", (Answers,), {"code": 503})
        assert start("health").returncode != 0
        server.shutdown()
        thread.join()
    assert start("health").returncode != 0, "nobody answers any more"


@pytest.mark.parametrize("given", [["--help"], ["predict", "--help"], ["--space", "resnet", "--dry-run"]])
def test_our_commands_run_through_it(given, tmp_path):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    answer = subprocess.run(
        ["bash", str(ENTRYPOINT), *given],
        env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip()
