"""Estimates of what an export's parts take, and what they let in."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.augmented import TRIED
from analysis.candidates import Candidate, find_candidates
from analysis.deadline import CAUTION, Deadline
from analysis.experiment import load_experiment, read_facts
from analysis.pace import INTERVAL_S, INTERVALS, Estimate, Pace, measure_pace
from analysis.soup import STATISTICS_IMAGES
from analysis.views import CROPS, MIRRORED
from trainable.config import TrialConfig
from trainable.data.dataset import Dataset
from trainable.device import EVAL_BATCH

SELECT, HOLDOUT = 1000, 2000
FINAL = EVAL_BATCH + HOLDOUT
"""Images that each member predicts in the end: those of its check, and of holdout."""


def candidate(image_s: float = 0.0) -> Candidate:
    return Candidate("x", TrialConfig(data=Path("x")), 32, Path("w"), np.zeros((1, 2)), image_s=image_s)


def estimate(room: float = 10**9, pace: Pace = Pace(2.0, 0.01), refit_s: float = 0.0, image_s: float = 0.0) -> Estimate:
    """With room for parts of so many seconds; `image_s` is the best single trial's."""
    deadline = Deadline(room * CAUTION, time.monotonic())
    single = candidate(image_s)._replace(weights=Path("single"))
    return Estimate(deadline, pace, single, 4000, SELECT, HOLDOUT, refit_s)


def test_other_candidates_are_scaled_by_what_the_searchs_records_say_of_them() -> None:
    pace = Pace(load_s=2.0, image_s=0.01, slowness=3.0)
    assert pace.seconds(candidate(image_s=0.1), 100) == pytest.approx(2 + 30)
    assert pace.seconds(candidate(), 100) == pytest.approx(2 + 1)
    assert Pace().seconds(candidate(image_s=0.1), 100) == 0


def test_the_pace_is_measured_on_a_real_candidate(experiment: Path, dataset: Dataset) -> None:
    (first, *_) = find_candidates(experiment, load_experiment(experiment), read_facts(experiment))
    assert first.image_s > 0
    pace = measure_pace(first, dataset, torch.device("cpu"))
    assert 0 < pace.load_s < 30
    assert 0 < pace.image_s < 5
    assert pace.seconds(first, 10) == pytest.approx(pace.load_s + 10 * pace.image_s)
    assert measure_pace(first._replace(image_s=0.0), dataset, torch.device("cpu")).slowness == 0


def test_what_is_required_are_the_check_and_the_figures_of_members_and_single() -> None:
    members = [candidate(), candidate()]
    expected = 2 * (2 + 0.01 * FINAL) + (2 + 0.01 * HOLDOUT) + (2 + INTERVALS) * HOLDOUT * INTERVAL_S
    assert estimate().required(members) == pytest.approx(expected)
    slower = estimate(pace=Pace(2.0, 0.01, 1.0), image_s=0.03)
    assert slower.required(members) == pytest.approx(expected + 0.02 * HOLDOUT)
    assert estimate(refit_s=50).required(members) == pytest.approx(expected + 50)
    assert estimate().required(members, count=2) == pytest.approx(expected + 2 * 0.01 * FINAL)


def test_a_member_that_is_the_single_trial_is_looked_at_once() -> None:
    alone = estimate().single
    twice, once = estimate().required([candidate()]), estimate().required([alone])
    assert twice - once == pytest.approx(2 + 0.01 * HOLDOUT)
    refit = estimate(refit_s=5)
    assert refit.required([alone]) == pytest.approx(refit.required([candidate()]))  # it predicts otherwise then


def test_as_many_members_as_there_is_time_for_and_at_least_one() -> None:
    many = [candidate()] * 5
    for count in range(1, 6):
        assert estimate(estimate().required(many[:count]) + 1).most_members(many) == count
    assert estimate(0.1).most_members(many) == 1


def test_a_view_is_tried_on_select_and_used_wherever_the_members_predict() -> None:
    assert estimate().view(MIRRORED, [candidate()]) == pytest.approx(2 + 0.01 * (SELECT + FINAL))
    assert estimate().view(CROPS, [candidate()] * 3) == pytest.approx(3 * (2 + 0.05 * (SELECT + FINAL)))


def test_latest_epochs_and_soups_take_passes_over_select() -> None:
    assert estimate().latest([candidate()] * 2) == pytest.approx(2 * (2 + 0.01 * SELECT))
    assert estimate().soup([candidate()] * 4) == pytest.approx(3 * (2 + 0.01 * (SELECT + STATISTICS_IMAGES)))


def test_room_is_kept_for_the_views_that_fit_in_beside_what_is_required() -> None:
    members = [candidate()]
    required, mirrored, crops = (
        estimate().required(members), *(estimate().view(view, members) for view in (MIRRORED, CROPS))
    )  # fmt: skip
    for room, kept in (
        (required - 1, required),
        (required + mirrored - 1, required),
        (required + mirrored + 1, required + mirrored),
        (required + mirrored + crops + 1, required + mirrored + crops),
    ):
        assert estimate(room).reserved(members, TRIED) == pytest.approx(kept)


def test_a_refusal_says_what_it_would_take_and_what_is_left() -> None:
    assert estimate(room=100).refusal(29, 70) == ""
    assert estimate(room=100).refusal(31, 70) == "it would take about 31.0 s, and --time-budget leaves 30.0 s"
    assert estimate(room=100).refusal(1, 120).endswith("leaves 0.0 s")


def test_a_view_is_refused_where_it_does_not_fit_in_beside_the_views_that_are_kept() -> None:
    members = [candidate()]
    needed = estimate().required(members, 2) + estimate().view(CROPS, members)
    assert estimate(needed + 1).no_view(members, CROPS, 2) == ""
    assert estimate(needed + 1).no_view(members, CROPS, 1) == ""
    assert "leaves" in estimate(needed - 1).no_view(members, CROPS, 2)
