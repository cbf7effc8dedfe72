"""What Ray is told where its trials and the engine could disagree; the rest runs in test_run and test_search."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.tune.experiment import Trial

from trainable import metrics
from tuning.decisions import DECISIONS
from tuning.engine import Action, Status
from tuning.executor import (
    MOST_ALIKE,
    SEARCH_OVER,
    TIME_IS_UP,
    Executor,
    known_in_order,
)
from tuning.past import FAILURE, read_past
from tuning.ray_engine import EngineGenerator, EngineScheduler
from tuning.storage import create_experiment, experiment_id
from tuning.study import journal_storage


class NamedTrial(SimpleNamespace):
    """Ray's trial as far as its failure is told."""

    def __str__(self) -> str:
        return "0001-swin_tiny"


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
def make_executor(make_plan, tmp_path) -> Callable[..., Executor]:
    """`make_executor(slots=2, trials=9)`: of the experiment in `tmp_path`, which it takes up if it is there."""

    def make(slots: int = 1, retries: int = 0, **changes) -> Executor:
        plan = make_plan(**{"output": tmp_path, "scheduler": "asha", "trials": 8} | changes)
        if plan.folder.exists():
            return Executor(plan, slots, read_past(plan.folder, experiment_id(plan.folder)), retries=retries)
        create_experiment(plan, {})
        return Executor(plan, slots, retries=retries)

    return make


@pytest.fixture
def parts(make_executor):
    """An executor with two slots and two trials that run, and Ray's side of it."""
    executor, controller = make_executor(slots=2, trials=2), Controller()
    for _ in range(2):
        controller.trials.append(SimpleNamespace(trial_id=executor.start().key, status="RUNNING"))
    return SimpleNamespace(
        executor=executor,
        scheduler=EngineScheduler(executor),
        generator=EngineGenerator(executor),
        controller=controller,
        trials=executor.engine.trials,
    )


def lines(executor: Executor) -> list[dict]:
    return [json.loads(line) for line in (executor.plan.folder / DECISIONS).read_text().splitlines()]


def states(executor: Executor) -> list[str]:
    study = journal_storage(executor.plan.folder)
    (each,) = study.get_all_studies()
    return [trial.state.name for trial in study.get_all_trials(each._study_id)]


def test_no_trial_is_suggested_beyond_the_slots_or_the_number_of_trials(parts, make_executor):
    assert parts.executor.start() is None
    parts.executor.slots = 3
    assert parts.executor.start() is None
    assert len(parts.trials) == 2


def test_a_number_that_no_trial_took_goes_to_the_next(make_executor):
    executor = make_executor(slots=2, trials=2)
    first = executor.start()
    executor.report(first.key, record(1, 0.9))
    executor.engine.close("for now")
    assert executor.start() is None
    executor.engine.close("")
    assert executor.start().number == 2


def test_a_trial_is_promoted_only_when_ray_has_saved_and_paused_it(parts):
    a, b = parts.controller.trials
    assert parts.scheduler.on_trial_result(parts.controller, a, record(1, 0.9)) == "PAUSE"
    b.status = "ERROR"
    parts.executor.fail(b.trial_id, "it broke")
    parts.trials[b.trial_id].curve[1] = 0.1
    assert parts.executor.engine.next_move().key == a.trial_id
    assert parts.scheduler.choose_trial_to_run(parts.controller) is None
    a.status = "PAUSED"
    assert parts.scheduler.choose_trial_to_run(parts.controller) is a
    assert parts.trials[a.trial_id].status is Status.RUNNING


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
    assert parts.controller.stopped == [a.trial_id]
    parts.generator.on_trial_complete(a.trial_id, record(1, 0.5))
    assert lines(parts.executor)[-1]["reason"] == SEARCH_OVER


def test_each_decision_is_a_line_with_its_reason(parts):
    a, b = parts.controller.trials
    parts.scheduler.on_trial_result(parts.controller, a, record(1, 0.9))
    assert [(line["kind"], line["trial"], line["step"]) for line in lines(parts.executor)] == [
        ("start", a.trial_id, 0),
        ("start", b.trial_id, 0),
        ("pause", a.trial_id, 1),
    ]
    assert all(line["reason"] for line in lines(parts.executor))


