"""Run searches as jobs of a Ray cluster: submit, follow, stop, resume and fetch them from this machine.

[bold]python -m tuning.jobs submit --storage s3://BUCKET/runs -- --space all --time-budget 8h[/]  sends the code and
starts a search; what stands behind -- goes to tuning.run, on the cluster's head.

[bold]python -m tuning.jobs list[/]  tells how all searches stand, and  [bold]logs NAME -f[/]  follows one.

[bold]python -m tuning.jobs stop NAME[/]  stops it cleanly, and  [bold]resume NAME[/]  goes on with it.

[bold]python -m tuning.jobs fetch NAME[/]  brings the report and the ensemble home.

The cluster is the one at --address, else at RAY_API_SERVER_ADDRESS or RAY_ADDRESS, else at http://127.0.0.1:8265.
"""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from trainable.address import open_place
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from tuning.jobs_arguments import check_new, check_resumed
from tuning.jobs_cluster import check_versions, connect, find_job, searches
from tuning.jobs_package import find_wandb_key, forget_key
from tuning.jobs_results import fetch_experiment, open_experiment, read_identity, read_standing
from tuning.jobs_show import print_fetched, print_jobs, print_next, print_standing
from tuning.jobs_submit import follow_log, refuse_running, refuse_taken, start, stop_job
from tuning.plan import check_name

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings=UNDERSCORES_ARE_DASHES,
    help=__doc__,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The search's name.")]
Address = Annotated[str | None, typer.Option(metavar="URL", help="The cluster's dashboard, http://HOST:8265.")]
Options = Annotated[list[str] | None, typer.Argument(metavar="-- OPTIONS", help="Options of tuning.run, behind --.")]
Storage = Annotated[
    str | None, typer.Option(metavar="ADDRESS|FOLDER", help="Where the search is kept. [what its job says]")
]
NewStorage = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS|FOLDER",
        help="Where all is kept, since results must outlive the cluster: s3://BUCKET/FOLDER, or a folder that all "
        "nodes and this machine share.",
    ),
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Follow the log until the search has ended.")]


@app.command()
def submit(
    storage: NewStorage,
    options: Options = None,
    name: Annotated[str | None, typer.Option(help="The experiment's name. [space and time]")] = None,
    address: Address = None,
    follow: Follow = False,
) -> int:
    """Start a search on the cluster:  submit --storage s3://BUCKET/runs -- --space all --time-budget 8h."""
    request = check_new(options or [])
    place = open_place(storage, "--storage")
    key = find_wandb_key() if request.wandb else None
    client = connect(address)
    check_versions(client)
    name = check_name(name) if name else request.name
    refuse_taken(client, name, open_experiment(str(place), name))
    start(client, name, name, str(place), ["--name", name, *request.arguments], request.files, key)
    print_next(name, str(place), address)
    return follow_log(client, name) if follow else 0


@app.command()
def resume(
    name: Name, options: Options = None, storage: Storage = None, address: Address = None, follow: Follow = False
) -> int:
    """Go on with a search that was stopped, has failed or has ended:  resume NAME -- --trials 50."""
    check_resumed(options or [])
    client = connect(address)
    check_versions(client)
    jobs = searches(client)
    if storage is None:
        before = find_job(jobs, name)
        name, storage = before.experiment, before.storage
    refuse_running(jobs, name)
    storage = str(open_place(storage, "--storage"))
    plan = read_identity(open_experiment(storage, name))["plan"]
    key = find_wandb_key() if plan.get("wandb") == "online" else None
    taken = {job.name for job in jobs}
    job_name = next(free for number in range(2, len(jobs) + 3) if (free := f"{name}-{number}") not in taken)
    start(client, job_name, name, storage, ["--resume", name, *(options or [])], {}, key)
    print_next(name, storage, address)
    return follow_log(client, job_name) if follow else 0


@app.command("list")
def list_jobs(address: Address = None) -> int:
    """Show the searches that were submitted to the cluster, the newest first."""
    client = connect(address)
    print_jobs(searches(client), client.get_address())
    return 0


@app.command()
def status(name: Name, address: Address = None, storage: Storage = None) -> int:
    """Show how a search stands: its job, and its trials, epochs and best accuracy so far."""
    job = find_job(searches(connect(address)), name)
    print_jobs([job], "")
    experiment = open_experiment(storage or job.storage, job.experiment)
    print_standing(read_standing(experiment) if experiment.begun else None, experiment)
    return 0


@app.command()
def logs(name: Name, follow: Follow = False, address: Address = None) -> int:
    """Show what a search has printed; exit code 1 where it has failed. Ctrl-C ends --follow, not the search."""
    client = connect(address)
    job = find_job(searches(client), name)
    return follow_log(client, job.name, follow)


@app.command()
def stop(name: Name, address: Address = None) -> int:
    """Stop a search cleanly: it saves what runs, which may take a minute or two, and can be resumed."""
    client = connect(address)
    return stop_job(client, find_job(searches(client), name))


@app.command()
def fetch(
    name: Name,
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of all experiments here.")] = Path("runs"),
    everything: Annotated[bool, typer.Option("--all", help="Also the checkpoints.")] = False,
    storage: Storage = None,
    address: Address = None,
) -> int:
    """Bring records, report and ensemble home; with --storage the cluster may be gone."""
    if storage is None:
        job = find_job(searches(connect(address)), name)
        name, storage = job.experiment, job.storage
    console = Console(stderr=True, quiet=not sys.stderr.isatty())
    folder, files = fetch_experiment(open_experiment(storage, name), to, everything, console)
    print_fetched(folder, files)
    return 0


@app.command(hidden=True)
def run(options: Options = None) -> int:
    """What a job runs on the cluster: the search, then the end of its key."""
    # Ray sends SIGTERM to every process of the job: the search ends cleanly, and this one waits for it.
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        return subprocess.run([sys.executable, "-m", "tuning.run", *(options or [])], check=False).returncode
    finally:
        forget_key(Path.cwd())


if __name__ == "__main__":
    run_app(app)
