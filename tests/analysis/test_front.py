"""The front: what each size of ensemble reaches within the limits, and where its knee is."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.candidates import Candidate
from analysis.cost import Cost
from analysis.front import Choice, Limits, best_single, fits, knee, make_front, most_that_fit, total
from analysis.library import Library, make_library
from trainable.config import TrialConfig
from trainable.errors import UserError

IMAGES, CLASSES = 60, 4
LABELS = np.arange(IMAGES) % CLASSES
COSTS = [Cost(100 * (index + 1), 1.0 * (index + 1)) for index in range(6)]


@pytest.fixture(scope="module")
def library() -> Library:
    """Six models, each right about two images in three, others for each; a0 has the fewest parameters."""
    generator = np.random.default_rng(0)
    candidates = []
    for index in range(6):
        logits = generator.normal(0, 1, (IMAGES, CLASSES))
        logits[np.arange(IMAGES), LABELS] += 1.6
        config = TrialConfig(data=Path("x"), arch="test_resnet")
        candidates.append(Candidate(f"a{index}", config, 32, Path("w"), logits.astype(np.float16)))
    return make_library(candidates, LABELS)


def cost_of(candidate: Candidate) -> Cost:
    return COSTS[int(candidate.trial[1:])]


def test_each_point_has_more_members_and_a_lower_loss(library: Library) -> None:
    front = make_front(library, "log-loss", Limits(6), cost_of, seed=0)
    assert len(front) > 2
    assert len(front[0].members) == 1
    assert front[0].members == (0,)
    for smaller, larger in pairwise(front):
        assert len(smaller.members) < len(larger.members)
        assert smaller.badness > larger.badness


def test_weights_are_positive_and_the_cost_is_that_of_all_members(library: Library) -> None:
    for choice in make_front(library, "top1", Limits(4), cost_of, seed=0):
        assert min(choice.weights) > 0
        assert sum(choice.weights) == pytest.approx(1)
        assert list(choice.members) == sorted(choice.members)
        assert choice.cost == total([cost_of(library.candidates[index]) for index in choice.members])


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 6), st.integers(100, 2500), st.floats(1, 25))
def test_no_point_is_beyond_the_limits(library: Library, members: int, parameters: int, latency: float) -> None:
    limits = Limits(members, parameters, latency)
    for choice in make_front(library, "log-loss", limits, cost_of, seed=0):
        assert len(choice.members) <= members
        assert fits(choice.cost, limits)


def test_what_is_too_large_is_passed_over_for_what_fits() -> None:
    assert most_that_fit([5, 0, 1, 2], 3, Limits(3, parameters=800), lambda index: COSTS[index]) == [5, 0]
    assert most_that_fit([5, 0, 1, 2], 3, Limits(3, latency_ms=6.0), lambda index: COSTS[index]) == [5]
    assert most_that_fit([3, 0, 1, 2], 3, Limits(3), lambda index: COSTS[index]) == [3, 0, 1]


def test_limits_below_the_smallest_trial_name_it(library: Library) -> None:
    with pytest.raises(UserError, match=r"the smallest, a0, has 100 parameters and takes 1\.0 ms an image"):
        best_single(library, "log-loss", Limits(1, parameters=50), cost_of)


def point(members: int, badness: float) -> Choice:
    return Choice(tuple(range(members)), (1 / members,) * members, Cost(members, members), badness)


def test_the_knee_is_the_smallest_with_nearly_all_of_the_gain() -> None:
    front = [point(1, 1.0), point(2, 0.6), point(3, 0.505), point(4, 0.5)]
    assert knee(front) == front[2]
    assert knee(front[:2]) == front[1]
    assert knee(front[:1]) == front[0]
