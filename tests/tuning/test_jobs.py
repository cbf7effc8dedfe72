"""Searches as jobs of one real Ray head, kept in a real S3 server; each command is a process, as it is by hand."""

import csv
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import requests

from trainable.address import open_place
from trainable.errors import UsageError, UserError
from tuning import jobs_cluster, jobs_logs
from tuning.jobs_arguments import check_new, check_resumed
from tuning.jobs_cluster import USUAL_ADDRESS, Job, cluster_address, connect, find_job, minor
from tuning.jobs_logs import Log
from tuning.jobs_package import KEY_FILE, WandbKey, environment, find_wandb_key, packaged
from tuning.jobs_results import fetch_experiment, open_experiment

KEY = "0123456789" * 4
TOKEN = "ab" * 24
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.timeout(900)  # the first test waits for a head and two searches


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Cluster(NamedTuple):
    """A head of our own, and the commands of tuning.jobs from a folder without anything."""

    address: str
    env: dict[str, str]
    session: Path
    """Where Ray keeps logs and the folders of jobs."""
    folder: Path
    storage: str
    """Address of the experiments."""

    def start(self, *arguments: object, **env: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tuning.jobs", *map(str, arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=self.env | env, cwd=self.folder, stdout=pipe, stderr=pipe, text=True
        )  # fmt: skip

    def jobs(self, *arguments: object, code: int = 0, **env: str) -> str:
        """What the command prints; its exit code is checked."""
        process = self.start(*arguments, **env)
        out, err = process.communicate(timeout=200)
        assert process.returncode == code, out + err
        return out + err

    def get(self, path: str) -> str:
        return requests.get(self.address + path, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30).text

    def status(self, job: str) -> str:
        return json.loads(self.get(f"/api/jobs/{job}"))["status"]


def wait_for(condition: Callable[[], Any], seconds: float = 300) -> Any:
    """What the condition gives once it is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.3)
    return value


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, s3) -> Iterator[Cluster]:
    """Ray's head with its dashboard and token, S3 beside it: all on 127.0.0.1, at free ports."""
    address = f"http://127.0.0.1:{free_port()}"
    folder = tmp_path_factory.mktemp("elsewhere")
    code = str(Path(__file__).parents[2])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "WANDB_"))}
    env = kept | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),  # neither a token nor a netrc of the user's
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="ray-") as session:
        options = {
            "port": 0, "node-ip-address": "127.0.0.1", "dashboard-host": "127.0.0.1", "num-cpus": 4,
            "dashboard-port": address.rpartition(":")[2], "dashboard-agent-listen-port": 0, "temp-dir": session,
            "ray-client-server-port": free_port(),  # it would end with another head's on the usual port
        }  # fmt: skip
        command = [BIN / "ray", "start", "--head", "--block", "--disable-usage-stats"]
        command += [f"--{name}={value}" for name, value in options.items()]
        head = start_head(command, env, folder / "head.log")
        env |= {"RAY_ADDRESS": address, "PYTHONPATH": code}
        there = Cluster(address, env, Path(session), folder, f"{s3.make_bucket()}/runs")
        try:
            yield there
        finally:
            head.send_signal(signal.SIGTERM)  # ends all that it has started
            head.wait(timeout=60)


