"""A Ray cluster by the address of its dashboard: the searches that were submitted there, and what can be wrong."""

import difflib
import logging
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trainable.errors import UsageError, UserError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

USUAL_ADDRESS = "http://127.0.0.1:8265"
ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
ANSWER_S = 30
"""How long a cluster may take to answer at all, in seconds."""
CHATTY = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk", "ray._private.runtime_env.packaging")
"""Loggers of Ray that tell of each package and connection."""
ENDED = ("STOPPED", "SUCCEEDED", "FAILED")
"""Ray's words for a job that runs no more."""

EXPERIMENT, STORAGE, ARGUMENTS, COMMIT = "experiment", "storage", "arguments", "git_commit"
"""What a job's metadata tells: the experiment's name, where it is kept, the options of tuning.run, and the code."""


class Job(NamedTuple):
    """A search that was submitted; a resumed one is another job of the same experiment."""

    name: str
    """Ray's submission id: the experiment's name, then NAME-2, NAME-3 ... each time that it is resumed."""
    experiment: str
    storage: str
    status: str
    """PENDING, RUNNING, or one of `ENDED`."""
    started_s: float
    """Since 1970, in seconds, as all times here."""
    ended_s: float | None = None
    exit_code: int | None = None
    """Of the command, where it ended by itself."""

    @property
    def ended(self) -> bool:
        """Whether it runs no more."""
        return self.status in ENDED

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return (self.ended_s or time.time()) - self.started_s

    @property
    def says(self) -> str:
        """`failed with exit code 2`: its status as a part of a sentence."""
        code = f" with exit code {self.exit_code}" if self.exit_code and self.status == "FAILED" else ""
        return self.status.lower() + code


def cluster_address(option: str | None) -> str:
    """1. --address, 2. RAY_API_SERVER_ADDRESS, 3. RAY_ADDRESS, where it is a web address, 4. this machine's usual."""
    if option is not None and not option.startswith(("http://", "https://")):
        raise UsageError(f"--address {option}: give the address of Ray's dashboard, such as http://HOST:8265")
    named = [option, *(os.environ.get(name) for name in ADDRESS_VARIABLES)]
    return next((each for each in named if each and each.startswith("http")), USUAL_ADDRESS).rstrip("/")


def connect(option: str | None) -> "JobSubmissionClient":
    """A client of the cluster, which has answered.

    Raises:
        UserError: Nobody answers there, it isn't Ray, or it doesn't take the token.
    """
    import requests

    address = cluster_address(option)
    for name in ADDRESS_VARIABLES:  # Ray's client would prefer them to its argument
        os.environ.pop(name, None)
    if has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # unset, Ray's client sends none
    with cluster_errors(address):
        requests.get(f"{address}/api/version", timeout=ANSWER_S)  # Ray's client would wait for ever
        from ray.job_submission import JobSubmissionClient  # seconds of imports

        class Client(JobSubmissionClient):
            """Ray's, but it doesn't wait for ever for what it only asks."""

            def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
                # code is sent as long as that takes
                limit: dict[str, Any] = {"timeout": ANSWER_S} if method == "GET" else {}
                return super()._do_request(method, endpoint, **limit, **options)

        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        return Client(address)


def has_token() -> bool:
    """Whether Ray would find a token to send: what `ray get-auth-token --generate` writes, or what a variable gives."""
    variables = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    return any(os.environ.get(name) for name in variables) or (Path.home() / ".ray" / "auth_token").is_file()


@contextmanager
def cluster_errors(address: str) -> Iterator[None]:
    """UserError, in one line, in place of what Ray's client and requests raise."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"--address {address}: {why(error)}") from error


def why(error: Exception) -> str:
    """What went wrong between Ray's client and a cluster, and what to do."""
    names = {base.__name__ for base in type(error).__mro__}
    text = str(error)
    if "AuthenticationError" in names and "Authentication required" in text:
        return "asks for a token; put the cluster's into RAY_AUTH_TOKEN, or into ~/.ray/auth_token"
    if "AuthenticationError" in names:
        return "refuses the token of this machine; put the cluster's into RAY_AUTH_TOKEN, or into ~/.ray/auth_token"
    if names & {"ConnectionError", "Timeout", "InvalidURL", "ClientError"}:
        return "no Ray cluster answers there; start one by `ray start --head`, or give the address of its dashboard"
    if "returned 404" in text or names & {"JSONDecodeError", "KeyError"}:
        return "what answers there is no Ray dashboard; give the address that `ray start --head` printed"
    return f"Ray's answer is: {text.splitlines()[0][:300] if text else type(error).__name__}"


def check_versions(client: "JobSubmissionClient") -> None:
    """UserError where the cluster has another Ray or Python than this machine, so that the code may not run there."""
    import ray

    with cluster_errors(client.get_address()):
        facts = client._do_request("GET", "/api/v0/cluster_metadata").json()["data"]
    there = f"Ray {facts['rayVersion']}, Python {minor(facts['pythonVersion'])}"
    here = f"Ray {ray.__version__}, Python {minor(platform.python_version())}"
    if there != here:
        raise UserError(
            f"--address {client.get_address()}: the cluster has {there}, this machine {here}; "
            "make them the same: install here what it has, or start it from the same environment"
        )


def minor(version: str) -> str:
    """`3.11.9` -> `3.11`."""
    return ".".join(version.split(".")[:2])


def searches(client: "JobSubmissionClient") -> list[Job]:
    """The cluster's jobs that are searches, the newest first; Ray forgets them with the cluster."""
    with cluster_errors(client.get_address()):
        found = [read_job(details) for details in client.list_jobs()]
    return sorted((job for job in found if job), key=lambda job: job.started_s, reverse=True)


def get_job(client: "JobSubmissionClient", name: str) -> Job:
    """The search's job of that very name, as it is now."""
    with cluster_errors(client.get_address()):
        job = read_job(client.get_job_info(name))
    if job is None:
        raise UserError(f"{name}: is a job of another kind")
    return job


def read_job(details: "JobDetails") -> Job | None:
    """A search of Ray's list; None for a job of another kind."""
    facts = details.metadata or {}
    if not details.submission_id or EXPERIMENT not in facts or STORAGE not in facts:
        return None
    return Job(
        name=details.submission_id,
        experiment=facts[EXPERIMENT],
        storage=facts[STORAGE],
        status=str(details.status),
        started_s=(details.start_time or 0) / 1000,
        ended_s=details.end_time / 1000 if details.end_time else None,
        exit_code=details.driver_exit_code,
    )


def find_job(jobs: Sequence[Job], name: str) -> Job:
    """The newest job of the experiment of that name, or the job of that very name; `jobs` has the newest first.

    Raises:
        UserError: There is none; names that are near are listed.
    """
    for job in (*(each for each in jobs if each.experiment == name), *(each for each in jobs if each.name == name)):
        return job
    names = list(dict.fromkeys(job.experiment for job in jobs))
    near = difflib.get_close_matches(name, names, n=3) or names[:5]
    hint = f"there are {', '.join(near)}" if near else "no search was submitted there"
    raise UserError(f"{name}: the cluster knows no job of that name; {hint}")
