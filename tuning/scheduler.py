"""Ray's own schedulers, set up for epochs, and refilled when a search is resumed."""

from collections.abc import Iterable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, NamedTuple

from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from trainable import metrics
from tuning.plan import SearchPlan
from tuning.population import make_population


class PastTrial(NamedTuple):
    """Stands for a trial of the interrupted search: schedulers ask for nothing but its id."""

    trial_id: str


def make_scheduler(plan: SearchPlan, earlier: Iterable[dict[str, Any]] = ()) -> TrialScheduler:
    """The plan's scheduler. `earlier` are the records of an interrupted search in the order of their time.

    Ray leaves the scheduler out of what it saves (ray #30838), so a resumed search fills its rungs from the records.
    """
    if plan.scheduler == "none":
        return FIFOScheduler()
    shared: dict[str, Any] = {"time_attr": metrics.EPOCH, "metric": metrics.SCORE, "mode": metrics.SCORE_MODE}
    if plan.scheduler == "hyperband":
        return HyperBand(max_t=plan.epochs, reduction_factor=plan.reduction_factor, **shared)
    if plan.scheduler == "pbt":
        return make_population(plan, shared)
    if plan.scheduler == "median":
        scheduler: TrialScheduler = MedianStoppingRule(grace_period=plan.first_rung, **shared)
    else:
        scheduler = ASHAScheduler(
            max_t=plan.epochs,
            grace_period=min(plan.first_rung, plan.epochs),
            reduction_factor=plan.reduction_factor,
            **shared,
        )
    refill(scheduler, earlier)
    return scheduler


class HyperBand(HyperBandScheduler):
    """Ray's, which after a bracket's first halving no longer notices that a trial of it diverged or failed.

    Where that was the last one that ran, the trials that wait for it would wait for ever.
    """

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """A trial that may run; where all trials wait, the brackets are looked at once more."""
        chosen = super().choose_trial_to_run(tune_controller)
        waiting = [trial for trial in tune_controller.get_trials() if not trial.is_finished()]
        if chosen or any(trial.status != Trial.PAUSED for trial in waiting):
            return chosen
        for bracket in [self._trial_info[trial][0] for trial in waiting]:
            if bracket.current_trials() and bracket.cur_iter_done():
                self._process_bracket(tune_controller, bracket)
        return super().choose_trial_to_run(tune_controller)


def refill(scheduler: TrialScheduler, records: Iterable[dict[str, Any]]) -> None:
    """Tell a fresh scheduler the results of an interrupted search; its answers, given once already, are ignored."""
    trials: dict[str, Any] = {}
    controller: Any = SimpleNamespace(get_live_trials=list)  # the median rule asks for them
    for record in records:
        trial_id = record["trial_id"]
        if trial_id not in trials:
            trials[trial_id] = PastTrial(trial_id)
            scheduler.on_trial_add(controller, trials[trial_id])
        with suppress(AssertionError):  # the median rule takes no more results of a trial that it would have stopped
            scheduler.on_trial_result(controller, trials[trial_id], record)