def start_head(command: list[object], env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """A head that runs; Ray gives up where a busy machine takes more than 30 s."""
    for _ in range(3):
        with log.open("w") as file:
            head = subprocess.Popen(list(map(str, command)), env=env, stdout=file, stderr=file)
        wait_for(lambda: "Ray runtime started" in log.read_text() or head.poll() is not None)  # noqa: B023
        if head.poll() is None:
            return head
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def search(tmp_path_factory, tiny_space, colour_folder) -> list[object]:
    """Options of a small search."""
    space = tmp_path_factory.mktemp("space") / "tiny.toml"
    space.write_text(tiny_space)
    return ["--", "--space", space, "--data", colour_folder, "--concurrent", 1, "--sampler", "random"]


class Wandb(BaseHTTPRequestHandler):
    """Stands for the server of Weights & Biases, which isn't to be had here: takes no key, but remembers it."""

    seen: list[str]

    def do_POST(self) -> None:
        self.seen.append(self.headers.get("Authorization", ""))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST  # noqa: N815

    def log_message(self, *_: object) -> None: ...


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address at which the handler answers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def wandb() -> Iterator[str]:
    """Address of a server that refuses every key."""
    Wandb.seen = []
    with serving(Wandb) as address:
        yield address


@pytest.fixture(scope="module")
def two_jobs(cluster, search, wandb) -> dict[str, str]:
    """A long search that was stopped after an epoch, and a short one, with a key, that ran beside it; what was said."""
    said = {}
    long = [*search, "--trials", 20, "--epochs", 20, "--wandb", "off"]
    short = [*search, "--trials", 1, "--epochs", 2, "--wandb-project", "mine"]
    both = [
        cluster.start("submit", "--storage", cluster.storage, "--name", "long", *long),
        cluster.start(
            "submit", "--storage", cluster.storage, "--name", "short", *short, WANDB_API_KEY=KEY, WANDB_BASE_URL=wandb
        ),
    ]
    said["submitted"] = "".join(out + err for out, err in (process.communicate(timeout=120) for process in both))
    assert [process.returncode for process in both] == [0, 0], said["submitted"]
    said["modes"] = wait_for(lambda: [oct(stat.S_IMODE(path.stat().st_mode)) for path in key_files(cluster)])
    said["list"] = cluster.jobs("list")
    follower = cluster.start("logs", "long", "-f")
    for line in follower.stdout or []:
        if "epoch 1/20" in line:
            break
    follower.send_signal(signal.SIGINT)
    said["left"] = follower.communicate(timeout=30)[1]
    said["left code"] = str(follower.returncode)
    said["resumed too early"] = cluster.jobs("resume", "long", code=1)
    said["status"] = wait_for(lambda: shown if "best" in (shown := cluster.jobs("status", "long")) else "")
    said["stopped"] = cluster.jobs("stop", "long")
    said["log"] = cluster.jobs("logs", "long", code=130)
    wait_for(lambda: cluster.status("short") != "RUNNING")
    assert cluster.status("short") == "SUCCEEDED", cluster.get("/api/jobs/short/logs")
    return said


def key_files(cluster: Cluster) -> list[Path]:
    return list(cluster.session.glob(f"session_2*/runtime_resources/working_dir_files/*/{KEY_FILE}"))


@pytest.fixture(scope="module")
def resumed(cluster, two_jobs) -> str:
    """What is said while the stopped search goes on to its end."""
    return cluster.jobs("resume", "long", "--follow", "--", "--time-budget", "1s")


def test_two_searches_run_at_once_under_their_names(two_jobs, cluster):
    assert f"search   long, kept in {cluster.storage}" in two_jobs["submitted"]
    assert "python -m tuning.jobs logs long -f" in two_jobs["submitted"]
    rows = [line.split() for line in two_jobs["list"].splitlines()]
    assert rows[0] == ["name", "status", "started", "time", "storage"]
    assert {row[0] for row in rows[1:]} == {"long", "short"}
    assert all(row[-1] == cluster.storage for row in rows[1:])


def test_ctrl_c_ends_the_following_and_not_the_job(two_jobs):
    assert two_jobs["left code"] == "130"
    assert "long goes on; stop it by: python -m tuning.jobs stop long" in two_jobs["left"]
    assert re.search(r"long +running", two_jobs["status"])


def test_status_tells_trials_epochs_and_the_best_so_far(two_jobs):
    assert re.search(r"trials +\d+, \d+ epochs together", two_jobs["status"])
    assert re.search(r"best +\d+\.\d% by \d{4}-test_(vit|resnet) at epoch \d+", two_jobs["status"])


def test_stop_ends_the_search_cleanly_and_it_goes_on_to_an_ensemble(two_jobs, resumed, cluster):
    assert "long: stopped; go on with it by: python -m tuning.jobs resume long" in two_jobs["stopped"]
    assert "stopped; go on by: python -m tuning.run --resume long" in two_jobs["log"]  # it had the time to say so
    assert "long: stopped" in two_jobs["log"]
    assert re.search(r"resumed: \d+ trials with \d+ epochs are known", resumed)
    assert "long-2: succeeded" in resumed
    assert re.search(r"long-2 +succeeded", cluster.jobs("status", "long"))


def test_fetch_brings_an_ensemble_home_that_predicts(resumed, cluster, colour_folder, tmp_path):
    said = cluster.jobs("fetch", "long", "--to", tmp_path)
    home = tmp_path / "long"
    assert f"python -m analysis.predict {home}/ensemble IMAGES" in said
    assert (home / "experiment.json").is_file()
    assert (home / "report/index.html").is_file()
    assert list(home.glob("0*/result.json"))
    assert not list(home.glob("0*/checkpoint_*"))
    command = [sys.executable, "-m", "analysis.predict", home / "ensemble", colour_folder / "test", "-o", "out.csv"]
    subprocess.run(command, cwd=tmp_path, env=cluster.env, check=True, timeout=120)
    with (tmp_path / "out.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 4


def test_fetch_all_brings_checkpoints_and_needs_no_cluster(resumed, cluster, tmp_path):
    options = ["fetch", "long", "--all", "--storage", cluster.storage, "--to", tmp_path]
    cluster.jobs(*options, RAY_ADDRESS="http://127.0.0.1:9")
    assert list(tmp_path.glob("long/0*/checkpoint_*/trial.json"))
    (tmp_path / "long/experiment.json").write_text('{"id": "other"}')
    assert "is another experiment" in cluster.jobs(*options, code=1)


def test_the_key_reaches_the_search_and_is_seen_nowhere(two_jobs, cluster):
    facts = open_place(f"{cluster.storage}/short/experiment.json", "").read_text()
    assert json.loads(facts)["plan"]["wandb"] == "online"  # as where a key is configured
    assert any(KEY.encode() in b64decode(header.partition(" ")[2]) for header in Wandb.seen), "its search sends it"
    assert two_jobs["modes"] == ["0o600"]
    assert not key_files(cluster), "the job deletes it at its end"
    pages = ("jobs/", "jobs/short", "jobs/short/logs", "v0/actors?detail=1", "v0/workers?detail=1", "v0/tasks?detail=1")
    for page in (*pages, "v0/runtime_envs?detail=1"):
        text = cluster.get(f"/api/{page}")
        assert "short" in text or "v0" in page
        assert KEY not in text, page
    logs = [path for path in cluster.session.glob("session_2*/logs/**/*") if path.is_file()]
    assert any(path.name == "job-driver-short.log" for path in logs)
    assert [path for path in logs if KEY.encode() in path.read_bytes()] == []


def test_a_job_that_fails_gives_exit_code_1(cluster, search):
    options = [*search[:3], "--data", "/not/there", "--wandb", "off"]
    said = cluster.jobs("submit", "--storage", cluster.storage, "--name", "bad", "--follow", *options, code=1)
    assert "/not/there" in said
    assert "bad: failed with exit code" in said
    assert f"bad: has written nothing to {cluster.storage} yet" in cluster.jobs("fetch", "bad", code=1)


def test_names_that_are_wrong_or_taken_are_told(two_jobs, cluster, search):
    assert "no job of that name; there are long" in cluster.jobs("status", "lonf", code=1)
    taken = cluster.jobs("submit", "--storage", cluster.storage, "--name", "short", *search, code=2)
    assert f"--name short: is in {cluster.storage} already; go on with it by" in taken
    no_bucket = cluster.jobs("submit", "--storage", "s3://nowhere/runs", *search, code=1)
    assert "--storage s3://nowhere/runs: there is no such bucket" in no_bucket


def test_a_wrong_token_a_missing_one_and_no_cluster_are_told(cluster):
    processes = [
        cluster.start("list", RAY_AUTH_TOKEN="cd" * 24),
        cluster.start("list", RAY_AUTH_MODE="disabled"),
        cluster.start("list", "--address", "http://127.0.0.1:9"),
    ]
    said = [process.communicate(timeout=100)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1, 1]
    assert "refuses the token of this machine; put the cluster's into RAY_AUTH_TOKEN" in said[0]
    assert "asks for a token; put the cluster's into RAY_AUTH_TOKEN" in said[1]
    assert "http://127.0.0.1:9: no Ray cluster answers there" in said[2]


class OldCluster(BaseHTTPRequestHandler):
    """Answers as a dashboard of another version: none is installed here."""

    def do_GET(self) -> None:
        ray = {"version": "4", "ray_version": "2.9.3", "ray_commit": "", "session_name": ""}
        facts = {"result": True, "data": {"rayVersion": "2.9.3", "pythonVersion": "3.9.18"}}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(facts if "metadata" in self.path else ray).encode())

    def log_message(self, *_: object) -> None: ...


def test_another_version_of_ray_or_python_is_refused_before_anything_is_sent(cluster, search):
    with serving(OldCluster) as address:
        said = cluster.jobs("submit", "--address", address, "--storage", cluster.storage, *search, code=1)
    assert re.search(r"the cluster has Ray 2.9.3, Python 3.9, this machine Ray [\d.]+, Python 3", said)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--address", "auto"], "--address behind --: the job runs on the cluster that it is submitted to"),
        (["--storage", "s3://b/r"], "--storage behind --: stands before --"),
        (["--name", "x"], "--name behind --: stands before --"),
        (["--resume", "x"], "python -m tuning.jobs resume NAME"),
        (["--output", "x"], "the job's files are kept in --storage"),
        (["--data", "images"], "--data images: the job doesn't run in this folder"),
        (["--space", "nope"], "unknown space"),
        (["--epoch-budget", "3", "--epochs", "10"], "less than one training"),
        (["--search", "freeze-thaw", "--sampler", "tpe"], "proposes and schedules by itself"),
        (["--time-budget", "soon"], "give a duration"),
        (["--gpus-per-trial", "1.5"], "--gpus-per-trial"),
        (["--min-free", "much"], "--min-free much"),
    ],
)
def test_options_behind_the_dashes_are_checked_here(options, what):
    with pytest.raises(UsageError, match=re.escape(what)):
        check_new(options)