def test_a_record_without_a_score_counts_as_the_worst_and_the_search_goes_on(parts):
    a, b = parts.controller.trials
    without = record(1, 0.0)
    del without[metrics.SCORE]
    assert parts.scheduler.on_trial_result(parts.controller, a, without) == "PAUSE"
    assert parts.trials[a.trial_id].curve == {1: 0.0}
    assert parts.scheduler.on_trial_result(parts.controller, b, record(1, math.inf)) == "PAUSE"
    assert parts.trials[b.trial_id].curve == {1: 0.0}


def test_when_the_time_is_up_epochs_are_finished_and_nothing_begins(parts):
    a, b = parts.controller.trials
    parts.executor.deadline = 0.0
    assert parts.scheduler.on_trial_result(parts.controller, a, record(1, 0.9)) == "STOP"
    assert parts.scheduler.choose_trial_to_run(parts.controller) is None
    assert not parts.generator.is_finished()
    assert parts.scheduler.on_trial_result(parts.controller, b, record(1, 0.8)) == "STOP"
    assert parts.executor.start() is None
    assert parts.generator.is_finished()
    assert lines(parts.executor)[-1]["reason"] == TIME_IS_UP


def test_a_trial_that_diverges_between_two_rungs_counts_as_the_worst_at_the_next(make_executor):
    executor = make_executor(first_rung=2, scheduler="freeze-thaw")
    key = executor.start().key
    executor.close(key, record(1, 0.0, **{metrics.DIVERGED: True}))
    assert executor.engine.policy.results == [(key, 2, 0.0)]
    assert executor.engine.trials[key].status is Status.ENDED


def test_a_diverged_trial_ends_with_the_worst_score(parts):
    key = parts.controller.trials[0].trial_id
    parts.generator.on_trial_complete(key, record(1, 0.0) | {metrics.DIVERGED: True})
    assert parts.trials[key].status is Status.ENDED
    assert parts.trials[key].curve == {1: 0.0}
    assert "diverged" in lines(parts.executor)[-1]["reason"]


# Trials that break


def test_a_broken_trial_is_waited_for_and_tried_again_before_it_has_failed(make_executor):
    executor = make_executor(retries=2)
    key = executor.start().key
    for _ in range(2):
        assert executor.fail(key, "it broke")
        assert executor.engine.trials[key].status is Status.RUNNING
        assert executor.start() is None, "the slot is kept for it"
        assert executor.next_back() == key
        assert executor.next_back() is None
    assert not executor.fail(key, "it broke")
    assert executor.engine.trials[key].status is Status.FAILED
    assert lines(executor)[-1]["kind"] == "fail"
    assert lines(executor)[-1]["reason"] == "it broke"
    assert states(executor) == ["FAIL"]
    assert executor.start() is not None


def test_a_new_epoch_gives_a_trial_its_retries_back_and_an_old_one_does_not(make_executor):
    executor = make_executor(retries=1, first_rung=4, epochs=8)
    key = executor.start().key
    executor.report(key, record(1, 0.1))
    assert executor.fail(key, "it broke")
    executor.next_back()
    executor.report(key, record(2, 0.2))
    assert executor.fail(key, "it broke")
    executor.next_back()
    executor.report(key, record(2, 0.2))  # from the checkpoint of epoch 1
    assert not executor.fail(key, "it broke")


def test_an_epoch_that_is_trained_again_is_told_once_to_the_study(make_executor):
    executor = make_executor(retries=1, first_rung=2)
    key = executor.start().key
    executor.report(key, record(1, 0.1))
    executor.fail(key, "it broke")
    executor.next_back()
    assert executor.report(key, record(1, 0.1)) == "continue"
    assert executor.report(key, record(2, 0.2)) == "pause"
    storage = journal_storage(executor.plan.folder)
    (study,) = storage.get_all_studies()
    (trial,) = storage.get_all_trials(study._study_id)
    assert trial.intermediate_values == {1: 0.1, 2: 0.2}


