"""Weights & Biases and MLflow: one run a trial, grouped by experiment, through Ray's own callbacks."""

import atexit
import netrc
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from trainable import metrics
from trainable.errors import UsageError
from tuning.plan import SearchPlan, WandbMode
from tuning.wandb_key import leave_key, take_key, without_key

if TYPE_CHECKING:
    from ray.air.integrations.wandb import WandbLoggerCallback
    from ray.tune.experiment import Trial
    from ray.tune.logger import LoggerCallback

UPLOAD_TIMEOUT_S = 15
"""How long a run's end waits for W&B; without a limit a W&B that is gone looks like a hang."""
END_TIMEOUT_S = 120
"""How long the end of a search waits for the runs' processes before Ray kills them, which can cost a run's file its
last seconds. They end by themselves before it: a start, INIT_TIMEOUT_S, and UPLOAD_TIMEOUT_S."""
WRITE_INTERVAL_S = 3
"""How often a run's file is written: what a kill of the search, or of its machine, can cost of it."""
INIT_TIMEOUT_S = 30
"""How long a trial's run waits for W&B before it is kept offline; the trial itself doesn't wait."""
LOGIN_TIMEOUT_S = 5
"""How long the beginning of a search waits for W&B to say whether it takes the key."""
MLFLOW_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""The search waits for each answer of MLflow's server: a few seconds, and not MLflow's own minutes."""


def choose_wandb_mode(requested: WandbMode | None) -> WandbMode:
    """`None` -> online where an API key is configured, else off. Online without a key is an error."""
    configured = api_key_is_configured()
    if requested == "online" and not configured:
        raise UsageError("--wandb online: no API key is configured; run `wandb login`, or give --wandb offline")
    return requested or ("online" if configured else "off")


def wandb_server() -> str:
    """The address of W&B's server, the public one unless WANDB_BASE_URL names another."""
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/")


def api_key_is_configured() -> bool:
    """Whether `wandb login` or WANDB_API_KEY has left a key, without importing wandb."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(wandb_server()).hostname
    try:
        return netrc.netrc(os.environ.get("NETRC", str(Path.home() / ".netrc"))).authenticators(host or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def check_mlflow(address: str) -> str:
    """The address of MLflow, a folder's as an absolute one; UsageError where MLflow isn't installed."""
    if urlparse(address).password is not None:
        raise UsageError(
            "--mlflow: leave the password out, since others can read commands and experiment.json; it is taken from "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    if find_spec("mlflow") is None:
        raise UsageError("--mlflow: mlflow isn't installed; pip install -e '.[mlflow]'")
    return address if "://" in address else str(Path(address).absolute())


def trackers(plan: SearchPlan, say: Callable[[str], None]) -> "list[LoggerCallback]":
    """The callbacks of Ray's that the plan asks for; `say` tells the user."""
    callbacks: list[LoggerCallback] = []
    if plan.wandb != "off":
        callbacks.append(wandb_callback(plan, say))
    if plan.mlflow is not None:
        callbacks.append(mlflow_callback(plan, plan.mlflow, say))
    return callbacks


RAYS_OWN = (
    "timestamp", "time_this_iter_s", "time_total_s", "time_since_restore", "iterations_since_restore",
    "training_iteration", "trial_name", "checkpoint_dir_name", "timesteps_total", "episodes_total",
)  # fmt: skip
"""Keys that Ray adds to each record and that W&B need not show."""


def wandb_callback(plan: SearchPlan, say: Callable[[str], None]) -> "WandbLoggerCallback":
    """Ray's callback with a run id that a resumed search finds again, and the metrics of `trainable.metrics` only.

    Its files are in the experiment's `wandb` folder, from where `wandb sync` uploads what was recorded offline. Where
    W&B refuses the key or doesn't answer, runs are kept there.
    """
    from ray.air.integrations.wandb import WandbLoggerCallback, _WandbLoggingActor

    upload = f"upload them by: wandb sync {plan.folder}/wandb/*run-*"
    key_file: Path | None = None

    class Begun:
        """wandb, as Ray's process uses it, with a run that has begun."""

        def __init__(self, run: Any) -> None:
            self.init = lambda *_, **__: run

        def __getattr__(self, name: str) -> Any:
            import wandb

            return getattr(wandb, name)

    class TrialRun(_WandbLoggingActor):
        """Ray's process of a run; where W&B doesn't take the run it is kept offline."""

        def run(self) -> None:
            import wandb

            try:
                if key_file is not None:
                    take_key(key_file)
                begun = wandb.init(*self.args, **self.kwargs)
            except Exception:  # a wrong key, no server, no quota: wandb has an error for each
                wandb.teardown()  # its service holds the id of the run that failed
                begun = wandb.init(*self.args, **self.kwargs | {"mode": "offline"})
            self._wandb = Begun(begun)  # type: ignore[assignment]
            super().run()
            wandb.teardown()  # its service writes the file's end, and Ray kills both as soon as this returns

    class TrialRuns(WandbLoggerCallback):
        """Ray's callback breaks at the end of a trial that ran in an earlier search only: it has no run here."""

        _logger_actor_cls = TrialRun

        def _start_logging_actor(self, *args: Any, **options: Any) -> None:
            with without_key():  # else everybody would see it in the dashboard
                super()._start_logging_actor(*args, **options)

        def log_trial_end(self, trial: "Trial", failed: bool = False) -> None:
            if trial in self._trial_queues:
                super().log_trial_end(trial, failed)

        def on_experiment_end(self, trials: "list[Trial]", **info: Any) -> None:
            """Ray's waits for all runs, but ends only those whose trial has ended: not those that an interrupt cut."""
            for trial in self._trial_queues:
                self._signal_logging_actor_stop(trial)
            super().on_experiment_end(trials, **info)
            if self.kwargs["mode"] == "online" and any(plan.folder.glob("wandb/offline-run-*")):
                say(f"W&B didn't take all runs; {upload}")

    mode: str = plan.wandb
    if mode == "online" and (refusal := wandb_refusal()):
        mode = "offline"
        say(f"W&B can't be used ({refusal}): runs are kept offline; {upload}")
    if mode == "offline":
        os.environ["WANDB_MODE"] = "offline"  # Ray's callback asks for a key unless this says so
    else:
        key_file = leave_key()
        if key_file is not None:
            atexit.register(key_file.unlink, missing_ok=True)  # of a search that breaks off
    return TrialRuns(
        project=plan.wandb_project,
        group=plan.name,
        mode=mode,
        resume="allow",
        dir=str(plan.folder),
        excludes=[*RAYS_OWN, metrics.DIVERGED],
        upload_timeout=END_TIMEOUT_S,
        settings=wandb_settings(),
    )


