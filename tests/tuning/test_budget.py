"""What a plan buys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuning.budget import estimated_seconds, expected_budget, hyperband_epochs, reference_speed


@pytest.mark.parametrize("scheduler", ["freeze-thaw", "asha"])
def test_halving_eight_trials_over_four_epochs_costs_sixteen(make_plan, scheduler):
    budget = expected_budget(make_plan(scheduler=scheduler), 100, None)
    assert budget == (8, 8 * 1 + 4 * 1 + 2 * 2, 4, 1600)


def test_without_early_stopping_every_trial_costs_its_full_length(make_plan):
    assert expected_budget(make_plan(scheduler="none"), 100, None).epochs == 32


def test_an_epoch_budget_says_how_many_trials_it_buys(make_plan):
    budget = expected_budget(make_plan(trials=None, epoch_budget=200), 100, None)
    assert (budget.epochs, budget.full_trainings) == (200, 50)
    assert budget.trials == pytest.approx(100, rel=0.05)
    assert expected_budget(make_plan(epoch_budget=200), 100, None).epochs == 16, "eight trials need no more"


def test_time_alone_says_how_much_it_buys_where_the_speed_is_known(make_plan):
    plan = make_plan(trials=None, time_budget_s=100)
    assert expected_budget(plan, 100, None) is None
    assert expected_budget(plan, 100, 0.5).epochs == 50


@given(
    trials=st.integers(1, 500),
    epochs=st.integers(1, 300),
    first_rung=st.integers(1, 10),
    reduction_factor=st.floats(1.5, 5),
    scheduler=st.sampled_from(["freeze-thaw", "asha"]),
)
def test_a_budget_lies_between_first_rungs_and_full_trainings(
    make_plan, trials, epochs, first_rung, reduction_factor, scheduler
):
    plan = make_plan(
        trials=trials,
        epochs=epochs,
        first_rung=min(first_rung, epochs),
        reduction_factor=reduction_factor,
        scheduler=scheduler,
    )
    budget = expected_budget(plan, 10, None).epochs
    assert trials * min(plan.first_rung, epochs) <= budget + 1e-9
    assert budget <= trials * epochs + 1e-9
    assert plan.rungs == sorted(plan.rungs)
    assert plan.rungs[-1] <= epochs


def test_hyperband_runs_few_trials_in_full_and_halves_many():
    assert hyperband_epochs(3, 4, 2) == 3 * 4  # the bracket of full trainings
    assert hyperband_epochs(6, 4, 2) == 3 * 4 + 3 * 2 + 2 * 2
    assert hyperband_epochs(10, 4, 2) == 22 + 4 * 1 + 2 * 1 + 1 * 2
    assert hyperband_epochs(5, 1, 2) == 5


def test_the_estimate_is_cut_by_the_time_budget_and_grows_with_pixels(make_plan):
    plan = make_plan()
    budget = expected_budget(plan, 1000, None)
    speeds = [reference_speed(plan, 1000, size, cores=2) for size in (32, 64)]
    small, large = (estimated_seconds(plan, budget, speed) for speed in speeds)
    assert large == pytest.approx(4 * small)
    assert estimated_seconds(make_plan(time_budget_s=5), budget, speeds[1]) == 5