def break_while_paused(parts, leave_trial, saved: int) -> str:
    """The first trial reaches rung 1 and breaks while it is saved there, with a checkpoint of epoch `saved`."""
    key = parts.controller.trials[0].trial_id
    parts.executor.retries = 1
    parts.executor.report(key, record(1, 0.9))
    config = parts.trials[key].config
    parts.executor.folders[key] = leave_trial(parts.executor.plan.folder, 1, config, [0.9], saved=saved)
    assert parts.executor.fail(key, "it broke while it was saved")
    return key


def test_a_trial_that_breaks_after_it_was_saved_at_its_rung_waits_there(parts, leave_trial):
    a = break_while_paused(parts, leave_trial, saved=1)
    assert (parts.executor.away, parts.executor.waiting) == ({a}, [])
    assert parts.executor.next_back() is None, "nothing promotes it yet"
    parts.executor.report(parts.controller.trials[1].trial_id, record(1, 0.1))
    assert parts.executor.next_back() == a
    assert parts.trials[a].status is Status.RUNNING
    assert parts.trials[a].target == 2
    assert parts.executor.away == set()


def test_a_trial_that_breaks_before_it_was_saved_at_its_rung_runs_there_again(parts, leave_trial):
    a = break_while_paused(parts, leave_trial, saved=0)
    assert (parts.executor.away, parts.executor.waiting) == (set(), [a])
    assert parts.executor.next_back() == a
    assert parts.trials[a].target == 1
    assert parts.executor.report(a, record(1, 0.9)) is Action.PAUSE
    assert parts.trials[a].status is Status.PAUSED


def break_for_good(executor: Executor, reason: str) -> str:
    """A new trial, with its folder, that fails as Ray's trials do."""
    new = executor.start()
    folder = executor.folders[new.key] = executor.plan.folder / f"{new.number:04}-swin_tiny"
    folder.mkdir()
    (folder / "params.json").write_text(json.dumps(new.config))
    while executor.fail(new.key, reason):
        executor.next_back()
    (folder / FAILURE).write_text(reason)
    return new.key


def failed_folders(executor: Executor) -> list[str]:
    return sorted(path.parent.name[:4] for path in executor.plan.folder.glob(f"*/{FAILURE}"))


def test_trials_that_fail_alike_end_the_search_and_are_tried_again_by_a_resume(make_executor):
    executor = make_executor(retries=1)
    keys = [break_for_good(executor, f"ValueError: no such file {number}.png") for number in range(MOST_ALIKE)]
    assert executor.stopped_by == "ValueError: no such file 2.png"
    assert "failed alike: ValueError: no such file 2.png" in executor.engine.closed
    assert executor.start() is None
    assert EngineGenerator(executor).is_finished()
    executor.end_rest()
    assert failed_folders(executor) == []
    resumed = make_executor(retries=1)
    assert resumed.waiting == keys
    assert [resumed.engine.trials[key].status for key in keys] == [Status.RUNNING] * MOST_ALIKE


def test_failures_of_different_causes_do_not_end_the_search(make_executor):
    executor = make_executor()
    for reason in ("ValueError: a", "ValueError: b", "ValueError: a", "ValueError: a"):
        break_for_good(executor, reason)
    assert executor.stopped_by is None
    executor.end_rest()
    assert failed_folders(executor) == ["0001", "0002", "0003", "0004"]


def test_a_trial_that_does_well_in_between_starts_the_count_of_failures_again(make_executor):
    executor = make_executor()
    for _ in range(MOST_ALIKE - 1):
        break_for_good(executor, "ValueError: a")
    executor.report(executor.start().key, record(1, 0.5))
    for _ in range(MOST_ALIKE - 1):
        break_for_good(executor, "ValueError: a")
    assert executor.stopped_by is None


