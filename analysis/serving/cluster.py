"""Ray and Ray Serve on this machine, for as long as the server runs. Only programs of this machine can reach Ray."""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import ray
from ray import serve

from analysis.manifest import Manifest
from analysis.serving.deployment import NAME, application
from analysis.serving.settings import Limits, Replicas
from analysis.serving.sharing import fit
from trainable.errors import UserError

RAY_TOKEN = Path.home() / ".ray" / "auth_token"


@contextmanager
def serving(
    folder: Path, manifest: Manifest, host: str, port: int, limits: Limits, replicas: Replicas, verbose: bool,
    dashboard: bool,
) -> Iterator[None]:  # fmt: skip
    """The ensemble answers on `host` and `port` inside of the block, and all processes are gone after it.

    `replicas.gpus` below 0 means: share all GPUs. UserError where they don't suffice, or no replica can load it.
    """
    level = logging.INFO if verbose else logging.CRITICAL
    started = False
    try:
        start_ray(len(os.sched_getaffinity(0)), dashboard, verbose)
        replicas = fit(replicas, int(ray.cluster_resources().get("GPU", 0)), ray.cluster_resources()["CPU"])
        logs: dict[str, Any] = {"log_level": level, "enable_access_log": False}
        logging.getLogger("ray.serve").setLevel(level)
        serve.start("HeadOnly", {"host": host, "port": port, "request_timeout_s": None}, logging_config=logs)
        try:
            serve.run(application(folder, manifest, limits, replicas), name=NAME, logging_config=logs)
        except RuntimeError:
            raise UserError(f"{folder}: can't be served ({failure()}); --verbose tells more") from None
        started = True
        yield
    finally:
        stop(started)


def stop(started: bool) -> None:
    """Let requests that were accepted end, then end Ray with all its processes.

    Not `serve.shutdown`, which waits up to 30 s for a controller that Ray ends anyhow.
    """
    try:
        if started:
            serve.delete(NAME)
    finally:
        ray.shutdown()


def start_ray(cpus: int, dashboard: bool, verbose: bool) -> None:
    """A Ray of our own; also where another one runs on this machine."""
    level = logging.INFO if verbose else logging.CRITICAL
    ray.init(
        "local",
        num_cpus=cpus,
        include_dashboard=dashboard,
        dashboard_host="127.0.0.1",
        log_to_driver=verbose,
        logging_level=level,
    )
    signal.signal(signal.SIGTERM, terminate)
    if RAY_TOKEN.is_file() and os.stat(RAY_TOKEN).st_uid == os.getuid():
        RAY_TOKEN.chmod(0o600)  # Ray writes what its dashboard asks for where every user can read it


def terminate(number: int, frame: object) -> NoReturn:
    """What a container or a service is stopped by ends the block of `serving`, too; that is no failure."""
    raise SystemExit(0)


def failure() -> str:
    """Why a replica didn't start: the last line of its traceback."""
    deployments = serve.status().applications[NAME].deployments.values()
    lines = [line.strip() for each in deployments for line in each.message.splitlines() if line.strip()]
    return lines[-1].rpartition("Error: ")[2] if lines else "for no known reason"
