"""What was asked of a search, in words."""

import pytest

from analysis.pages.comparison import length_text


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"epochs": 30}, "30 epochs"),
        ({"epochs": 30, "steps": None}, "30 epochs"),
        ({"epochs": 30, "steps": 30}, "30 epochs"),
        ({"epochs": 2.5, "steps": 10}, "2.5 epochs in 10 steps"),
        ({"epochs": 12, "steps": 1}, "12 epochs in 1 step"),
    ],
)
def test_the_length_of_a_training_names_its_steps_where_they_arent_epochs(plan, words):
    assert length_text(plan) == words
