"""Greedy selection on arrays: its invariants, and what pure noise may and may not do."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.calibration import losses
from analysis.greedy import BAGS, LIKELY, Metric, badness, ballots, handicaps, image_badness, ranking, scored
from analysis.greedy import shares as greedy_shares
from analysis.library import calibrated

MODELS, IMAGES, CLASSES = 4, 12, 3
LABELS = np.arange(IMAGES) % CLASSES
PROBABILITIES = arrays(np.float16, (MODELS, IMAGES, CLASSES), elements=st.floats(-8, 8, width=16)).map(
    lambda logits: np.stack([calibrated(each, 1.0) for each in logits])
)
SHARES = st.lists(st.floats(0.1, 1), min_size=MODELS, max_size=MODELS).map(
    lambda each: [value / sum(each) for value in each]
)
METRICS = st.sampled_from(["log-loss", "top1"])


def shares(
    probabilities: np.ndarray, labels: np.ndarray, metric: Metric, trained: Sequence[float] | None = None
) -> np.ndarray:
    seen = scored(probabilities, labels, metric)
    against = handicaps(trained or [1.0] * len(seen))
    return greedy_shares(seen, labels, metric, badness(seen, labels, metric) + against / len(labels), against)


def mean_badness(probabilities: np.ndarray, weights: Sequence[float], labels: np.ndarray, metric: Metric) -> float:
    mean = np.tensordot(np.array(weights, np.float32), probabilities, axes=1)
    return float(image_badness(mean, labels, metric).mean())


FEW = settings(deadline=None, max_examples=40)


@FEW
@given(PROBABILITIES, METRICS)
def test_shares_are_multiples_of_one_addition_and_add_up_to_one(probabilities: np.ndarray, metric: Metric) -> None:
    found = shares(probabilities, LABELS, metric)
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()


@FEW
@given(PROBABILITIES)
def test_the_images_never_speak_against_the_ensemble_for_the_best_model(probabilities: np.ndarray) -> None:
    best = min(mean_badness(probabilities, alone.tolist(), LABELS, "log-loss") for alone in np.eye(MODELS))
    found = mean_badness(probabilities, shares(probabilities, LABELS, "log-loss").tolist(), LABELS, "log-loss")
    assert IMAGES * (found - best) <= LIKELY + 1e-4


@FEW
@given(PROBABILITIES, METRICS, st.integers(0, 100))
def test_ballots_are_distributions_from_halves_and_fixed_by_the_seed(
    probabilities: np.ndarray, metric: Metric, seed: int
) -> None:
    found = ballots(probabilities, LABELS, metric, seed)
    assert len(found) == BAGS
    for ballot, again in zip(found, ballots(probabilities, LABELS, metric, seed), strict=True):
        assert ballot.shares.sum() == pytest.approx(1)
        assert sorted([*ballot.half, *ballot.others]) == list(range(IMAGES))
        assert len(ballot.others) == IMAGES // 2
        np.testing.assert_array_equal(ballot.shares, again.shares)
        np.testing.assert_array_equal(ballot.others, again.others)


@FEW
@given(PROBABILITIES, METRICS, SHARES)
def test_the_badness_of_a_mean_is_that_of_the_probabilities_added_up(
    probabilities: np.ndarray, metric: Metric, weights: list[float]
) -> None:
    mean = np.tensordot(np.array(weights, np.float32), probabilities, axes=1)
    loss = losses(mean, LABELS).mean()
    expected = loss if metric == "log-loss" else (mean.argmax(axis=1) != LABELS).mean() + 1e-3 * loss
    assert mean_badness(probabilities, weights, LABELS, metric) == pytest.approx(expected, abs=1e-5)


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


def test_models_that_few_images_cannot_tell_apart_share_the_vote_and_many_images_decide() -> None:
    better, worse = guesses(np.arange(12), 0.99), guesses(np.arange(12), 0.9)
    few = shares(np.stack([better, worse]), LABELS, "log-loss")
    assert few.tolist() == [0.5, 0.5]
    many = [np.tile(each, (100, 1)) for each in (better, worse)]
    assert shares(np.stack(many), np.tile(LABELS, 100), "log-loss").tolist() == [1, 0]


def test_a_trial_that_was_hardly_trained_needs_images_that_speak_for_it() -> None:
    alike = np.stack([guesses(np.arange(10)), guesses(np.arange(1, 11))])
    assert shares(alike, LABELS, "log-loss").tolist() == [0.5, 0.5]
    assert shares(alike, LABELS, "log-loss", trained=[8, 4]).tolist() == [0.5, 0.5]
    assert shares(alike, LABELS, "log-loss", trained=[10, 1]).tolist() == [1, 0]
    many = [np.tile(each, (100, 1)) for each in (guesses(np.arange(9)), guesses(np.arange(12), 0.99))]
    assert shares(np.stack(many), np.tile(LABELS, 100), "log-loss", trained=[64, 1]).tolist() == [0, 1]


@FEW
@given(st.lists(st.floats(0.01, 1000), min_size=1, max_size=5))
def test_the_handicap_is_a_nat_for_each_halving_of_the_longest_training(trained: list[float]) -> None:
    found = handicaps(trained)
    assert found.min() == 0
    assert (max(trained) / 2**found).tolist() == pytest.approx(trained)


@pytest.mark.parametrize("metric", ["log-loss", "top1"])
def test_the_handicap_holds_in_every_ballot_and_for_the_model_that_is_best_alone(metric: Metric) -> None:
    alike = np.stack([guesses(np.arange(10)), guesses(np.arange(1, 11))])
    for ballot in ballots(alike, LABELS, metric, seed=0, trained=[1000, 1]):
        assert ballot.shares.tolist() == [1, 0]
        assert ballot.alone.argmin() == 0


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
