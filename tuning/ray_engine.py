"""How Ray carries out what the engine decides: a searcher that starts trials, a scheduler that pauses and promotes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune import TuneError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher, SearchGenerator

from trainable import metrics
from tuning.engine import Action, Status
from tuning.executor import Executor
from tuning.failures import end_if_disk_is_full, failure_reason, write_failure
from tuning.ray_trials import make_trial, trial_from_files, write_configuration
from tuning.slots import Places, take_back

ACTIONS = {
    Action.CONTINUE: TrialScheduler.CONTINUE,
    Action.PAUSE: TrialScheduler.PAUSE,
    Action.STOP: TrialScheduler.STOP,
}


class EngineSearcher(Searcher):
    """Stands where Ray wants a searcher; what is asked of it, `EngineGenerator` asks the engine itself."""

    def __init__(self) -> None:
        super().__init__(metric=metrics.SCORE, mode=metrics.SCORE_MODE)

    def suggest(self, trial_id: str) -> None:
        """Not asked."""

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Not asked."""

    def save(self, checkpoint_path: str) -> None:
        """Ray wants a file; what is known is in the trials' folders."""
        Path(checkpoint_path).write_text("{}")

    def restore(self, checkpoint_path: str) -> None:
        """Nothing is in it."""


class EngineGenerator(SearchGenerator):
    """Gives Ray the trials that the engine starts, and those that go on from their files."""

    def __init__(
        self,
        executor: Executor,
        is_held: Callable[[], bool] = lambda: False,
        is_stopped: Callable[[], bool] = lambda: False,
        places: Places | None = None,
    ) -> None:
        super().__init__(EngineSearcher())
        self.executor = executor
        self.is_held = is_held
        """Whether no trial may begin; Ray asks each second while none runs."""
        self.is_stopped = is_stopped
        """Whether the search was told to stop, which Ray itself doesn't notice while it waits for a trial."""
        self.places = places
        """On a cluster: what gives each trial a place of its own kind."""

    def create_trial_if_possible(self, experiment_spec: dict) -> Trial | None:
        """Ray asks for a trial to run."""
        key = self.executor.next_back()
        if key is not None:
            return trial_from_files(self._on_a_place(experiment_spec, key), self._parser, self.executor.read(key))
        new = None if self.is_held() else self.executor.start()
        if new is None:
            return None
        trial = make_trial(self._on_a_place(experiment_spec, new.key), self._parser, new)
        self.executor.folders[new.key] = write_configuration(trial, self.executor.plan.folder)
        return trial

    def _on_a_place(self, spec: dict, key: str) -> dict:
        return spec if self.places is None else spec | {"resources_per_trial": self.places.request(key)}

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """A trial ended; of one that broke the scheduler hears more."""
        if not error:
            self.executor.close(trial_id, result)

    def is_finished(self) -> bool:
        """Whether no trial runs and none will."""
        return self.is_stopped() or self.executor.engine.finished


class EngineScheduler(FIFOScheduler):
    """Pauses trials at their rung and promotes them as the engine says; ends those that are left at the end."""

    def __init__(self, executor: Executor, places: Places | None = None) -> None:
        super().__init__()
        self.executor = executor
        self.places = places
        self._metric = metrics.SCORE

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict) -> str:
        """A trial finished an epoch and isn't done."""
        return ACTIONS[self.executor.report(trial.trial_id, result)]

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """A trial broke."""
        reason = failure_reason(trial)
        end_if_disk_is_full(reason)
        if not self.executor.fail(trial.trial_id, reason):
            write_failure(trial, self.executor.plan.folder)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The paused trial that a free slot goes on with. Ray has to have saved it before it can run again."""
        engine = self.executor.engine
        self._take_back_lost(tune_controller)
        paused = {trial.trial_id: trial for trial in tune_controller.get_live_trials() if trial.status == Trial.PAUSED}
        self.executor.look_at_the_clock()
        move = engine.next_move() if self.executor.has_free_slot else None
        if move is not None and move.key in paused:
            engine.promote()
            trial = paused[move.key]
            if self.places is not None:
                trial.update_resources(self.places.request(trial.trial_id))
            return trial
        over = engine.finished
        for key, trial in paused.items():
            if over or engine.trials[key].status is Status.ENDED:
                tune_controller.stop_trial(trial)
                if trial.status == Trial.PAUSED:  # Ray keeps what was raised to itself, and would ask again for ever
                    raise TuneError(failure_reason(trial))
        return None

    def _take_back_lost(self, tune_controller: Any) -> None:
        """Trials that wait for a place which is gone go on elsewhere."""
        if self.places is None:
            return
        for trial in list(tune_controller.get_live_trials()):
            if trial.status == Trial.PENDING and self.places.is_lost(trial.trial_id):
                take_back(tune_controller._tune_controller, trial)
