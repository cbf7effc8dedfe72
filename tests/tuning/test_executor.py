"""What Ray is told where its trials and the engine could disagree; the rest runs in test_run and test_search."""

import json
import math
from types import SimpleNamespace

import pytest

from trainable import metrics
from tuning.decisions import DECISIONS
from tuning.engine import Status
from tuning.executor import TIME_IS_UP, EngineScheduler, EngineSearcher, Executor


class Controller:
    """The part of Ray's controller that a scheduler calls."""

    def __init__(self) -> None:
        self.trials: list[SimpleNamespace] = []
        self.stopped: list[str] = []

    def get_live_trials(self):
        return self.trials

    def stop_trial(self, trial):
        self.stopped.append(trial.trial_id)
        trial.status = "TERMINATED"


def record(epoch: int, top1: float, **more) -> dict:
    return {metrics.EPOCH: epoch, metrics.SCORE: top1, metrics.DIVERGED: False} | more


@pytest.fixture
def parts(make_plan, tmp_path):
    """An executor with two slots and two trials that run, and Ray's side of it."""
    plan = make_plan(output=tmp_path, trials=2, scheduler="asha")
    plan.folder.mkdir()
    executor = Executor(plan, slots=2)
    scheduler, searcher, controller = EngineScheduler(executor), EngineSearcher(executor), Controller()
    for key in ("a", "b"):
        config = searcher.suggest(key)
        controller.trials.append(SimpleNamespace(trial_id=key, status="RUNNING", config=config))
    return SimpleNamespace(
        executor=executor, scheduler=scheduler, searcher=searcher, controller=controller, folder=plan.folder
    )


def test_no_trial_is_suggested_beyond_the_slots_or_the_number_of_trials(parts):
    assert parts.searcher.suggest("c") is None


def test_a_trial_is_promoted_only_when_ray_has_saved_and_paused_it(parts):
    a, b = parts.controller.trials
    assert parts.scheduler.on_trial_result(parts.controller, a, record(1, 0.9)) == "PAUSE"
    b.status = "ERROR"
    parts.searcher.on_trial_complete("b", None, error=True)
    parts.executor.engine.trials["b"].curve[1] = 0.1
    assert parts.executor.engine.next_move().key == "a"
    assert parts.scheduler.choose_trial_to_run(parts.controller) is None
    a.status = "PAUSED"
    assert parts.scheduler.choose_trial_to_run(parts.controller) is a
    assert parts.executor.engine.trials["a"].status is Status.RUNNING


def test_a_trial_that_ray_paused_by_an_old_decision_runs_on(parts):
    a, _ = parts.controller.trials
    a.status = "PAUSED"
    assert parts.executor.engine.trials["a"].status is Status.RUNNING
    assert parts.scheduler.choose_trial_to_run(parts.controller) is a


def test_paused_trials_end_when_nothing_is_left_that_could_promote_them(parts):
    a, b = parts.controller.trials
    for trial, top1 in ((a, 0.5), (b, 0.6)):
        for epoch in range(1, 5):
            if parts.scheduler.on_trial_result(parts.controller, trial, record(epoch, top1)) != "CONTINUE":
                break
        trial.status = "PAUSED" if trial is a else "TERMINATED"
    assert parts.scheduler.choose_trial_to_run(parts.controller) is None
    while (chosen := parts.scheduler.choose_trial_to_run(parts.controller)) is not None:
        assert parts.scheduler.on_trial_result(parts.controller, chosen, record(4, 0.5)) == "STOP"
    assert parts.controller.stopped == ["a"]


def test_each_decision_is_a_line_with_its_reason(parts):
    a, _ = parts.controller.trials
    parts.scheduler.on_trial_result(parts.controller, a, record(1, 0.9))
    lines = [json.loads(line) for line in (parts.folder / DECISIONS).read_text().splitlines()]
    assert [(line["kind"], line["trial"], line["epochs"]) for line in lines] == [
        ("start", "a", 0),
        ("start", "b", 0),
        ("pause", "a", 1),
    ]
    assert all(line["reason"] for line in lines)


def test_a_record_without_a_score_counts_as_the_worst_and_the_search_goes_on(parts):
    a, b = parts.controller.trials
    without = record(1, 0.0)
    del without[metrics.SCORE]
    assert parts.scheduler.on_trial_result(parts.controller, a, without) == "PAUSE"
    assert parts.executor.engine.trials["a"].curve == {1: 0.0}
    assert parts.scheduler.on_trial_result(parts.controller, b, record(1, math.inf)) == "PAUSE"
    assert parts.executor.engine.trials["b"].curve == {1: 0.0}


def test_when_the_time_is_up_epochs_are_finished_and_nothing_begins(parts):
    a, b = parts.controller.trials
    parts.executor.deadline = 0.0
    assert parts.scheduler.on_trial_result(parts.controller, a, record(1, 0.9)) == "STOP"
    assert parts.scheduler.choose_trial_to_run(parts.controller) is None
    assert parts.scheduler.on_trial_result(parts.controller, b, record(1, 0.8)) == "STOP"
    assert parts.searcher.suggest("c") == "FINISHED"
    assert TIME_IS_UP in (parts.folder / DECISIONS).read_text()


def test_a_trial_that_diverges_between_two_rungs_counts_as_the_worst_at_the_next(make_plan, tmp_path):
    plan = make_plan(output=tmp_path, first_rung=2, scheduler="freeze-thaw")
    plan.folder.mkdir()
    executor = Executor(plan, slots=1)
    executor.start("a")
    executor.close("a", record(1, 0.0) | {metrics.DIVERGED: True}, failed=False)
    assert executor.engine.policy.results == [("a", 2, 0.0)]
    assert executor.engine.trials["a"].status is Status.ENDED


def test_a_diverged_trial_ends_with_the_worst_score(parts):
    diverged = record(1, 0.0) | {metrics.DIVERGED: True}
    parts.searcher.on_trial_complete("a", diverged)
    assert parts.executor.engine.trials["a"].status is Status.ENDED
    assert parts.executor.engine.trials["a"].curve == {1: 0.0}
    assert "diverged" in (parts.folder / DECISIONS).read_text()
