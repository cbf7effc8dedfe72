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
    ],
)
def test_the_rungs_are_those_below_the_full_length(write_trial, record, plan, expected):
    search = read_search(write_trial("0001-a", [record(1)]).parent)
    assert rungs(search._replace(facts={"plan": plan})) == expected


def test_many_trials_are_thinned_and_the_caption_says_so(made_up, monkeypatch):
    monkeypatch.setattr("analysis.pages.curves.BEST", 10)
    monkeypatch.setattr("analysis.pages.curves.SAMPLED", 5)
    section = curves_section(read_search(made_up))
    assert "Drawn are the best 10 and a sample of 5 of the other 110." in section.caption
    assert "Dotted lines are the rungs (epochs 2 and 4)." in section.caption
    assert len(section.table) == 120
