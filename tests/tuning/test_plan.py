"""The plan: rungs, budget, durations, names, and what largest configurations are."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from search_spaces import get_space, narrow
from trainable.errors import UsageError
from tuning.plan import (
    SearchPlan,
    architectures_of,
    check_name,
    clock,
    default_name,
    estimated_seconds,
    expected_budget,
    largest_configurations,
    parse_duration,
)


def test_rungs_grow_by_the_reduction_factor_up_to_the_full_length(make_plan):
    assert make_plan(epochs=30).rungs == [1, 2, 4, 8, 16, 30]
    assert make_plan(epochs=27, reduction_factor=3, first_rung=3).rungs == [3, 9, 27]
    assert make_plan(epochs=1).rungs == [1]


def test_only_successive_halving_has_rungs(make_plan):
    assert make_plan(scheduler="none").rungs == []
    assert make_plan(scheduler="median").rungs == []


def test_halving_eight_trials_over_four_epochs_costs_sixteen(make_plan):
    budget = expected_budget(make_plan(), train_images=100)
    assert budget.epochs == 8 * 1 + 4 * 1 + 2 * 2
    assert budget.full_trainings == 4
    assert budget.images == 1600


def test_without_early_stopping_every_trial_costs_its_full_length(make_plan):
    assert expected_budget(make_plan(scheduler="none"), 100).epochs == 32


@given(
    trials=st.integers(1, 500),
    epochs=st.integers(1, 300),
    first_rung=st.integers(1, 10),
    reduction_factor=st.floats(1.5, 5),
)
def test_a_budget_lies_between_first_rungs_and_full_trainings(make_plan, trials, epochs, first_rung, reduction_factor):
    plan = make_plan(
        trials=trials, epochs=epochs, first_rung=min(first_rung, epochs), reduction_factor=reduction_factor
    )
    budget = expected_budget(plan, 10).epochs
    assert trials * min(plan.first_rung, epochs) <= budget + 1e-9
    assert budget <= trials * epochs + 1e-9
    assert plan.rungs == sorted(plan.rungs)
    assert plan.rungs[-1] <= epochs


def test_the_estimate_is_cut_by_the_time_budget_and_grows_with_pixels(make_plan):
    plan = make_plan()
    budget = expected_budget(plan, 1000)
    small, large = (estimated_seconds(plan, budget, size, cores=2) for size in (32, 64))
    assert large == pytest.approx(4 * small)
    assert estimated_seconds(make_plan(time_budget_s=5), budget, 64, cores=2) == 5


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1.5h", 5400)]
)
def test_durations_are_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5m", "2d", "h"])
def test_durations_that_cannot_be_meant_are_refused(text):
    with pytest.raises(UsageError, match=r"--time-budget .*: give"):
        parse_duration(text)


def test_a_duration_of_nothing_is_refused():
    with pytest.raises(UsageError, match="more than 0"):
        parse_duration("0m")


@pytest.mark.parametrize("name", ["../up", "a b", "", ".hidden", "x" * 101, "a/b"])
def test_names_that_are_no_plain_folder_names_are_refused(name):
    with pytest.raises(UsageError, match="--name"):
        check_name(name)


def test_the_default_name_says_space_and_time_and_is_not_taken(tmp_path):
    now = datetime(2026, 11, 24, 18, 30)
    assert check_name(default_name("swin", now, tmp_path)) == "swin-20261124-183000"
    (tmp_path / "swin-20261124-183000").mkdir()
    assert default_name("swin", now, tmp_path) == "swin-20261124-183000-2"


def test_a_plan_survives_its_own_json(make_plan):
    plan = make_plan(space=narrow(get_space("all"), ["lr=1e-4:1e-3"]))
    assert SearchPlan.model_validate_json(plan.model_dump_json()) == plan


@pytest.mark.parametrize("wrong", [{"trials": 0}, {"epochs": 0}, {"time_budget_s": 0}, {"reduction_factor": 1}])
def test_a_plan_that_cannot_run_is_refused(make_plan, wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        make_plan(**wrong)


def test_memory_is_measured_at_the_largest_batch_of_each_architecture(make_plan):
    plan = make_plan(space=get_space("vit"))
    assert [(c["arch"], c["batch_size"]) for c in largest_configurations(plan)] == [
        ("vit_small", 256),
        ("deit_small", 256),
    ]


def test_a_fixed_architecture_is_the_only_one():
    assert architectures_of(narrow(get_space("all"), ["arch=resnet18"])) == ["resnet18"]


def test_clock():
    assert [clock(seconds) for seconds in (0, 61, 3723)] == ["00:00", "01:01", "1:02:03"]