def wandb_settings() -> Any:
    """How long a run waits for W&B, and how often it writes its file."""
    import wandb

    return wandb.Settings(
        base_url=wandb_server(),
        init_timeout=INIT_TIMEOUT_S,
        finish_timeout=UPLOAD_TIMEOUT_S,
        x_transaction_log_flush_interval=WRITE_INTERVAL_S,
        silent=True,
    )


def wandb_refusal() -> str | None:
    """Why W&B takes no runs now, in a few words; None where it does."""
    import requests

    base = wandb_server()
    key = os.environ.get("WANDB_API_KEY")
    try:
        answer = requests.post(
            f"{base}/graphql",
            json={"query": "query Viewer { viewer { id } }"},
            auth=("api", key) if key else None,  # else that of ~/.netrc, as wandb does
            timeout=LOGIN_TIMEOUT_S,
        )
        if answer.status_code in (401, 403) or (answer.ok and answer.json()["data"]["viewer"] is None):
            return f"{base} refuses the API key"
        return None if answer.ok else f"{base} answers HTTP {answer.status_code}"
    except (requests.RequestException, ValueError, KeyError, TypeError):
        return f"{base} doesn't answer as W&B does"


def mlflow_callback(plan: SearchPlan, address: str, say: Callable[[str], None]) -> "LoggerCallback":
    """Ray's callback, which a resumed search goes on in the same runs with; one that fails ends, and not the search."""
    from mlflow.tracking import MlflowClient
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    class TrialRuns(MLflowLoggerCallback):
        """Ray's, but the search doesn't depend on it."""

        is_lost = False

        def _try(self, action: Callable[[], Any]) -> None:
            if self.is_lost:
                return
            try:
                action()
            except Exception as error:  # a server that is gone: whatever requests and MLflow raise
                self.is_lost = True
                reason = " ".join(str(error).split())[:200]
                say(f"--mlflow {address}: {reason}; the search goes on without, result.json has all metrics")

        def setup(self, *args: Any, **kwargs: Any) -> None:
            self._trial_runs: dict[Trial, str] = {}
            self._try(lambda: super(TrialRuns, self).setup(*args, **kwargs))

        def log_trial_start(self, trial: "Trial") -> None:
            self._try(lambda: self._start(trial))

        def _start(self, trial: "Trial") -> None:
            if trial not in self._trial_runs:
                client = MlflowClient(tracking_uri=address)
                experiment = client.get_experiment_by_name(plan.name)
                filter_text = f"tags.trial_id = '{trial.trial_id}'"
                for run in client.search_runs([experiment.experiment_id], filter_text, max_results=1):
                    self._trial_runs[trial] = run.info.run_id
                    client.update_run(run.info.run_id, status="RUNNING")
                    return
            self.tags = {"trial_id": trial.trial_id}
            super().log_trial_start(trial)

        def log_trial_result(self, iteration: int, trial: "Trial", result: dict) -> None:
            kept = {key: value for key, value in result.items() if key not in RAYS_OWN or key == "training_iteration"}
            self._try(lambda: super(TrialRuns, self).log_trial_result(iteration, trial, kept))

        def log_trial_end(self, trial: "Trial", failed: bool = False) -> None:
            if trial in self._trial_runs:
                self._try(lambda: super(TrialRuns, self).log_trial_end(trial, failed))

    for name, value in MLFLOW_PATIENCE.items():
        os.environ.setdefault(name, value)
    return TrialRuns(tracking_uri=address, experiment_name=plan.name)
