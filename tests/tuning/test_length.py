"""From seconds to the length of a training, its steps, and the slots that have time for it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuning.length import (
    FEW_TRAININGS,
    FEW_UPDATES,
    FINE_TUNING,
    FROM_SCRATCH,
    LEAST_STEP_UPDATES,
    LONGEST_STEP_S,
    STEP_SHARE,
    Length,
    choose_length,
    fewer_slots,
    in_steps,
    longest_epochs,
    step_updates,
    usual_epochs,
    usual_length,
)

PER_EPOCH, UPDATE_S, TRAINING_S = st.integers(1, 5000), st.floats(1e-3, 30), st.floats(1, 1e6)


@given(PER_EPOCH, UPDATE_S, TRAINING_S)
def test_the_first_training_ends_within_its_share_of_the_time_and_is_no_longer_than_pays(
    per_epoch, update_s, training_s
):
    length = choose_length(per_epoch, update_s, training_s)
    updates = max(1, round(length.epochs * per_epoch))
    assert updates == 1 or updates * update_s <= FROM_SCRATCH.share_of_first * training_s * (1 + 1e-9)
    assert length.epochs <= longest_epochs(per_epoch) + 1e-9
    assert 1 <= length.steps <= updates


@given(PER_EPOCH, UPDATE_S, TRAINING_S)
def test_a_step_is_an_epoch_unless_that_is_long_or_tiny(per_epoch, update_s, training_s):
    updates = step_updates(per_epoch, update_s, training_s)
    longest_s = min(LONGEST_STEP_S, STEP_SHARE * training_s)
    if per_epoch < FEW_UPDATES:
        assert updates % per_epoch == 0
        assert updates >= FEW_UPDATES
    elif per_epoch * update_s <= longest_s:
        assert updates == per_epoch
    else:
        assert updates >= LEAST_STEP_UPDATES
        assert updates == LEAST_STEP_UPDATES or updates * update_s <= longest_s


def test_more_time_makes_no_shorter_training():
    lengths = [choose_length(148, 0.2, seconds).epochs for seconds in (10, 60, 250, 850, 3600, 30_000)]
    assert lengths == sorted(lengths)
    assert lengths[-1] == 30


def test_short_epochs_are_trained_several_in_a_step_if_none_were_asked_for():
    assert usual_length(3, 0.1) == Length(100, 25)
    assert usual_length(8, 0.1) == Length(38, 19)
    assert usual_length(148, 0.1) == Length(30, 30)


def test_few_images_are_seen_more_often():
    assert usual_epochs(148) == 30
    assert usual_epochs(8) == 38  # 300 updates
    assert longest_epochs(8) == 375  # 3,000 updates


def test_whole_epochs_stay_whole_where_a_step_is_one():
    length = choose_length(20, 0.1, 100)
    assert length.epochs == length.steps == FROM_SCRATCH.share_of_first * 100 / 0.1 // 20


def test_fine_tuning_is_shorter_and_leaves_time_for_others():
    assert choose_length(148, 0.01, 10_000, FINE_TUNING).epochs == FINE_TUNING.epochs
    assert choose_length(148, 0.1, 60, FINE_TUNING).epochs <= choose_length(148, 0.1, 60).epochs * 0.6
    assert usual_epochs(4, FINE_TUNING) == 38  # 150 updates


def test_an_epoch_longer_than_the_budget_is_trained_in_parts():
    length = choose_length(1000, 1.0, 300)
    assert 0 < length.epochs < 1
    assert length.steps > 1


def test_an_asked_length_is_kept_and_cut_into_steps():
    assert in_steps(30, 148, 0.2) == Length(30, 30)
    assert in_steps(30, 148, None) == Length(30, 30)
    assert in_steps(2, 1000, 1.0) == Length(2, 17)  # of 120 s
    assert in_steps(40, 5, None) == Length(40, 40)


@given(st.integers(1, 64), st.floats(1, 1e5), st.floats(1, 1e6))
def test_each_slot_has_time_for_some_long_trainings_or_there_is_but_one(slots, long_training_s, training_s):
    count = fewer_slots(slots, long_training_s, training_s)
    assert 1 <= count <= slots
    a_training_s = long_training_s * count / slots  # with the cores of the slots that are left out
    assert count == 1 or training_s >= FEW_TRAININGS * a_training_s * (1 - 1e-9)


def test_without_a_time_budget_there_are_as_many_slots_as_fit():
    assert fewer_slots(8, 1e9, math.inf) == 8


def test_an_hour_for_short_trainings_keeps_both_slots():
    assert fewer_slots(2, 100, 3600) == 2
    assert fewer_slots(2, 1300, 850) == 1


@pytest.mark.parametrize("per_epoch", [1, 19, 148, 4000])
def test_steps_never_outnumber_updates(per_epoch):
    for epochs in (0.01, 0.5, 1, 7.3, 30):
        length = in_steps(epochs, per_epoch, 1.0)
        assert length.steps <= max(1, round(epochs * per_epoch))
