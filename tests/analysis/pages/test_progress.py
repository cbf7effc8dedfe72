"""The best so far against its cost, and what random search would be expected to reach."""

import itertools

import numpy as np
import pytest

from analysis.pages.progress import best_so_far, expected_best, progress_section, random_search, shown_scores
from analysis.pages.records import read_search


def test_the_expected_best_is_the_mean_over_all_draws():
    scores = np.array([0.2, 0.9, 0.4])
    means = [np.mean([max(draw) for draw in itertools.product(scores, repeat=draws)]) for draws in (1, 2, 3)]
    assert expected_best(scores, np.array([1, 2, 3])) == pytest.approx(means)


def test_the_steps_add_up_the_time_of_all_slots_in_the_order_of_the_epochs_ends(write_trial, record):
    write_trial("0001-a", [record(1, 0.3, timestamp=10), record(2, 0.6, timestamp=30)])
    folder = write_trial("0002-b", [record(1, 0.5, timestamp=20), record(2, 0.4, timestamp=40)]).parent
    steps = best_so_far(read_search(folder).scored)
    assert list(steps["top1"]) == [0.3, 0.5, 0.6]
    assert list(steps["seconds"]) == [3, 6, 9]
    assert list(steps["trial"]) == ["0001-a", "0002-b", "0001-a"]


def test_epochs_of_all_trials_are_added_up_also_in_fractions(write_trial, record):
    write_trial("0001-a", [record(0.25, 0.3, timestamp=10), record(0.5, 0.6, timestamp=30)])
    folder = write_trial("0002-b", [record(0.25, 0.5, timestamp=20), record(0.4, 0.4, timestamp=40)]).parent
    search = read_search(folder)
    assert list(best_so_far(search.scored)["epochs"]) == [0.25, 0.5, 0.75]
    assert "(0.75 epochs)" in progress_section(search).caption
    assert list(progress_section(search).table["epochs of all trials"]) == ["0.25", "0.5", "0.75"]


@pytest.mark.parametrize(("plan", "epochs"), [({"epochs": 0.5, "steps": 2}, (0.25, 0.5)), ({"epochs": 8}, (4, 8))])
def test_a_full_training_costs_as_much_whatever_a_step_is(write_trial, record, plan, epochs):
    write_trial("0001-a", [record(epochs[0], 0.3), record(epochs[1], 0.6)])
    folder = write_trial("0002-b", [record(epochs[0], 0.2)]).parent
    chance = random_search(read_search(folder)._replace(facts={"plan": plan}))
    assert (chance.draw_seconds, chance.finished) == (6, 1)


def test_random_search_gets_the_time_that_the_search_had(write_trial, record):
    write_trial("0001-a", [record(1, 0.3), record(2, 0.6)], epochs=2)
    write_trial("0002-b", [record(1, 0.2), record(2, 0.4)], epochs=2)
    folder = write_trial("0003-c", [record(1, 0.5)], epochs=2).parent
    chance = random_search(read_search(folder))
    assert (chance.draw_seconds, chance.finished) == (6, 2)
    assert list(chance.curve["draws"]) == [1, 2]
    assert list(chance.curve["low"]) == pytest.approx([0.5, (0.4 + 3 * 0.5 + 5 * 0.6) / 9])
    assert list(chance.curve["high"]) == pytest.approx([0.5, 0.55])


def test_the_axis_shows_the_search_and_the_reference_but_not_the_first_climb(made_up):
    search = read_search(made_up)
    steps, chance = best_so_far(search.scored), random_search(search)
    low, high = shown_scores(steps, chance)
    assert steps["top1"].iloc[0] < low < chance.curve["low"].iloc[-1] < high
    assert high > steps["top1"].iloc[-1]


def test_one_trial_and_no_score_give_a_section_too(write_trial, record):
    folder = write_trial("0001-a", []).parent
    assert progress_section(read_search(folder)).caption == "No trial has a score yet."
    write_trial("0002-b", [record(1, 0.25)])
    section = progress_section(read_search(folder))
    assert section.figure is not None
    assert "25.0 %, was there after 0.05 slot minutes (1 epoch)" in section.caption
    assert "lower bound" in section.caption
