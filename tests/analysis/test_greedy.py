"""Greedy selection on arrays: its invariants, and what pure noise may and may not do."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.calibration import losses
from analysis.greedy import badness, ranking, shares, vote
from analysis.library import calibrated

MODELS, IMAGES, CLASSES = 4, 12, 3
LABELS = np.arange(IMAGES) % CLASSES
PROBABILITIES = arrays(np.float16, (MODELS, IMAGES, CLASSES), elements=st.floats(-8, 8, width=16)).map(
    lambda logits: np.stack([calibrated(each, 1.0) for each in logits])
)
METRICS = st.sampled_from(["log-loss", "top1"])
FEW = settings(deadline=None, max_examples=40)


def score(probabilities: np.ndarray, weights: np.ndarray, metric: str) -> float:
    mean = np.tensordot(weights, probabilities, axes=1)
    seen = mean[np.arange(IMAGES), LABELS] if metric == "log-loss" else mean
    return float(badness(seen[None], LABELS, metric)[0])


@FEW
@given(PROBABILITIES, METRICS)
def test_shares_are_multiples_of_one_addition_and_add_up_to_one(probabilities: np.ndarray, metric: str) -> None:
    found = shares(probabilities, LABELS, metric)
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()


@FEW
@given(PROBABILITIES, METRICS)
def test_the_ensemble_is_never_worse_on_its_images_than_the_best_model(probabilities: np.ndarray, metric: str) -> None:
    best = min(score(probabilities, alone, metric) for alone in np.eye(MODELS))
    assert score(probabilities, shares(probabilities, LABELS, metric), metric) <= best + 1e-6


@FEW
@given(PROBABILITIES, METRICS, st.integers(0, 100))
def test_votes_are_a_distribution_and_fixed_by_the_seed(probabilities: np.ndarray, metric: str, seed: int) -> None:
    votes = vote(probabilities, LABELS, metric, seed)
    assert votes.sum() == pytest.approx(1)
    np.testing.assert_array_equal(votes, vote(probabilities, LABELS, metric, seed))


@FEW
@given(PROBABILITIES)
def test_models_rank_by_top1_and_then_by_the_log_loss(probabilities: np.ndarray) -> None:
    order = ranking(probabilities, LABELS)
    right = (probabilities.argmax(axis=2) == LABELS).mean(axis=1)
    loss = np.array([losses(each, LABELS).mean() for each in probabilities])
    assert sorted(order) == list(range(MODELS))
    for better, worse in pairwise(order):
        assert (right[better], -loss[better]) >= (right[worse], -loss[worse] - 1e-5)


def guesses(right: np.ndarray, confidence: float = 0.9) -> np.ndarray:
    """Probabilities that are right on the images named, and wrong elsewhere."""
    named = np.where(np.isin(np.arange(IMAGES), right), LABELS, (LABELS + 1) % CLASSES)
    probabilities = np.full((IMAGES, CLASSES), (1 - confidence) / (CLASSES - 1), dtype=np.float32)
    probabilities[np.arange(IMAGES), named] = confidence
    return probabilities


def test_a_worse_model_joins_where_it_mends_mistakes() -> None:
    strong, twin, other = guesses(np.arange(9)), guesses(np.arange(9)), guesses(np.arange(4, 12))
    found = shares(np.stack([strong, twin, other]), LABELS, "log-loss")
    assert found[2] > 0
    assert found[0] + found[1] > 0


def test_a_hopeless_model_gets_nothing() -> None:
    found = shares(np.stack([guesses(np.arange(10)), guesses(np.arange(0))]), LABELS, "log-loss")
    assert found.tolist() == [1, 0]


def test_members_of_pure_noise_look_good_on_select_and_stay_at_chance_on_holdout() -> None:
    generator = np.random.default_rng(0)
    labels = {"select": generator.integers(0, 10, 200), "holdout": generator.integers(0, 10, 4000)}
    logits = {split: generator.normal(0, 2, (200, len(each), 10)) for split, each in labels.items()}
    probabilities = {split: np.stack([calibrated(each, 1.0) for each in members]) for split, members in logits.items()}
    weights = shares(probabilities["select"], labels["select"], "top1")
    top1 = {
        split: (np.tensordot(weights, probabilities[split], axes=1).argmax(axis=1) == labels[split]).mean()
        for split in labels
    }
    chance, error = 0.1, np.sqrt(0.1 * 0.9 / 4000)
    assert top1["select"] > 0.2
    assert abs(top1["holdout"] - chance) < 3 * error