def test_an_unknown_option_is_told_with_those_that_are_near():
    from typer.exceptions import TyperException

    with pytest.raises(TyperException, match="spce"):
        check_new(["--spce", "all"])


def test_images_of_the_cluster_have_their_own_usual_lengths():
    check_new(["--data", "/on/all/nodes", "--first-rung", "8"])  # of 30 epochs
    with pytest.raises(UsageError, match="is beyond --epochs 4"):
        check_new(["--first-rung", "8"])  # the digits have 4


def test_a_space_file_goes_along_under_another_path(tmp_path, tiny_space):
    file = tmp_path / "mine.toml"
    file.write_text(tiny_space)
    request = check_new(["--space", str(file), "--wandb", "off"])
    assert request.arguments[-2:] == ["--space", "spaces/mine.toml"]
    assert not request.wandb
    with packaged(request.files, None) as folder:
        assert (folder / "spaces/mine.toml").read_text() == tiny_space


def test_a_resumed_search_keeps_its_plan():
    check_resumed(["--trials", "50", "--time-budget", "1h"])
    with pytest.raises(UsageError, match="--space: a resumed search keeps its plan"):
        check_resumed(["--space", "all"])


def test_the_package_is_the_code_and_no_two_with_a_key_are_equal():
    key = WandbKey("api.wandb.ai", KEY)
    with packaged({}, key) as one, packaged({}, key) as two:
        names = {path.relative_to(one).as_posix() for path in one.rglob("*") if path.is_file()}
        assert {path.partition("/")[0] for path in names} == {
            "analysis", "search_spaces", "trainable", "tuning", "pyproject.toml", KEY_FILE,
        }  # fmt: skip
        assert not any("__pycache__" in name for name in names)
        assert stat.S_IMODE((one / KEY_FILE).stat().st_mode) == 0o600
        assert (one / KEY_FILE).read_text() != (two / KEY_FILE).read_text()
    assert not one.exists()


