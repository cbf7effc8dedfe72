"""How Ray carries out what the engine decides: a searcher that starts trials, a scheduler that pauses and promotes."""

import math
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import TrialState as OptunaState
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher, SearchGenerator

from trainable import metrics
from trainable.files import STATE
from tuning.decisions import DecisionLog
from tuning.engine import Action, Status
from tuning.plan import SearchPlan
from tuning.policies import make_engine
from tuning.study import StudyLog, journal_storage
from tuning.warm_start import Earlier

TIME_IS_UP = "the time budget is used up"
SEARCH_OVER = "the search is over, and nothing lets it go on"

ACTIONS = {
    Action.CONTINUE: TrialScheduler.CONTINUE,
    Action.PAUSE: TrialScheduler.PAUSE,
    Action.STOP: TrialScheduler.STOP,
}


class Executor:
    """The engine of one search, with its slots, its study, its decisions file, and what an earlier run left."""

    def __init__(
        self,
        plan: SearchPlan,
        slots: int,
        records: Iterable[dict[str, Any]] = (),
        earlier: Sequence[Earlier] = (),
    ) -> None:
        self.plan = plan
        self.slots = slots
        self.past: dict[str, dict[int, float]] = {}
        """Scores of an interrupted search by trial and epoch, until Ray brings the trial back."""
        for record in records:
            self.past.setdefault(record["trial_id"], {})[record[metrics.EPOCH]] = record[metrics.SCORE]
        self.study = StudyLog(plan.name, plan.space, journal_storage(plan.folder))
        self.engine = make_engine(plan, earlier, DecisionLog(plan.folder).add)
        self.deadline = time.monotonic() + (plan.time_budget_s or math.inf)

    @property
    def has_free_slot(self) -> bool:
        """Whether fewer trials run than may."""
        return self.engine.running < self.slots

    def start(self, key: str) -> dict[str, Any] | None:
        """A configuration for a new trial, if a slot is free for one."""
        config = self.engine.start(key) if self.has_free_slot else None
        if config is not None:
            self.study.start(key, config)
        return config

    def report(self, key: str, record: dict[str, Any]) -> Action:
        """A trial finished an epoch."""
        self.look_at_the_clock()
        epoch, score = record[metrics.EPOCH], record.get(metrics.SCORE, math.nan)
        action = self.engine.report(key, epoch, score, epoch_seconds(record))
        self.study.report(key, epoch, self.engine.trials[key].curve[epoch])
        return action

    def look_at_the_clock(self) -> None:
        """Close the search once its time is up: epochs that run then are still finished and kept."""
        if time.monotonic() > self.deadline and not self.engine.closed:
            self.engine.close(TIME_IS_UP)

    def close(self, key: str, record: dict[str, Any] | None, failed: bool) -> None:
        """A trial left Ray: it failed, reached its full length, diverged, or the search is over."""
        trial = self.engine.trials[key]
        if failed:
            self.engine.fail(key, "failed; its error.txt says why")
            self.study.end(key, OptunaState.FAIL)
            return
        if record and record.get(metrics.EPOCH) is not None and record[metrics.EPOCH] not in trial.curve:
            self.report(key, record)
        if record and record.get(metrics.DIVERGED):
            self.engine.diverge(key)
        self.engine.end(key, self.engine.closed or SEARCH_OVER)
        complete = trial.epochs >= self.plan.epochs
        self.study.end(key, OptunaState.COMPLETE if complete else OptunaState.PRUNED, trial.curve.get(trial.epochs))

    def take_up(self, trial: Trial) -> str:
        """Ray brings back a trial of an interrupted search; returns the status that it should have there."""
        curve = self.past.pop(trial.trial_id, {})
        diverged = bool((trial.last_result or {}).get(metrics.DIVERGED))
        may_go_on = trial.status != Trial.ERROR and not diverged and (not curve or has_state(trial))
        config = {name: value for name, value in trial.config.items() if name not in self.plan.trial}
        status = self.engine.take_up(trial.trial_id, config, curve, may_go_on)
        if status in (Status.RUNNING, Status.PAUSED):
            self.study.start(trial.trial_id, config, curve)
        if trial.status == Trial.ERROR:
            return Trial.ERROR
        return {Status.RUNNING: Trial.PENDING, Status.PAUSED: Trial.PAUSED}.get(status, Trial.TERMINATED)


def epoch_seconds(record: dict[str, Any]) -> float:
    """What the epoch of a record cost its slot."""
    return sum(record.get(part, 0.0) for part in (metrics.SECONDS_TRAIN, metrics.SECONDS_EVAL))


def has_state(trial: Trial) -> bool:
    """Whether a trial's checkpoint still holds what going on needs: weights of bad trials are deleted."""
    return trial.checkpoint is not None and (Path(trial.checkpoint.path) / STATE).is_file()


class EngineSearcher(Searcher):
    """Asks the engine for new trials. Its state is the experiment's records, so Ray has nothing to save."""

    def __init__(self, executor: Executor) -> None:
        super().__init__(metric=metrics.SCORE, mode=metrics.SCORE_MODE)
        self.executor = executor

    def suggest(self, trial_id: str) -> Any:
        """A configuration; None where no slot is free or a paused trial goes first."""
        config = self.executor.start(trial_id)
        if config is None and (self.executor.engine.exhausted or self.executor.engine.finished):
            return Searcher.FINISHED
        return config

    def on_trial_result(self, trial_id: str, result: dict) -> None:
        """The scheduler has told the engine already."""

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """A trial ended or failed."""
        self.executor.close(trial_id, result, error)

    def save(self, checkpoint_path: str) -> None:
        """Ray wants a file."""
        Path(checkpoint_path).write_text("{}")

    def restore(self, checkpoint_path: str) -> None:
        """Nothing is in it."""


class EngineGenerator(SearchGenerator):
    """Ray's wrapper of a searcher, but a resumed search may have more trials than the interrupted one."""

    def __init__(self, executor: Executor) -> None:
        super().__init__(EngineSearcher(executor))
        self.trials = executor.plan.trials or sys.maxsize

    def set_state(self, state: dict) -> None:
        """Go on counting from the interrupted search, with this one's number of trials."""
        super().set_state(state | {"total_samples": self.trials, "finished": False})


class EngineScheduler(FIFOScheduler):
    """Pauses trials at their rung and promotes them as the engine says; ends those that are left at the end."""

    def __init__(self, executor: Executor) -> None:
        super().__init__()
        self.executor = executor
        self._metric = metrics.SCORE

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """A trial that the engine didn't start comes from an interrupted search: give it its status back."""
        if trial.trial_id not in self.executor.engine.trials:
            trial.set_status(self.executor.take_up(trial))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict) -> str:
        """A trial finished an epoch and isn't done."""
        return ACTIONS[self.executor.report(trial.trial_id, result)]

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The paused trial that a free slot goes on with. Ray has to have saved it before it can run again."""
        engine = self.executor.engine
        paused = {trial.trial_id: trial for trial in tune_controller.get_live_trials() if trial.status == Trial.PAUSED}
        for key, trial in paused.items():
            if engine.trials[key].status is Status.RUNNING:  # Ray kept a pause that an interrupted search had under way
                return trial
        self.executor.look_at_the_clock()
        move = engine.next_move() if self.executor.has_free_slot else None
        if move is not None and move.key in paused:
            engine.promote()
            return paused[move.key]
        if engine.finished:
            for trial in paused.values():
                tune_controller.stop_trial(trial)
        return None
