"""The Gaussian process over configurations and epochs."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.gaussian_process import GaussianProcessRegressor

from tuning.curve_model import GROWTH, CurveModel, expected_improvement, normal_scores


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_normal_scores_keep_the_order_and_nothing_else(values):
    scores = normal_scores(np.array(values))
    assert np.isfinite(scores).all()
    for i, one in enumerate(values):
        for j, other in enumerate(values):
            assert (one < other) == (scores[i] < scores[j])


def test_expected_improvement_is_what_draws_of_the_normal_give():
    draws = np.random.default_rng(0).normal(0.3, 0.8, 400_000)
    expected = np.maximum(draws - 0.5, 0).mean()
    assert expected_improvement(np.array([0.3]), np.array([0.8]), 0.5)[0] == pytest.approx(expected, rel=0.01)


def test_expected_improvement_is_the_gain_where_nothing_is_uncertain():
    gains = expected_improvement(np.array([1.0, -1.0]), np.array([1e-9, 1e-9]), 0.5)
    assert gains == pytest.approx([0.5, 0.0])


@pytest.fixture(scope="module")
def data():
    """Scores that rise with the first column and the last (the epoch); the second has no effect."""
    rng = np.random.default_rng(0)
    points = rng.uniform(size=(60, 3))
    return points, normal_scores(points[:, 0] + points[:, 2] + rng.normal(0, 0.02, 60))


def test_the_model_learns_which_dimensions_matter(data):
    model = CurveModel(first_fit=60)
    model.fit(*data)
    model.condition(*data)
    mean, deviation = model.predict(np.array([[0.9, 0.1, 0.9], [0.9, 0.9, 0.9], [0.1, 0.5, 0.1]]))
    assert mean[0] > 1
    assert mean[0] == pytest.approx(mean[1], abs=0.4)
    assert mean[2] < -1
    assert (deviation > 0).all()


def test_an_imagined_result_leaves_the_mean_and_takes_the_doubt(data):
    model = CurveModel(first_fit=60)
    model.fit(*data)
    model.condition(*data)
    point = np.array([[1.0, 1.0, 0.0]])
    mean, deviation = model.predict(point)
    model.imagine(point)
    again, less = model.predict(point)
    assert again == pytest.approx(mean, abs=0.05)
    assert less[0] < deviation[0]


def test_the_kernel_is_fitted_anew_when_the_results_have_grown_by_a_factor(data):
    points, scores = data
    model = CurveModel(first_fit=40)
    model.fit(points[:40], normal_scores(scores[:40]))
    assert model.next_fit == math.ceil(40 * GROWTH)
    kernel = model.kernel
    model.condition(points[:50], normal_scores(scores[:50]))
    assert model.kernel is kernel
    model.fit(points, scores)
    assert model.kernel is not kernel


def test_it_predicts_what_scikit_learn_does_also_with_imagined_results(data):
    points, scores = data
    model = CurveModel(first_fit=60)
    model.fit(points, scores)
    rng = np.random.default_rng(1)
    asked, running = rng.uniform(size=(50, 3)), rng.uniform(size=(9, 3))
    for known in (40, 60):  # the second time with other results: what was kept of the first is no longer true
        model.condition(points[:known], scores[:known])
        whole = GaussianProcessRegressor(model.kernel, optimizer=None).fit(points[:known], scores[:known])
        for found, expected in zip(model.predict(asked), whole.predict(asked, return_std=True), strict=True):
            assert found == pytest.approx(expected, abs=1e-6)
        model.imagine(running)
        imagined = np.concatenate([scores[:known], whole.predict(running)])
        whole.fit(np.vstack([points[:known], running]), imagined)
        for found, expected in zip(model.predict(asked), whole.predict(asked, return_std=True), strict=True):
            assert found == pytest.approx(expected, abs=1e-6)