def test_the_key_is_found_as_wandb_finds_it_and_never_printed(tmp_path, monkeypatch):
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    assert find_wandb_key() is None
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    (tmp_path / "netrc").chmod(0o600)
    key = find_wandb_key()
    assert key == WandbKey("api.wandb.ai", KEY)
    assert KEY not in f"{key!r} {key}"
    assert KEY not in str(environment(key, 60))
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.inside:8080")
    assert find_wandb_key() is None
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert find_wandb_key() == WandbKey("wandb.inside:8080", KEY)
    monkeypatch.setenv("WANDB_API_KEY", "two words")
    with pytest.raises(UsageError, match="WANDB_API_KEY: is no key"):
        find_wandb_key()


def test_the_address_is_the_option_then_rays_variables_then_this_machine(monkeypatch):
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    assert cluster_address(None) == USUAL_ADDRESS
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert cluster_address(None) == USUAL_ADDRESS
    monkeypatch.setenv("RAY_ADDRESS", "http://b:8265")
    assert cluster_address(None) == "http://b:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://a:8265/")
    assert cluster_address(None) == "http://a:8265"
    assert cluster_address("https://c") == "https://c"
    with pytest.raises(UsageError, match="--address c:6379: give the address of Ray's dashboard"):
        cluster_address("c:6379")


def test_a_name_means_the_newest_job_of_the_experiment():
    old, new = Job("a", "a", "s", "STOPPED", 1.0, 2.0), Job("a-2", "a", "s", "RUNNING", 3.0)
    assert find_job([new, old], "a") is new
    assert find_job([new, old], "a-2") is new
    with pytest.raises(UserError, match="no job of that name; there are a"):
        find_job([new, old], "b")
    with pytest.raises(UserError, match="no search was submitted there"):
        find_job([], "b")


