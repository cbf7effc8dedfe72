"""Serve an exported ensemble over HTTP by Ray Serve, with a web page to drop images on.

[bold]python -m analysis.serve runs/NAME/ensemble[/]  answers on http://127.0.0.1:8000 until Ctrl-C.

[bold]curl --data-binary @cat.jpg http://127.0.0.1:8000/predict[/]  asks for the class of one image;

[bold]curl -F images=@cat.jpg -F images=@dog.png http://127.0.0.1:8000/predict[/]  for those of many.

Also there: /healthz, /metrics for Prometheus, and /docs. There is no log-in: with --host 0.0.0.0 everybody who reaches
this machine may ask.
"""

import os
import socket
import sys
import time
from importlib.util import find_spec
from typing import Annotated

import typer

from analysis.home import EnsembleFolder
from analysis.serving.settings import FAVOURITE_PORT, Limits, Replicas
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.errors import UsageError, UserError

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

NEEDED = ("ray", "fastapi", "uvicorn", "limits", "prometheus_client", "python_multipart")
"""Modules that the extra `serve` brings."""
RAY_SETTINGS = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # its own servers listen on 127.0.0.1 alone
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # keeps Ray 2.60 from warning about it
}
SHARED_GPUS = -1.0

REPLICAS, LIMITS = "Replicas", "Limits of requests"


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    ensemble: EnsembleFolder,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = FAVOURITE_PORT,
    replicas: Annotated[
        int, typer.Option(min=1, max=256, help="Copies of the ensemble.", rich_help_panel=REPLICAS)
    ] = 1,
    gpus_per_replica: Annotated[
        float | None,
        typer.Option(min=0, help="Of a GPU, such as 0.5; by default all GPUs are shared.", rich_help_panel=REPLICAS),
    ] = None,
    cpus_per_replica: Annotated[
        float | None,
        typer.Option(min=0.01, help="CPUs and threads; by default all are shared.", rich_help_panel=REPLICAS),
    ] = None,
    max_batch: Annotated[
        int, typer.Option(min=1, max=4096, help="Images that are computed at once.", rich_help_panel=REPLICAS)
    ] = 32,
    batch_wait_ms: Annotated[
        float,
        typer.Option(min=0, max=10_000, help="How long an image waits for others.", rich_help_panel=REPLICAS),
    ] = 5.0,
    max_mb: Annotated[float, typer.Option(min=0.001, max=4096, help="Of one request.", rich_help_panel=LIMITS)] = 20.0,
    max_megapixels: Annotated[
        float, typer.Option(min=0.001, max=178, help="Of one image.", rich_help_panel=LIMITS)
    ] = 40.0,
    max_images: Annotated[int, typer.Option(min=1, max=1000, help="Of one request.", rich_help_panel=LIMITS)] = 64,
    max_concurrent: Annotated[
        int, typer.Option(min=1, max=10_000, help="Requests at a time; others get 503.", rich_help_panel=LIMITS)
    ] = 64,
    rate: Annotated[
        str, typer.Option(help="Requests of one client, or none for any number.", rich_help_panel=LIMITS)
    ] = "1200/minute",
    timeout_s: Annotated[
        float, typer.Option(min=0.1, max=3600, help="For one request.", rich_help_panel=LIMITS)
    ] = 30.0,
    dashboard: Annotated[bool, typer.Option("--dashboard", help="Also start Ray's dashboard.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what Ray and Ray Serve log.")] = False,
) -> int:
    """Check everything that can be wrong before Ray starts, then serve until Ctrl-C."""
    from analysis.manifest import check_members, read_manifest

    gpus = check_gpus(gpus_per_replica)
    manifest = read_manifest(ensemble)
    check_members(ensemble, manifest)  # a replica would find it only after a minute
    check_installed()
    limits = Limits(
        int(max_mb * 1e6), int(max_megapixels * 1e6), max_images, max_concurrent, checked_rate(rate), timeout_s
    )
    copies = Replicas(replicas, gpus, cpus_per_replica or 0.0, max_batch, batch_wait_ms / 1000)
    port = free_port(host, port)
    print("starting Ray ...", file=sys.stderr)
    os.environ.update(RAY_SETTINGS)  # before Ray is imported
    from analysis.serving.cluster import serving  # five seconds of imports

    with serving(ensemble.absolute(), manifest, host, port, limits, copies, verbose, dashboard):
        members, classes = len(manifest.members), len(manifest.classes)
        print(f"{ensemble}: {members} members, {classes} classes, at {url(host, port)} (Ctrl-C stops)", flush=True)
        while True:
            time.sleep(3600)


def check_gpus(asked: float | None) -> float:
    """The share of GPUs that is asked for; above 1 Ray knows whole ones alone."""
    if asked is not None and asked > 1 and asked != int(asked):
        raise UsageError(f"--gpus-per-replica {asked:g}: above 1 give a whole number")
    return SHARED_GPUS if asked is None else asked


def check_installed() -> None:
    """UserError where the extra isn't installed."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UserError(f"{missing[0]} isn't installed, which the server needs; pip install 'tune-to-ensemble[serve]'")


def checked_rate(rate: str) -> str | None:
    """The rate, None for `none`; UsageError where it is no rate."""
    if rate.lower() == "none":
        return None
    from analysis.serving.limits import parse_rate

    parse_rate(rate)
    return rate


def free_port(host: str, port: int) -> int:
    """The port, where nobody listens there yet; a free one for 0."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise UsageError(f"--host {host}: no address of this machine; give 127.0.0.1, or 0.0.0.0 for all") from None
    try:
        with socket.create_server(address[:2], family=family) as server:
            return server.getsockname()[1]
    except PermissionError:
        raise UsageError(f"--port {port}: may not be used without root's rights; give one above 1023") from None
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise UsageError(f"--port {port}: can't be used on {host} ({reason}); give another --port, or 0") from None


def url(host: str, port: int) -> str:
    """Where a browser finds it."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


if __name__ == "__main__":
    run_app(app)
