"""Calibration against torchmetrics and scikit-learn, and temperatures against what they are to find."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import log_loss, top_k_accuracy_score
from torchmetrics.functional.classification import multiclass_calibration_error

from analysis.calibration import (
    COLDEST,
    HOTTEST,
    figures,
    fit_temperature,
    fit_together,
    helps,
    interval,
    losses,
    most_probable,
    reliability,
)
from analysis.library import calibrated
from analysis.pooling import pool

CLASSES = 7
LABELS = np.arange(12) % 3


def sample(
    seed: int, images: int, true_temperature: float = 1.0, classes: int = CLASSES
) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that are drawn from softmax(logits / true_temperature)."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 3, (images, classes))
    probabilities = calibrated(logits, true_temperature).astype(np.float64)
    drawn = (probabilities.cumsum(axis=1) < generator.random((images, 1))).sum(axis=1)
    return logits.astype(np.float16), np.minimum(drawn, classes - 1)


@pytest.mark.parametrize("seed", range(4))
def test_the_calibration_error_is_that_of_torchmetrics(seed: int) -> None:
    logits, labels = sample(seed, 400, true_temperature=3.0)
    probabilities = calibrated(logits, 1.0)
    expected = multiclass_calibration_error(torch.tensor(probabilities), torch.tensor(labels), CLASSES, n_bins=15)
    assert reliability(probabilities, labels).ece == pytest.approx(float(expected), abs=1e-6)
    assert reliability(probabilities, labels).ece > 0.05


@pytest.mark.parametrize("classes", [2, 7])
def test_the_figures_are_those_of_scikit_learn(classes: int) -> None:
    logits, labels = sample(1, 300, classes=classes)
    probabilities = calibrated(logits, 1.0)
    found, truth = figures(probabilities, labels), np.eye(classes)[labels]
    exact = probabilities / probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
    assert found.loss == pytest.approx(log_loss(labels, exact, labels=range(classes)), rel=1e-5)
    assert found.brier == pytest.approx(np.square(probabilities - truth).sum(axis=1).mean(), rel=1e-5)
    assert found.top1 == pytest.approx(np.mean(probabilities.argmax(axis=1) == labels))
    top5 = top_k_accuracy_score(labels, probabilities, k=5, labels=range(classes)) if classes > 5 else 1.0
    assert (found.top5, found.images) == (pytest.approx(top5), 300)
    assert found.top1_low < found.top1 < found.top1_high


@pytest.mark.parametrize("true_temperature", [0.4, 1.0, 2.5])
def test_the_temperature_is_the_one_that_drew_the_labels(true_temperature: float) -> None:
    logits, labels = sample(2, 2000, true_temperature)
    assert fit_temperature(logits, labels) == pytest.approx(true_temperature, rel=0.1)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.3, 4))
def test_a_fitted_temperature_never_makes_the_loss_on_its_images_much_worse(seed: int, true_temperature: float) -> None:
    logits, labels = sample(seed, 200, true_temperature)
    before, after = (losses(calibrated(logits, each), labels).mean() for each in (1.0, fit_temperature(logits, labels)))
    assert after < before + 0.01


def test_few_images_that_are_all_right_do_not_make_the_ensemble_certain() -> None:
    labels = np.arange(65) % 10
    logits = np.eye(10)[labels] * 4.0
    confidence = calibrated(logits, fit_temperature(logits, labels)).max(axis=1)
    assert 0.97 < confidence.min() < 0.995


EXTREME = arrays(np.float16, (12, 3), elements=st.floats(-500, 500, width=16))
"""Logits of twelve images, which may be all right, all wrong, or not tell at all."""


@settings(deadline=None, max_examples=100)
@given(EXTREME, st.sampled_from([0.25, 0.7, 1.0, 3.0]))
def test_no_temperature_leaves_its_bounds_nor_does_what_is_divided_by_in_all(
    logits: np.ndarray, applied: float
) -> None:
    found = fit_temperature(logits, LABELS, applied)
    assert COLDEST <= found * applied <= HOTTEST


def mean_loss(logits: np.ndarray, temperature: float) -> float:
    return float(losses(calibrated(logits, temperature), LABELS).mean())


@settings(deadline=None, max_examples=100)
@given(arrays(np.float16, (12, 3), elements=st.floats(-20, 20, width=16)))
def test_with_more_copies_of_the_same_images_the_temperature_leaves_1_for_the_likeliest(logits: np.ndarray) -> None:
    temperatures = np.geomspace(COLDEST, HOTTEST, 400)
    likeliest = math.log(temperatures[np.argmin([mean_loss(logits, each) for each in temperatures])])
    found = [math.log(most_probable(lambda each: mean_loss(logits, each), images)) for images in (1, 4, 12, 60, 10**5)]
    side = math.copysign(1, likeliest)
    assert all(side * before <= side * after + 0.02 for before, after in pairwise([0, *found]))
    assert all(abs(each) <= abs(likeliest) + 0.02 for each in found)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.4, 3))
def test_of_many_images_the_temperature_is_that_of_maximum_likelihood(seed: int, true_temperature: float) -> None:
    logits, labels = sample(seed, 2000, true_temperature)
    temperatures = np.geomspace(COLDEST, HOTTEST, 400)
    likeliest = temperatures[np.argmin([losses(calibrated(logits, each), labels).mean() for each in temperatures])]
    assert fit_temperature(logits, labels) == pytest.approx(likeliest, rel=0.03)


@pytest.mark.parametrize(("label", "low", "high"), [(0, 0.7, 0.9), (1, 1.2, 1.8)])
def test_few_images_that_are_all_right_or_all_wrong_move_the_temperature_only_a_little(
    label: int, low: float, high: float
) -> None:
    logits = np.tile([1.0, 0.0, 0.0], (4, 1))
    assert low < fit_temperature(logits, np.full(4, label)) < high


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.sampled_from([6, 12, 65]), st.floats(0.3, 4), st.integers(2, 4))
def test_an_ensemble_of_the_same_model_several_times_is_as_sure_as_the_model(
    seed: int, images: int, true_temperature: float, members: int
) -> None:
    logits, labels = sample(seed, images, true_temperature)
    temperatures, weights = [fit_temperature(logits, labels)] * members, [1 / members] * members
    mean = pool(np.stack([logits] * members), temperatures, weights)
    assert fit_together(mean, temperatures, weights, labels) == pytest.approx(1, rel=0.02)


def test_one_member_needs_no_second_temperature_and_different_ones_do() -> None:
    logits, labels = sample(0, 400)
    assert fit_together(calibrated(logits, 1.0), [1.3], [1.0], labels) == 1.0
    other = logits + np.random.default_rng(1).normal(0, 3, logits.shape)
    both = np.stack([logits, other])
    temperatures = [fit_temperature(each, labels) for each in both]
    mean = pool(both, temperatures, [0.5, 0.5])
    assert fit_together(mean, temperatures, [0.5, 0.5], labels) < 0.95  # a mean of probabilities is too flat


def test_of_many_images_a_part_is_enough() -> None:
    logits, labels = sample(3, 6000, true_temperature=2.0)
    assert fit_temperature(logits, labels) == pytest.approx(fit_temperature(logits[::3], labels[::3]), abs=1e-6)


def test_the_reliability_diagram_counts_every_image_once() -> None:
    logits, labels = sample(4, 500)
    bins = reliability(calibrated(logits, 1.0), labels)
    assert bins.images.sum() == 500
    assert np.isnan(bins.accuracy[bins.images == 0]).all()
    right = (bins.accuracy * bins.images)[bins.images > 0].sum()
    assert right == pytest.approx((logits.argmax(axis=1) == labels).sum())


def test_a_confidence_of_1_falls_into_the_last_bin() -> None:
    bins = reliability(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 0]))
    assert bins.images.tolist() == [0] * 14 + [2]
    assert bins.ece == pytest.approx(0.5)


def test_the_interval_holds_the_mean_and_is_about_two_standard_errors_wide() -> None:
    values = np.random.default_rng(0).random(400) < 0.8
    low, high = interval(values)
    error = math.sqrt(values.mean() * (1 - values.mean()) / 400)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert interval(values) == (low, high)


def test_of_one_image_the_interval_is_its_value() -> None:
    assert interval(np.array([1.0])) == (1.0, 1.0)


def test_what_helps_is_more_than_noise() -> None:
    generator = np.random.default_rng(0)
    before, noise = generator.random(300), generator.normal(0, 1, 300)
    assert not helps(before, before + noise - noise.mean())
    assert not helps(before, before + 0.1)
    assert helps(before, before - 0.1 + 0.01 * noise)
    assert not helps(before[:1], before[:1] - 1)
