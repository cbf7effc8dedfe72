"""Ray's schedulers as we set them up, and their rungs after a resume."""

import random
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.tune.schedulers import (
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)

from trainable import metrics
from tuning.past import PastTrial
from tuning.scheduler import Known, make_scheduler, refill


def record(epoch: int, top1: float, timestamp: int = 0) -> dict:
    return {
        metrics.EPOCH: epoch,
        metrics.STEP: epoch,
        metrics.SCORE: top1,
        "training_iteration": epoch,
        "timestamp": timestamp,
    }


def past(key: str, *records: dict) -> PastTrial:
    return PastTrial(key, Path(key), {}, {each[metrics.EPOCH]: each for each in records}, None, False, Path(key))


def decision(scheduler: TrialScheduler, trial_id: str, epoch: int, top1: float) -> str:
    trial, controller = Known(trial_id), SimpleNamespace(get_live_trials=list)
    scheduler.on_trial_add(controller, trial)
    return scheduler.on_trial_result(controller, trial, record(epoch, top1))


def test_a_trial_below_the_top_half_of_its_rung_stops(make_plan):
    scheduler = make_scheduler(make_plan(scheduler="asha-stop"))
    decisions = [decision(scheduler, name, 1, top1) for name, top1 in (("a", 0.9), ("b", 0.5), ("c", 0.95))]
    assert decisions == [TrialScheduler.CONTINUE, TrialScheduler.STOP, TrialScheduler.CONTINUE]


def test_a_trial_stops_at_the_full_length(make_plan):
    assert decision(make_scheduler(make_plan(scheduler="asha-stop", epochs=4)), "a", 4, 0.9) == TrialScheduler.STOP


def test_no_trial_stops_before_the_first_rung(make_plan):
    scheduler = make_scheduler(make_plan(scheduler="asha-stop", epochs=8, first_rung=3))
    refill(scheduler, [past(f"good{index}", record(2, 0.9)) for index in range(5)])
    assert decision(scheduler, "bad", 2, 0.0) == TrialScheduler.CONTINUE


@pytest.mark.parametrize("name", ["asha-stop", "median"])
def test_a_refilled_scheduler_decides_as_the_one_that_saw_everything(make_plan, name):
    rng = random.Random(0)
    scores = {(epoch, index): rng.random() for epoch in (1, 2) for index in range(12)}
    before = [
        past(f"trial{index}", *(record(epoch, scores[epoch, index], 12 * epoch + index) for epoch in (1, 2)))
        for index in range(12)
    ]
    plan = make_plan(scheduler=name, epochs=8)
    watched, refilled, empty = make_scheduler(plan), make_scheduler(plan, before), make_scheduler(plan)
    controller, trials = SimpleNamespace(get_live_trials=list), {}
    for (epoch, index), score in scores.items():
        if index not in trials:
            trials[index] = Known(f"trial{index}")
            watched.on_trial_add(controller, trials[index])
        with suppress(AssertionError):  # Ray's median rule takes no results of a trial that it stopped
            watched.on_trial_result(controller, trials[index], record(epoch, score))
    news = [(f"new{index}", 1, rng.random()) for index in range(20)]
    expected = [decision(watched, *new) for new in news]
    assert [decision(refilled, *new) for new in news] == expected
    assert [decision(empty, *new) for new in news[:1]] == [TrialScheduler.CONTINUE]
    assert TrialScheduler.STOP in expected


def test_the_other_schedulers_are_rays(make_plan):
    assert isinstance(make_scheduler(make_plan(scheduler="none")), FIFOScheduler)
    assert isinstance(make_scheduler(make_plan(scheduler="median")), MedianStoppingRule)
    assert isinstance(make_scheduler(make_plan(scheduler="hyperband")), HyperBandScheduler)
    assert isinstance(make_scheduler(make_plan(scheduler="pbt")), PopulationBasedTraining)
