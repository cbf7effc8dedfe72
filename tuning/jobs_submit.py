"""Starts, follows and stops the jobs of a cluster."""

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainable.console import INTERRUPTED
from trainable.errors import UsageError, UserError
from tuning.jobs_cluster import ARGUMENTS, COMMIT, EXPERIMENT, STORAGE, Job, cluster_errors, get_job
from tuning.jobs_logs import Log
from tuning.jobs_package import WandbKey, environment, packaged
from tuning.jobs_results import Experiment
from tuning.storage import code_facts

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

STOP_WAIT_S = 180
"""How long Ray waits for a clean stop before it kills the search, in seconds; Ray's own 3 s are too few."""


def refuse_taken(client: "JobSubmissionClient", name: str, experiment: Experiment) -> None:
    """UsageError where a job or an experiment has that name already."""
    go_on = f"go on with it by: python -m tuning.jobs resume {name}; or give another name"
    if experiment.files:
        raise UsageError(f"--name {name}: is in {experiment.storage} already; {go_on}")
    with cluster_errors(client.get_address()):
        if name in {details.submission_id for details in client.list_jobs()}:
            raise UsageError(f"--name {name}: the cluster has had a job of that name; {go_on}")


def refuse_running(jobs: Sequence[Job], experiment: str) -> None:
    """UserError where the experiment has a job that hasn't ended."""
    for job in jobs:
        if job.experiment == experiment and not job.ended:
            raise UserError(
                f"{experiment}: job {job.name} is {job.says}; follow it by: python -m tuning.jobs logs {experiment} -f"
            )


def start(
    client: "JobSubmissionClient",
    job: str,
    experiment: str,
    storage: str,
    options: Sequence[str],
    files: Mapping[str, Path],
    key: WandbKey | None,
) -> None:
    """Submit a search with this code; all but the key may be seen in Ray's dashboard.

    Args:
        job: Its name, new on this cluster.
        options: Of tuning.run, without where it runs and where it is kept.
        files: What goes along, by its path in the job's folder.
    """
    own = ["--address", "auto", "--storage", storage]
    commit = code_facts()["git_commit"]
    metadata = {EXPERIMENT: experiment, STORAGE: storage, ARGUMENTS: shlex.join(options), COMMIT: commit or "unknown"}
    with packaged(files, key) as folder, cluster_errors(client.get_address()):
        client.submit_job(
            entrypoint=shlex.join(["exec", "python", "-m", "tuning.jobs", "run", "--", *own, *options]),
            submission_id=job,
            metadata=metadata,
            runtime_env={"working_dir": str(folder), "env_vars": environment(key, STOP_WAIT_S)},
        )


def follow_log(client: "JobSubmissionClient", name: str, to_the_end: bool = True) -> int:
    """Print the job's log on stdout and how it stands on stderr; returns the exit code that tells it."""
    log = Log(client, name, lambda text: print(text, end="", flush=True))
    try:
        job = log.follow() if to_the_end else log.whole()
    except KeyboardInterrupt:
        print(f"\n{name} goes on; stop it by: python -m tuning.jobs stop {name}", file=sys.stderr)
        return INTERRUPTED
    print(f"{name}: {job.says}", file=sys.stderr)
    return {"FAILED": 1, "STOPPED": INTERRUPTED}.get(job.status, 0)


def stop_job(client: "JobSubmissionClient", job: Job) -> int:
    """Ask the job to end, and wait until it has."""
    if job.ended:
        print(f"{job.name} runs no more: {job.says}")
        return 0
    with cluster_errors(client.get_address()):
        client.stop_job(job.name)
    print(f"{job.name} saves what runs; at most {STOP_WAIT_S} s ...", file=sys.stderr)
    patience = time.monotonic() + STOP_WAIT_S + 30
    while not (now := get_job(client, job.name)).ended:
        if time.monotonic() > patience:
            raise UserError(f"{job.name}: is still {now.says}; see its log: python -m tuning.jobs logs {job.name}")
        time.sleep(0.5)
    print(f"{job.name}: {now.says}; go on with it by: python -m tuning.jobs resume {job.experiment}")
    return 0