@pytest.mark.parametrize("other", ["does well", "fails otherwise", "fails alike"])
def test_what_still_runs_when_failures_end_the_search_does_not_keep_those_from_being_tried_again(make_executor, other):
    executor = make_executor(slots=2)
    runs = executor.start()
    folder = executor.folders[runs.key] = executor.plan.folder / "0001-swin_tiny"
    folder.mkdir()
    for _ in range(MOST_ALIKE):
        break_for_good(executor, "ValueError: a")
    if other == "does well":
        assert executor.report(runs.key, record(1, 0.5)) == "stop"
    else:
        assert not executor.fail(runs.key, {"fails otherwise": "OSError: b", "fails alike": "ValueError: a"}[other])
        (folder / FAILURE).write_text("")
    executor.end_rest()
    assert failed_folders(executor) == (["0001"] if other == "fails otherwise" else [])


def test_ray_is_told_nothing_of_a_trial_that_broke_and_its_folder_says_why_once_it_has_failed(make_executor, tmp_path):
    executor = make_executor(retries=1)
    scheduler, generator = EngineScheduler(executor), EngineGenerator(executor)
    new, error = executor.start(), tmp_path / "error.txt"
    error.write_text("Failure # 1 (occurred at 2026-11-24)\nTraceback\nValueError: a\n")
    folder = executor.plan.folder / "0001-swin_tiny"
    storage = SimpleNamespace(trial_working_directory=str(tmp_path))
    trial = NamedTrial(trial_id=new.key, error_file=str(error), storage=storage)
    for has_failed in (False, True):
        scheduler.on_trial_error(Controller(), trial)
        generator.on_trial_complete(new.key, None, error=True)
        assert (folder / FAILURE).exists() == has_failed
        executor.next_back()
    assert (folder / FAILURE).read_text() == "ValueError: a\n"
    assert states(executor) == ["FAIL"]


def test_a_trial_whose_process_ran_out_of_memory_goes_on_once_fewer_run(parts):
    a, b = (trial.trial_id for trial in parts.controller.trials)
    said = []
    parts.executor.retries, parts.executor.say = 2, said.append
    assert parts.executor.fail(a, "ray.exceptions.OutOfMemoryError: Task was killed: the node is low on memory")
    assert parts.executor.next_back() is None, "one trial runs, and no more may"
    assert said == ["memory is short: 1 trial at once from now on"]
    assert parts.executor.failures[a] == 0, "it is the fault of all that ran"
    parts.executor.report(b, record(1, 0.1))
    assert parts.executor.next_back() == a
    parts.executor.fail(a, "ray.exceptions.OutOfMemoryError")
    assert parts.executor.slots == 1
    assert parts.executor.next_back() == a


def test_a_trial_that_ray_loses_touch_with_once_is_not_to_blame(parts):
    a, executor = parts.controller.trials[0].trial_id, parts.executor
    unreachable = "The actor 3f9a is unavailable: The actor is temporarily unavailable: RpcError: Socket closed"
    assert executor.fail(a, unreachable)
    assert executor.failures[a] == 0
    assert executor.next_back() == a
    assert not executor.fail(a, unreachable), "its machine can't be gone twice without an epoch in between"


def test_machines_that_come_and_go_do_not_bring_back_what_memory_has_no_room_for(parts):
    a, executor = parts.controller.trials[0].trial_id, parts.executor
    executor.fail(a, "ray.exceptions.OutOfMemoryError")
    executor.resize(5)
    assert executor.slots == 4
    executor.resize(0)
    assert executor.slots == 1, "a trial waits for a node, so that an autoscaler hears of it"


def test_room_is_made_by_ending_the_least_promising_paused_trial_which_ray_then_lets_go_of(parts):
    a, b = parts.controller.trials
    for trial, top1 in ((a, 0.1), (b, 0.9)):
        parts.scheduler.on_trial_result(parts.controller, trial, record(1, top1))
        trial.status = "PAUSED"
    parts.executor.slots = 0
    assert parts.executor.give_up("it made room") == a.trial_id
    assert parts.trials[a.trial_id].status is Status.ENDED
    assert parts.scheduler.choose_trial_to_run(parts.controller) is None
    assert parts.controller.stopped == [a.trial_id]
    parts.generator.on_trial_complete(a.trial_id, record(1, 0.1))
    assert states(parts.executor) == ["PRUNED", "RUNNING"]
    assert lines(parts.executor)[-1]["reason"] == "it made room"


