"""The one formula: members calibrated, probabilities averaged, the average calibrated; as properties."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.pooling import pool, pooled

LOGITS = arrays(np.float32, (3, 4, 5), elements=st.floats(-20, 20, width=32))
SHARES = st.lists(st.floats(0.1, 1), min_size=3, max_size=3).map(lambda each: [value / sum(each) for value in each])
TEMPERATURES = st.lists(st.floats(0.1, 10), min_size=3, max_size=3)
FEW = settings(deadline=None, max_examples=50)


@FEW
@given(LOGITS, TEMPERATURES, SHARES, st.floats(0.1, 10))
def test_probabilities_are_positive_and_add_up_to_one(
    logits: np.ndarray, temperatures: list[float], weights: list[float], temperature: float
) -> None:
    probabilities = pool(logits, temperatures, weights, temperature)
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@FEW
@given(LOGITS, TEMPERATURES, SHARES, st.floats(0.1, 10))
def test_the_formula_is_the_one_that_is_written_down(
    logits: np.ndarray, temperatures: list[float], weights: list[float], temperature: float
) -> None:
    scaled = logits.astype(np.float64) / np.array(temperatures)[:, None, None]
    members = np.exp(scaled - scaled.max(axis=2, keepdims=True))
    members /= members.sum(axis=2, keepdims=True)
    mean = np.maximum(np.tensordot(weights, members, axes=1), 1e-12) ** (1 / temperature)
    expected = mean / mean.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(pool(logits, temperatures, weights, temperature), expected, atol=1e-5)


@FEW
@given(LOGITS, TEMPERATURES, SHARES, st.randoms(use_true_random=False))
def test_the_order_of_the_members_does_not_matter(
    logits: np.ndarray, temperatures: list[float], weights: list[float], random
) -> None:
    order = random.sample(range(3), 3)
    shuffled = pool(logits[order], [temperatures[each] for each in order], [weights[each] for each in order])
    np.testing.assert_allclose(shuffled, pool(logits, temperatures, weights), atol=1e-6)


def test_one_member_at_temperature_1_is_its_softmax() -> None:
    logits = np.array([[[1.0, 2.0, 3.0]]], dtype=np.float16)
    np.testing.assert_allclose(pool(logits, [1.0], [1.0])[0], [0.0900306, 0.2447285, 0.6652409], atol=1e-6)


def test_a_class_that_all_members_rule_out_stays_a_number() -> None:
    members = torch.tensor([[[1.0, 0.0]]])
    assert pooled(members, torch.ones(1), torch.tensor(0.05)).tolist()[0] == pytest.approx([1, 0])
