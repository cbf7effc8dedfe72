"""What a search tells Prometheus, through Ray's own metrics: trials by state, slots, scores, and where the time goes.

Each node's Ray serves them at its metrics port, with Ray's own; docs/monitoring.md lists them. A gauge that is not set
any more is gone from there half a minute later, and so are a trial's series once it ends: there are as many as slots.
"""

import time
from collections import Counter as Count
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.result import TIMESTAMP
from ray.util.metrics import Counter, Gauge, Histogram

from trainable import metrics
from tuning.progress import STATES, Progress, best_epoch

EXPORT_EVERY_S = 8.0
"""Seconds between two updates of what is exported; Ray hands it on every 10 s."""
LAG_BOUNDS_S = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0]
"""Upper bounds of the histogram of result lags, in seconds."""

PARTS = {
    "train": metrics.SECONDS_TRAIN,
    "eval": metrics.SECONDS_EVAL,
    "checkpoint": metrics.SECONDS_CHECKPOINT,
}
"""The parts of a slot's time that a record tells; the rest of it is `waiting`."""


class Metrics(Callback):
    """Follows a search beside `Progress`, whose facts it exports."""

    def __init__(self, progress: Progress, slots: Callable[[], int]) -> None:
        self.progress = progress
        self.slots = slots
        """How many trials may run at once now."""
        self.next_export = 0.0
        self.best = best_epoch(list(progress.trials.values()))
        self.best_top1 = self.best.top1 if self.best else 0.0
        self.latest: dict[str, dict[str, Any]] = {}
        """The last record of each trial that runs."""
        self.slot_seconds: defaultdict[str, float] = defaultdict(float)
        """By part, since the last export."""
        self.epochs = 0
        """Since the last export."""
        self.last_end: dict[tuple[str, int], float] = {}
        """When each process of a trial, by its machine and pid, ended its last epoch; Unix time."""
        self.gauges = {name: self._gauge(name, text, *tags) for name, (text, *tags) in GAUGES.items()}
        self.epochs_done = Counter("search_epochs", "Epochs done by this search.", ("experiment",))
        self.slot_time = Counter("search_slot_seconds", "What slots did, in seconds.", ("experiment", "part"))
        lag = "From the end of an epoch to when the search knows of it, in seconds."
        self.lag = Histogram("search_result_lag_seconds", lag, LAG_BOUNDS_S, ("experiment",))
        for metric in (*self.gauges.values(), self.epochs_done, self.slot_time, self.lag):
            metric.set_default_tags({"experiment": progress.plan.name})

    def _gauge(self, name: str, text: str, *tags: str) -> Gauge:
        return Gauge(f"search_{name}", text, ("experiment", *tags))

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info: Any) -> None:
        """A trial finished an epoch."""
        now = time.time()
        self.epochs += 1
        self.best_top1 = max(self.best_top1, result[metrics.SCORE])
        self.latest[str(trial)] = result
        parts = {part: result.get(key, 0.0) for part, key in PARTS.items()}
        for part, seconds in parts.items():
            self.slot_seconds[part] += seconds
        ended = result.get(TIMESTAMP)
        if not isinstance(ended, float):  # Ray's own has whole seconds
            return
        self.lag.observe(max(0.0, now - ended))
        process = (result.get("node_ip", ""), result.get("pid", 0))
        before = self.last_end.get(process)
        self.last_end[process] = ended
        if before is not None:
            self.slot_seconds["waiting"] += max(0.0, ended - before - sum(parts.values()))

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Ray's loop went round once."""
        if time.monotonic() >= self.next_export:
            self.next_export = time.monotonic() + EXPORT_EVERY_S
            self.export()

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """The search ended: its last figures."""
        self.export()

    def export(self) -> None:
        """Hand what is known to Ray."""
        views = list(self.progress.trials.values())
        states = Count(view.state for view in views)
        for state in STATES:
            self.gauges["trials"].set(states[state], {"state": state})
        self.gauges["slots"].set(self.slots())
        self.gauges["slots_busy"].set(states["running"])
        self.gauges["best_top1"].set(self.best_top1)
        for budget, share in self.progress.spent().items():
            self.gauges["budget_spent"].set(share, {"budget": budget})
        running = {view.name for view in views if view.state == "running"}
        self.latest = {name: record for name, record in self.latest.items() if name in running}
        for name, record in self.latest.items():
            self.gauges["trial_top1"].set(record[metrics.SCORE], {"trial": name})
            self.gauges["trial_loss"].set(record[metrics.SELECT_LOSS], {"trial": name})
        self.gauges["images_per_second"].set(sum(each[metrics.IMAGES_PER_SECOND] for each in self.latest.values()))
        if self.epochs:
            self.epochs_done.inc(self.epochs)
        for part, seconds in self.slot_seconds.items():
            if seconds > 0:
                self.slot_time.inc(seconds, {"part": part})
        self.epochs = 0
        self.slot_seconds.clear()


GAUGES: dict[str, tuple[str, ...]] = {
    "trials": ("Trials, by state.", "state"),
    "slots": ("Trials that may run at once.",),
    "slots_busy": ("Trials that run.",),
    "best_top1": ("The highest top-1 on `select` so far, 0 to 1.",),
    "trial_top1": ("Top-1 on `select` after the last epoch of a trial that runs, 0 to 1.", "trial"),
    "trial_loss": ("Loss on `select` after the last epoch of a trial that runs, in nats.", "trial"),
    "images_per_second": ("Training images a second, of all trials that run.",),
    "budget_spent": ("Share of the epochs or of the time that the search may take, 0 to 1.", "budget"),
}
"""What each gauge means, and its tags besides the experiment's name."""