# Searches that are resumed


@pytest.fixture
def interrupted(make_plan, make_executor, tmp_path, leave_trial):
    """`interrupted({1: [0.5, 0.6], 2: [0.4]})` leaves trials with these scores in the folder; returns their keys.

    They were started in the order of their numbers, and reached one rung after the other, the first trial first.
    """

    def leave(scores: dict[int, list[float]], **changes) -> list[str]:
        executor = make_executor(slots=len(scores), **changes)
        news = [executor.start() for _ in scores]
        for new, (number, curve) in zip(news, scores.items(), strict=True):
            assert new.number == number
            leave_trial(executor.plan.folder, number, new.config | {"epochs": 4, "data": "images"}, curve)
        for epoch in range(1, 1 + max(map(len, scores.values()))):
            for new in news:
                curve = scores[new.number]
                if len(curve) >= epoch and executor.engine.trials[new.key].status is not Status.ENDED:
                    if executor.engine.trials[new.key].status is Status.PAUSED:
                        executor.engine.is_chosen, executor.engine.move = (
                            True,
                            SimpleNamespace(key=new.key, reason="made up", rank=1, expected_improvement=None),
                        )
                        executor.engine.promote()
                    executor.report(new.key, record(epoch, curve[epoch - 1]))
        return [new.key for new in news]

    return leave


def test_a_resumed_search_has_paused_trials_away_until_they_are_promoted(interrupted, make_executor):
    a, b = interrupted({1: [0.9], 2: [0.1]}, trials=2)
    resumed = make_executor(trials=2)
    assert resumed.away == {a, b}
    assert resumed.waiting == []
    assert resumed.next_back() == a
    assert resumed.next_back() is None, "there is one slot"
    assert resumed.away == {b}
    assert resumed.engine.trials[a].status is Status.RUNNING
    assert states(resumed) == ["RUNNING", "RUNNING"]
    assert resumed.report(a, record(2, 0.95)) == "pause"
    assert resumed.engine.finished
    resumed.close(a, record(2, 0.95))
    resumed.end_rest()
    assert states(resumed) == ["PRUNED", "PRUNED"]
    assert [(line["trial"], line["reason"]) for line in lines(resumed)[-2:]] == [(a, SEARCH_OVER), (b, SEARCH_OVER)]


def test_a_trial_that_reaches_its_full_length_after_a_resume_is_complete(interrupted, make_executor):
    (a,) = interrupted({1: [0.5, 0.6, 0.7]}, trials=1)
    resumed = make_executor(trials=1)
    assert resumed.next_back() == a
    resumed.close(a, record(4, 0.8))
    assert states(resumed) == ["COMPLETE"]
    assert lines(resumed)[-1]["kind"] == "end"


def test_trials_that_were_cut_off_go_on_first_and_no_more_than_there_are_slots(interrupted, make_executor):
    keys = interrupted({1: [0.5, 0.6, 0.7], 2: [], 3: [0.4, 0.5, 0.6]})
    resumed = make_executor(slots=2)
    assert resumed.waiting == keys
    assert [resumed.next_back() for _ in range(3)] == [*keys[:2], None]
    assert resumed.start() is None
    resumed.report(keys[1], record(1, 0.3))
    assert resumed.next_back() == keys[2]
    assert resumed.start() is None


def test_a_resumed_search_goes_on_counting_its_trials(interrupted, make_executor):
    keys = interrupted({1: [0.9], 2: [0.8]}, trials=3)
    new = make_executor(slots=2, trials=3, scheduler="freeze-thaw").start()
    assert new.number == 3
    assert new.key not in keys
    assert new.key[:-4] == keys[0][:-4]


