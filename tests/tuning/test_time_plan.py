"""What a plan makes of its time."""

import math
import time

import pytest

from search_spaces import for_pretrained, get_space, is_probe, narrow, with_geometry
from trainable.errors import UsageError
from trainable.pace import Pace
from tuning.arithmetic import GROWING_SHARE, training_gmacs
from tuning.first import fine_tuning_starts, probes
from tuning.length import FINE_TUNING
from tuning.plan import SearchPlan
from tuning.time_plan import (
    EXPORT_S,
    LEAST_SHARE,
    REPORT_S,
    Clock,
    Images,
    LengthOptions,
    batch_of,
    check_time,
    first_configuration,
    reserve_seconds,
    slots_in_time,
    training_seconds,
    usual_pace,
    with_length,
)

IMAGES = Images(train=9500, holdout=1000, side=32)
PACE = Pace(train=1 / 300, evaluate=1 / 1000)


@pytest.fixture
def plan(tmp_path) -> SearchPlan:
    space = with_geometry(get_space("swin"), 32, cheap=True)
    return SearchPlan(space=space, trial={}, epochs=30, time_budget_s=300, name="a", output=tmp_path)


def test_the_length_follows_from_the_budget_and_the_first_runs_in_full(plan):
    short, long = (
        with_length(plan.model_copy(update={"time_budget_s": s}), LengthOptions(), IMAGES, PACE) for s in (300, 3600)
    )
    assert short.epochs < long.epochs <= 30
    assert short.first_in_full
    assert short.rungs[-1] == short.length
    assert SearchPlan.model_validate_json(short.model_dump_json()) == short


def test_an_asked_length_stays_and_nothing_runs_in_full_before_others(plan):
    asked = with_length(plan, LengthOptions(epochs=8), IMAGES, PACE)
    assert asked.epochs == 8
    assert not asked.first_in_full


def test_a_slower_machine_gets_a_shorter_training(plan):
    slow = PACE._replace(train=3 * PACE.train)
    assert (
        with_length(plan, LengthOptions(), IMAGES, slow).epochs
        < with_length(plan, LengthOptions(), IMAGES, PACE).epochs
    )


def test_what_a_step_costs_is_known_from_the_pace(plan):
    measured = with_length(plan, LengthOptions(), IMAGES, PACE, is_measured=True)
    engine_cost = measured.work
    assert engine_cost.is_measured
    a_step = engine_cost.seconds * training_gmacs(first_configuration(measured), 32)
    assert a_step == pytest.approx(measured.epochs * IMAGES.train * PACE.train / measured.length)


def test_unknown_images_leave_whole_epochs(plan):
    unknown = with_length(plan, LengthOptions(epochs=2.5), None, None)
    assert (unknown.epochs, unknown.length) == (2.5, 3)


