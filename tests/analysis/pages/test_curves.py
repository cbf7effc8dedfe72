"""Learning curves: which are drawn, where each ends, and at which epochs trials were compared."""

import pytest

from analysis.pages.curves import curve_ends, curve_points, curves_section, rungs
from analysis.pages.records import read_search


def test_each_line_has_its_scores_and_a_gap_behind_it(write_trial, record):
    write_trial("0001-a", [record(1, 0.2), record(2, 0.4)])
    folder = write_trial("0002-b", [record(1, 0.3)]).parent
    points = curve_points(read_search(folder))
    assert list(points["select_top1"].fillna(-1)) == [0.2, 0.4, -1, 0.3, -1]


def test_a_line_ends_where_its_trial_did_also_where_the_last_epoch_diverged(write_trial, record):
    folder = write_trial("0001-a", [record(1, 0.2), record(2, 0.0, diverged=True, done=True)]).parent
    end = curve_ends(read_search(folder)).iloc[0]
    assert (end["state"], end["epoch"], end["top1"]) == ("diverged", 2, 0.2)


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ({"scheduler": "asha", "first_rung": 1, "reduction_factor": 2.0, "epochs": 6}, [1, 2, 4]),
        ({"scheduler": "asha", "first_rung": 3, "reduction_factor": 1.5, "epochs": 8}, [3, 4, 6]),
        ({"scheduler": "none", "first_rung": 1, "reduction_factor": 2.0, "epochs": 6}, []),
        ({}, []),
        ({"scheduler": "asha", "first_rung": 1, "reduction_factor": 2.0, "epochs": 2.0, "steps": 8}, [0.25, 0.5, 1]),
        ({"scheduler": "asha", "first_rung": 1, "reduction_factor": 2.0, "epochs": 24, "steps": 6}, [4, 8, 16]),
    ],
)
def test_the_rungs_are_those_below_the_full_length(write_trial, record, plan, expected):
    search = read_search(write_trial("0001-a", [record(1)]).parent)
    assert rungs(search._replace(facts={"plan": plan})) == expected


@pytest.mark.parametrize(("first", "between"), [(1, 1), (0.25, 0.25), (4, 4)])
def test_long_lines_are_thinned_whatever_lies_between_their_points(write_trial, record, monkeypatch, first, between):
    monkeypatch.setattr("analysis.pages.curves.LONGEST", 4)
    write_trial("0001-a", [record(first + step * between, 0.1) for step in range(8)], epochs=99)
    folder = write_trial("0002-b", [record(first, 0.1), record(first + between, 0.1)], epochs=99).parent
    points = curve_points(read_search(folder)).dropna()
    steps = (points["epoch"] - first) / between
    assert list(steps[points["trial"] == "0001-a"]) == [0, 2, 4, 6, 7]
    assert list(steps[points["trial"] == "0002-b"]) == [0, 1]


def test_fractions_of_an_epoch_are_drawn_and_told_as_such(write_trial, record):
    plan = {"epochs": 1.5, "steps": 6, "scheduler": "asha", "first_rung": 2, "reduction_factor": 2.0}
    trial = write_trial("0001-a", [record(0.25 * step, 0.1 * step, step=step) for step in (1, 2, 3)], epochs=1.5)
    section = curves_section(read_search(trial.parent)._replace(facts={"plan": plan}))
    assert "0001-a reached the most, 30.0 % at epoch 0.75." in section.caption
    assert "Dotted lines are the rungs (epochs 0.5 and 1)." in section.caption
    assert list(section.table.loc[0, ["epochs", "best epoch"]]) == ["0.75", "0.75"]
    assert list(section.figure.data[0].x) == [0.25, 0.5, 0.75, 1.25]
    assert section.figure.layout.xaxis.dtick is None
    (axes,) = section.png().axes
    assert 0.2 in axes.get_xticks()


@pytest.mark.parametrize("plan", [{"epochs": 2}, {"epochs": 12, "steps": 48}, {"epochs": 2, "steps": 1}, {}])
def test_whole_epochs_have_the_ticks_where_nothing_is_between_or_they_are_many(write_trial, record, plan):
    folder = write_trial("0001-a", [record(1, 0.1), record(2, 0.1)]).parent
    section = curves_section(read_search(folder)._replace(facts={"plan": plan}))
    assert section.figure.layout.xaxis.dtick == 1
    (axes,) = section.png().axes
    assert all(tick == round(tick) for tick in axes.get_xticks())


def test_many_trials_are_thinned_and_the_caption_says_so(made_up, monkeypatch):
    monkeypatch.setattr("analysis.pages.curves.BEST", 10)
    monkeypatch.setattr("analysis.pages.curves.SAMPLED", 5)
    section = curves_section(read_search(made_up))
    assert "Drawn are the best 10 and a sample of 5 of the other 110." in section.caption
    assert "Dotted lines are the rungs (epochs 2 and 4)." in section.caption
    assert len(section.table) == 120
