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
from tuning.past import PastTrial
from tuning.plan import SearchPlan
from tuning.population import make_population


def make_scheduler(plan: SearchPlan, past: Iterable[PastTrial] = ()) -> TrialScheduler:
    """The plan's scheduler, which knows the trials of an interrupted search.

    Ray leaves the scheduler out of what it saves (ray #30838), so a resumed search fills its rungs from the records.
    """
    if plan.scheduler == "none":
        return FIFOScheduler()
    shared: dict[str, Any] = {"time_attr": metrics.STEP, "metric": metrics.SCORE, "mode": metrics.SCORE_MODE}
    if plan.scheduler == "hyperband":
        return HyperBand(max_t=plan.length, reduction_factor=plan.reduction_factor, **shared)
    if plan.scheduler == "pbt":
        return make_population(plan, shared)
    if plan.scheduler == "median":
        scheduler: TrialScheduler = MedianStoppingRule(grace_period=plan.first_rung, **shared)
    else:
        scheduler = ASHAScheduler(
            max_t=plan.length,
            grace_period=min(plan.first_rung, plan.length),
            reduction_factor=plan.reduction_factor,
            **shared,
        )
    refill(scheduler, past)
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


class Known(NamedTuple):
    """What schedulers ask of a trial; the median rule keeps them in a set."""

    trial_id: str


def refill(scheduler: TrialScheduler, past: Iterable[PastTrial]) -> None:
    """Tell a fresh scheduler the results of an interrupted search; its answers, given once already, are ignored."""
    controller: Any = SimpleNamespace(get_live_trials=list)  # the median rule asks for them
    records = [(trial.key, record) for trial in past for record in trial.records.values()]
    trials: dict[str, Any] = {}
    for key, record in sorted(records, key=lambda each: each[1]["timestamp"]):
        if key not in trials:
            trials[key] = Known(key)
            scheduler.on_trial_add(controller, trials[key])
        with suppress(AssertionError):  # the median rule takes no more results of a trial that it would have stopped
            scheduler.on_trial_result(controller, trials[key], record | {metrics.STEP: metrics.step_of(record)})