def test_more_updates_a_step_than_a_training_has_are_refused(plan):
    with pytest.raises(UsageError, match=r"--step-updates 100000: a full training has \d+ updates"):
        with_length(plan, LengthOptions(step_updates=100_000), IMAGES, PACE)
    steps = with_length(plan, LengthOptions(epochs=4, step_updates=37), IMAGES, PACE).length
    assert steps == 4 * (9500 // 64) // 37


@pytest.mark.parametrize("budget_s", [20, 60, 300, 3600])
def test_the_end_is_kept_back_and_training_gets_its_share(plan, budget_s):
    plan = plan.model_copy(update={"time_budget_s": budget_s})
    reserve = reserve_seconds(plan, IMAGES, PACE)
    assert reserve <= (1 - LEAST_SHARE) * budget_s
    assert reserve > EXPORT_S + REPORT_S or reserve == pytest.approx((1 - LEAST_SHARE) * budget_s)
    assert training_seconds(plan.model_copy(update={"reserve_s": reserve}), 10) == pytest.approx(
        max(1, budget_s - reserve - 10)
    )


def test_a_budget_below_some_updates_says_what_it_would_take(plan):
    with pytest.raises(UsageError, match=r"--time-budget 00:20: .*give \d\d:\d\d or more"):
        check_time(plan.model_copy(update={"time_budget_s": 20}), IMAGES, Pace(1.0, 0.1), used_s=10)
    check_time(plan, IMAGES, PACE, used_s=20)


def test_few_long_trainings_a_slot_make_fewer_slots(plan):
    pace = usual_pace(plan, IMAGES, 1)
    timed = with_length(plan, LengthOptions(), IMAGES, pace)
    assert slots_in_time(timed, IMAGES, pace, 2) == 1
    day = with_length(plan.model_copy(update={"time_budget_s": 86_400}), LengthOptions(), IMAGES, pace)
    assert slots_in_time(day, IMAGES, pace, 2) == 2


def test_the_batch_is_that_of_the_first_configuration(plan):
    assert batch_of(plan, IMAGES) == 64
    assert batch_of(plan, IMAGES._replace(train=10)) == 10


def test_the_clock_counts_from_the_command():
    clock = Clock(time.time() - 10, 60, 20)
    assert clock.training_ends == pytest.approx(time.time() + 30, abs=1)
    assert clock.left() == pytest.approx(50, abs=1)
    (_, seconds) = clock.option(keep_s=5)
    assert float(seconds.removesuffix("s")) == pytest.approx(45, abs=1)
    assert Clock(0, 60, 20).option() == ("--time-budget", "1.0s")


def test_without_a_budget_there_is_no_end():
    clock = Clock(time.time(), None, 0)
    assert clock.training_ends == clock.left() == math.inf
    assert clock.training_left() is None
    assert clock.option() == ()


def test_images_that_grow_get_more_epochs_of_the_same_time(tmp_path):
    images = IMAGES._replace(side=64)
    space = with_geometry(get_space("resnet"), 64, cheap=True)
    growing = SearchPlan(space=space, trial={}, epochs=30, time_budget_s=300, name="a", output=tmp_path)
    whole = growing.model_copy(update={"space": narrow(space, ["progressive_resize=false"])})
    lengths = [with_length(each, LengthOptions(), images, PACE) for each in (growing, whole)]
    assert lengths[0].epochs / lengths[1].epochs == pytest.approx(1 / GROWING_SHARE, rel=0.15)
    seconds = [each.work.seconds * training_gmacs(first_configuration(each), 64) * each.length for each in lengths]
    assert seconds[0] == pytest.approx(seconds[1], rel=0.1)
    assert usual_pace(growing, images, 2) == usual_pace(whole, images, 2)


@pytest.fixture
def tuned(tmp_path) -> SearchPlan:
    """A search from published weights of three architectures."""
    space = for_pretrained(narrow(get_space("all"), ["arch=resnet18,resnet34,resnet152"]))
    return SearchPlan(
        space=space, trial={"pretrained": True}, epochs=15, time_budget_s=300, name="a", output=tmp_path,
        first=probes(space), starts=fine_tuning_starts(space),
    )  # fmt: skip


PHOTOS, SLOW = Images(train=1000, holdout=100, side=224), Pace(train=1 / 20, evaluate=1 / 60)


def test_the_first_configuration_is_one_that_is_trained(tuned):
    assert first_configuration(tuned)["freeze"] == "none"
    assert first_configuration(tuned)["arch"] == "resnet18"


def test_probes_get_their_share_of_the_time_the_cheapest_first(tuned):
    def probed(seconds: float) -> list[str]:
        plan = with_length(tuned.model_copy(update={"time_budget_s": seconds}), LengthOptions(), PHOTOS, SLOW)
        return [config["arch"] for config in plan.first if is_probe(config)]

    assert probed(40) == ["resnet18"]  # in any case
    assert probed(400) == ["resnet18", "resnet34"]
    assert probed(7200) == ["resnet18", "resnet34", "resnet152"]


def test_if_no_fine_tuning_fits_in_all_the_time_is_for_probes(tuned):
    slower = Pace(train=1 / 4, evaluate=1 / 400)
    short = with_length(
        tuned.model_copy(update={"time_budget_s": 250}), LengthOptions(), PHOTOS._replace(train=300), slower
    )
    assert len([config for config in short.first if is_probe(config)]) == 2
    assert short.epochs * (300 // 16) >= FINE_TUNING.shortest_updates


def test_what_probes_take_is_not_left_for_fine_tuning(tuned):
    without = tuned.model_copy(update={"first": []})
    lengths = [with_length(plan, LengthOptions(), PHOTOS, SLOW).epochs for plan in (tuned, without)]
    assert lengths[0] < lengths[1]


def test_fine_tuning_is_shorter_than_training_from_scratch(tuned):
    scratch = tuned.model_copy(update={"trial": {}, "first": [], "starts": []})
    hours = {"time_budget_s": 36_000.0}
    lengths = [
        with_length(plan.model_copy(update=hours), LengthOptions(), PHOTOS, SLOW).epochs for plan in (tuned, scratch)
    ]
    assert lengths[0] < lengths[1]
