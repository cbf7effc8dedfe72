"""Weights & Biases: one run a trial, grouped by experiment, through Ray's own callback."""

import netrc
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

from trainable import metrics
from trainable.errors import UsageError
from tuning.plan import SearchPlan, WandbMode

if TYPE_CHECKING:
    from ray.air.integrations.wandb import WandbLoggerCallback
    from ray.tune.experiment import Trial

UPLOAD_TIMEOUT_S = 60
"""How long the end of a search waits for W&B; Ray's default of 30 minutes looks like a hang."""


def choose_wandb_mode(requested: WandbMode | None) -> WandbMode:
    """`None` -> online where an API key is configured, else off. Online without a key is an error."""
    configured = api_key_is_configured()
    if requested == "online" and not configured:
        raise UsageError("--wandb online: no API key is configured; run `wandb login`, or give --wandb offline")
    return requested or ("online" if configured else "off")


def api_key_is_configured() -> bool:
    """Whether `wandb login` or WANDB_API_KEY has left a key, without importing wandb."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return netrc.netrc(os.environ.get("NETRC", str(Path.home() / ".netrc"))).authenticators(host or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


RAYS_OWN = (
    "timestamp", "time_this_iter_s", "time_total_s", "time_since_restore", "iterations_since_restore",
    "training_iteration", "trial_name", "checkpoint_dir_name", "timesteps_total", "episodes_total",
)  # fmt: skip
"""Keys that Ray adds to each record and that W&B need not show."""


def wandb_callback(plan: SearchPlan) -> "WandbLoggerCallback":
    """Ray's callback with a run id that a resumed search finds again, and the metrics of `trainable.metrics` only.

    Its files are in the experiment's `wandb` folder, from where `wandb sync` uploads what was recorded offline.
    """
    from ray.air.integrations.wandb import WandbLoggerCallback

    class TrialRuns(WandbLoggerCallback):
        """Ray's callback breaks at the end of a trial that ran in an earlier search only: it has no run here."""

        def log_trial_end(self, trial: "Trial", failed: bool = False) -> None:
            if trial in self._trial_queues:
                super().log_trial_end(trial, failed)

    if plan.wandb == "offline":
        os.environ["WANDB_MODE"] = "offline"  # Ray's callback asks for a key unless this says so
    return TrialRuns(
        project=plan.wandb_project,
        group=plan.name,
        mode=plan.wandb,
        resume="allow",
        dir=str(plan.folder),
        excludes=[*RAYS_OWN, metrics.DIVERGED],
        upload_timeout=UPLOAD_TIMEOUT_S,
    )
