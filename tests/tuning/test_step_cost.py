"""Seconds of a step: from the narrowest group that was seen, else by arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainable.data.augmentation import size_at
from tuning.arithmetic import GROWING_SHARE, size_share, training_gmacs
from tuning.step_cost import StepCost, Work

SIDE, STEPS = 64, 8
SMALL, FULL = ({"arch": "resnet18", "batch_size": 64, "stem": stem} for stem in ("small", "full"))


def cost(measured: bool = True, is_measured: bool = False) -> StepCost:
    return StepCost(Work(SIDE, 2.0, is_measured), STEPS, measured)


def test_the_narrowest_group_that_was_seen_tells():
    known = cost()
    known.add(FULL, 6, 1)
    known.add(FULL, 8, 2)
    known.add({**FULL, "batch_size": 32}, 16, 1)
    assert known.predict([FULL, {**FULL, "batch_size": 32}, {**FULL, "batch_size": 256}]) == pytest.approx([7, 16, 8])


def test_what_was_not_seen_follows_from_its_arithmetic_and_from_how_far_the_seen_ones_are_from_theirs():
    known = cost()
    before = known.predict([FULL, SMALL])
    assert before[1] / before[0] == pytest.approx(training_gmacs(SMALL, SIDE) / training_gmacs(FULL, SIDE))
    known.add(FULL, 3 * before[0], 1)
    assert known.predict([SMALL]) == pytest.approx([3 * before[1]])


def test_seconds_are_told_only_once_something_was_measured():
    assert cost().of_step(FULL, 0) is None
    assert cost(is_measured=True).of_step(FULL, 0) == pytest.approx(2.0 * training_gmacs(FULL, SIDE))
    known = cost()
    known.add(FULL, 5, 1)
    assert known.of_step(FULL, 1) == 5


def test_without_a_time_budget_costs_do_not_depend_on_what_was_measured():
    known = cost(measured=False)
    before = known.predict([FULL, SMALL]).tolist()
    known.add(FULL, 1000, 1)
    assert known.predict([FULL, SMALL]).tolist() == before
    assert known.of_step(FULL, 1) is None


def test_the_last_steps_of_images_that_grow_cost_as_much_as_those_of_whole_ones():
    known, growing = cost(), {**FULL, "progressive_resize": True}
    known.add(growing, 1.0, 1)
    assert known.of_step(growing, 1) == pytest.approx(1.0)
    assert known.of_step(growing, STEPS - 1) == pytest.approx(4.0)
    assert known.predict([growing]) == pytest.approx([4.0 * GROWING_SHARE])


@given(st.integers(1, 100), st.integers(1, 25))
def test_the_share_of_pixels_is_that_of_the_sizes_that_trainings_use(epoch, quarters):
    epochs = 4 * quarters
    epoch = min(epoch, epochs)
    side = size_at(epoch - 1, epochs, 64)
    assert size_share({"progressive_resize": True}, epoch / epochs) == pytest.approx((side / 64) ** 2)


def test_nothing_known_costs_the_same_for_all():
    assert StepCost(None, STEPS, measured=True).predict([FULL, SMALL]).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("epochs", [1.0, 4.0])
def test_a_probe_costs_two_forward_passes_however_long_a_step_is(epochs):
    known = StepCost(Work(SIDE, 2.0, is_measured=True, epochs=epochs), STEPS, measured=True)
    trained = {"arch": "resnet18", "stem": "full"}
    probe, step = known.predict([trained | {"freeze": "all"}, trained])
    assert probe == pytest.approx(step * 2 / 3 / epochs)


def test_frozen_layers_make_steps_cheaper():
    known = cost()
    costs = [known.predict([FULL | {"freeze": freeze}])[0] for freeze in ("none", "early", "most")]
    assert costs == pytest.approx([costs[0], costs[0] * 2 / 3, costs[0] * 4 / 9])


def test_what_a_probe_took_says_nothing_of_a_training():
    known = cost(is_measured=True)
    before = known.of_step(FULL, 0)
    known.add(FULL | {"freeze": "all"}, 0.01, STEPS)
    assert known.of_step(FULL | {"freeze": "all"}, 0) == 0.01
    assert known.of_step(FULL, 0) == before