def test_a_start_whose_trial_left_no_folder_is_forgotten(interrupted, make_executor):
    a, b = interrupted({1: [0.9], 2: []})
    for path in next(make_executor().plan.folder.glob("0002-*")).iterdir():
        path.unlink()
    resumed = make_executor(slots=2)
    assert list(resumed.engine.trials) == [a]
    assert b not in {line["trial"] for line in lines(resumed)}
    assert states(resumed) == ["RUNNING"]


def test_a_start_that_was_decided_but_not_written_is_written_again(interrupted, make_executor):
    a, b = interrupted({1: [0.9], 2: []})
    log = make_executor().log.path
    log.write_text("".join(line + "\n" for line in log.read_text().splitlines() if b not in line))
    resumed = make_executor(slots=2)
    assert list(resumed.engine.trials) == [a, b]
    last = lines(resumed)[-1]
    assert (last["kind"], last["trial"], last["step"], last["target"]) == ("start", b, 0, 1)
    assert resumed.waiting == [b]


def test_a_search_without_its_decisions_is_put_back_from_the_folders_alone(interrupted, make_executor):
    a, b = interrupted({1: [0.9, 0.95, 0.96], 2: [0.1]})
    make_executor().log.path.unlink()
    resumed = make_executor(slots=2)
    assert {key: trial.curve for key, trial in resumed.engine.trials.items()} == {
        a: {1: 0.9, 2: 0.95, 3: 0.96},
        b: {1: 0.1},
    }
    assert [line["trial"] for line in lines(resumed)] == [a, b]


def test_an_epoch_that_was_decided_upon_but_not_recorded_is_trained_again(interrupted, make_executor):
    a, b = interrupted({1: [0.9], 2: [0.1]})
    (folder,) = make_executor().plan.folder.glob("0001-*")
    (folder / "result.json").write_text("")
    shutil.rmtree(*folder.glob("checkpoint_*"))  # it's written after the record
    resumed = make_executor(slots=2)
    assert resumed.waiting == [a]
    assert resumed.engine.trials[a].curve == {}
    assert ("pause", a) not in {(line["kind"], line["trial"]) for line in lines(resumed)}
    assert resumed.away == {b}


def test_failed_and_diverged_trials_and_those_without_weights_stay_ended(interrupted, make_executor):
    keys = interrupted({1: [0.9], 2: [0.8], 3: [0.7]})
    folders = sorted(make_executor().plan.folder.glob("0*"))
    (folders[0] / FAILURE).write_text("ValueError: a")
    diverged = record(1, 0.0, **{metrics.DIVERGED: True, "done": True, "trial_id": keys[1]})
    (folders[1] / "result.json").write_text(json.dumps(diverged) + "\n")
    next(folders[2].glob("checkpoint_*/state.pt")).unlink()
    resumed = make_executor(slots=3)
    assert [resumed.engine.trials[key].status for key in keys] == [Status.ENDED] * 3
    assert (resumed.waiting, resumed.away) == ([], set())
    assert states(resumed) == ["FAIL", "PRUNED", "PRUNED"]


@pytest.mark.parametrize("score", [None, math.nan])
def test_a_resumed_search_takes_a_record_without_a_score_as_the_worst_too(interrupted, make_executor, score):
    (a,) = interrupted({1: [0.9]})
    (path,) = make_executor().plan.folder.glob("0001-*/result.json")
    line = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in line.items() if name != metrics.SCORE} if score is None
                               else line | {metrics.SCORE: score}) + "\n")  # fmt: skip
    assert make_executor().engine.trials[a].curve == {1: 0.0}