def test_fetching_again_brings_what_changed_at_the_same_size(tmp_path):
    from rich.console import Console

    place = tmp_path / "storage/exp"
    (place / "ensemble").mkdir(parents=True)
    (place / "experiment.json").write_text('{"id": "1"}')
    (place / "ensemble/weights").write_text("old")
    for text in ("old", "new"):
        (place / "ensemble/weights").write_text(text)
        experiment = open_experiment(str(tmp_path / "storage"), "exp")
        folder, files = fetch_experiment(experiment, tmp_path / "home", False, Console(quiet=True))
        assert files == 2
        assert (folder / "ensemble/weights").read_text() == text
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["exp"]


def test_versions_differ_by_their_minor_number():
    assert minor("3.11.9") == "3.11"


class Broken:
    """Ray's client where the connection breaks once, in the middle of a line: nothing else here can be cut so."""

    def __init__(self) -> None:
        self.parts = iter([["one\ntw"], ["one\n", "two\nthree\n"]])
        self.statuses = iter(["RUNNING", "SUCCEEDED"])

    async def tail_job_logs(self, name: str) -> AsyncIterator[str]:
        parts = next(self.parts)
        for part in parts:
            yield part
        if len(parts) == 1:
            raise RuntimeError("WebSocket connection closed unexpectedly")

    def get_address(self) -> str:
        return "http://broken"

    def get_job_info(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(
            submission_id=name,
            metadata={"experiment": name, "storage": "s"},
            status=next(self.statuses),
            start_time=1000,
            end_time=None,
            driver_exit_code=None,
        )


def test_a_log_is_followed_over_a_broken_connection_without_a_letter_twice():
    written: list[str] = []
    job = Log(Broken(), "a", written.append).follow()
    assert "".join(written) == "one\ntwo\nthree\n"
    assert job.says == "succeeded"


HEAD = """
import asyncio
import socket
import sys
from aiohttp import web

async def version(request):
    return web.json_response({"version": "4", "ray_version": "2.60.0", "ray_commit": "none"})

async def job(request):
    about = {"type": "SUBMISSION", "submission_id": "a", "entrypoint": "none", "start_time": 1000}
    return web.json_response(about | {"status": sys.argv[1], "metadata": {"experiment": "a", "storage": "s"}})

async def logs(request):
    return web.json_response({"logs": "one\\ntwo\\n"})

async def tail(request):
    answer = web.WebSocketResponse()
    await answer.prepare(request)
    await answer.send_str("one\\n")
    await asyncio.sleep(600)

app = web.Application()
app.add_routes([web.get("/api/version", version), web.get("/api/jobs/a", job)])
app.add_routes([web.get("/api/jobs/a/logs", logs), web.get("/api/jobs/a/logs/tail", tail)])
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
web.run_app(app, sock=server, print=None)
"""


@contextmanager
def quiet_head(status: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """What of a head the following of a log needs: its connection stays open, and brings one line and nothing more."""
    process = subprocess.Popen([sys.executable, "-c", HEAD, status], stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}", process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a second; and no variable that names another cluster."""
    for module, name in ((jobs_cluster, "ANSWER_S"), (jobs_logs, "SILENCE_S"), (jobs_logs, "PATIENCE_S")):
        monkeypatch.setattr(module, name, 1.0)
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS", "RAY_AUTH_MODE"):
        monkeypatch.setenv(name, "")  # so that what `connect` sets is gone again for the tests after it
        monkeypatch.delenv(name)


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore:ssl=None is deprecated")  # Ray's own call
def test_a_head_that_vanishes_without_a_word_is_told(impatient):
    with quiet_head("RUNNING") as (address, head):
        written: list[str] = []

        def write(text: str) -> None:
            written.append(text)
            head.send_signal(signal.SIGSTOP)  # its connections stay open, as those of a machine without power

        with pytest.raises(UserError, match=rf"^--address {address}: no Ray cluster answers there"):
            Log(connect(address), "a", write).follow()
        assert written == ["one\n"]


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore:ssl=None is deprecated")  # Ray's own call
def test_a_log_whose_connection_falls_silent_is_whole_when_the_job_has_ended(impatient):
    with quiet_head("SUCCEEDED") as (address, _):
        written: list[str] = []
        assert Log(connect(address), "a", written.append).follow().says == "succeeded"
        assert "".join(written) == "one\ntwo\n"