def test_a_trial_that_diverged_between_two_rungs_is_known_as_the_worst_at_the_next_also_after_a_resume(
    interrupted, make_executor
):
    options = {"first_rung": 2, "scheduler": "freeze-thaw"}
    (a,) = interrupted({1: [0.0]}, **options)
    (path,) = make_executor(**options).plan.folder.glob("0001-*/result.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {metrics.DIVERGED: True, "done": True}) + "\n")
    resumed = make_executor(**options)
    assert resumed.engine.policy.results == [(a, 2, 0.0)]
    assert resumed.engine.trials[a].status is Status.ENDED


def test_a_resumed_search_with_a_time_budget_knows_what_epochs_cost(interrupted, make_executor):
    options = {"scheduler": "freeze-thaw", "time_budget_s": 1000}
    (a,) = interrupted({1: [0.9]}, **options)
    (path,) = make_executor(**options).plan.folder.glob("0001-*/result.json")
    seconds = {metrics.SECONDS_TRAIN: 7.0, metrics.SECONDS_EVAL: 1.0}
    path.write_text(json.dumps(json.loads(path.read_text()) | seconds) + "\n")
    engine = make_executor(**options).engine
    assert engine.policy.cost.predict([engine.trials[a].config]) == [8.0]


def test_what_is_known_comes_in_the_order_of_the_decisions():
    curves = {"a": {1: 0.1, 2: 0.2, 3: 0.3}, "b": {1: 0.4}}
    order = {("a", 0): 0, ("b", 0): 1, ("b", 1): 2, ("a", 2): 5}
    assert known_in_order(curves, order) == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("a", 3)]


def test_what_was_decided_upon_later_than_all_else_is_known_last():
    """A place is a line's number: there are more lines than places, as a pause and a promotion share one."""
    curves = {"a": {1: 0.1, 2: 0.2}, "b": {}}
    assert known_in_order(curves, {("a", 0): 0, ("a", 1): 1, ("b", 0): 7})[-1] == ("a", 2)


def test_a_trial_is_known_before_its_epochs_even_if_the_line_of_its_start_is_the_last():
    assert known_in_order({"a": {1: 0.1}}, {("a", 1): 0, ("a", 0): 1}) == [("a", 0), ("a", 1)]


def test_ray_gets_new_trials_with_their_folder_and_old_ones_from_their_files(make_executor, ray_spec):
    executor = make_executor()
    generator, spec = EngineGenerator(executor), ray_spec(executor.plan)
    trial = generator.create_trial_if_possible(spec)
    assert isinstance(trial, Trial)
    folder = executor.folders[trial.trial_id]
    assert folder.name == str(trial) == "0001-swin_tiny"
    assert json.loads((folder / "params.json").read_text()) == trial.config
    assert generator.create_trial_if_possible(spec) is None
    executor.retries = 1
    executor.fail(trial.trial_id, "it broke")
    again = generator.create_trial_if_possible(spec)
    assert again is not trial
    assert (again.trial_id, str(again), again.config) == (trial.trial_id, str(trial), trial.config)
    assert generator.create_trial_if_possible(spec) is None


def test_the_searcher_that_ray_saves_holds_nothing(make_executor, tmp_path):
    searcher = EngineGenerator(make_executor()).searcher
    searcher.save(str(tmp_path / "searcher"))
    searcher.restore(str(tmp_path / "searcher"))
    assert Path(tmp_path / "searcher").read_text() == "{}"


def test_nothing_new_begins_where_it_is_held_but_what_broke_goes_on(make_executor, ray_spec):
    executor, held = make_executor(slots=2, retries=1), [False]
    generator, spec = EngineGenerator(executor, lambda: held[0]), ray_spec(make_executor().plan)
    trial = generator.create_trial_if_possible(spec)
    held[0] = True
    assert generator.create_trial_if_possible(spec) is None
    assert not generator.is_finished()
    executor.fail(trial.trial_id, "it broke")
    assert generator.create_trial_if_possible(spec).trial_id == trial.trial_id


def test_paused_trials_that_gave_way_are_not_waited_for_after_a_resume(interrupted, make_executor):
    a, b = interrupted({1: [0.9], 2: [0.1]})
    resumed = make_executor()
    assert resumed.give_up("it made room") == b
    assert resumed.away == {a}
    assert states(resumed) == ["RUNNING", "PRUNED"]
    assert resumed.give_up("it made room") == a
    assert resumed.give_up("it made room") is None
