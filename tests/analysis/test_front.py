"""The front: what each size of ensemble reaches within the limits, and where its knee is."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.candidates import Candidate
from analysis.cost import Cost
from analysis.front import (
    CHANCE,
    Choice,
    Limits,
    best,
    knee,
    make_front,
    most_that_fit,
    not_worse,
    standard_errors_behind,
    total,
    unseen_badness,
    weights_of,
)
from analysis.greedy import WORTH, Ballot, ballots
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


def test_each_point_has_more_members_and_loses_no_nat_to_the_best_smaller_one(library: Library) -> None:
    front = make_front(library, "log-loss", Limits(6), cost_of, seed=0)
    assert len(front) > 2
    assert front[0].members == (0,)
    for position, (smaller, larger) in enumerate(pairwise(front), 1):
        assert len(smaller.members) < len(larger.members)
        assert IMAGES * (larger.out_of_bag - min(each.out_of_bag for each in front[:position])) <= WORTH
    assert front[-1].out_of_bag < front[0].out_of_bag


def test_weights_are_positive_and_the_cost_is_that_of_all_members(library: Library) -> None:
    for choice in make_front(library, "top1", Limits(4), cost_of, seed=0):
        assert min(choice.weights) > 0
        assert sum(choice.weights) == pytest.approx(1)
        assert list(choice.members) == sorted(choice.members)
        assert choice.cost == total([cost_of(library.candidates[index]) for index in choice.members])


def test_weights_are_the_votes() -> None:
    votes = np.array([0.1, 0.0, 0.6, 0.3])
    assert weights_of(votes, [0, 2]) == pytest.approx((1 / 7, 6 / 7))
    assert weights_of(votes, [1]) == (1.0,)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 6), st.integers(100, 2500), st.floats(1, 25))
def test_no_point_is_beyond_the_limits(library: Library, members: int, parameters: int, latency: float) -> None:
    limits = Limits(members, parameters, latency)
    for choice in make_front(library, "log-loss", limits, cost_of, seed=0):
        assert len(choice.members) <= members
        assert choice.cost.parameters <= parameters
        assert choice.cost.latency_ms <= latency


def cost(members: Sequence[int]) -> Cost:
    return total([COSTS[index] for index in members])


def test_what_is_too_large_is_passed_over_for_what_fits() -> None:
    votes = np.array([0.3, 0.2, 0.1, 0.0, 0.0, 0.4])
    assert most_that_fit(votes, 3, Limits(3, parameters=800), cost) == [0, 5]
    assert most_that_fit(votes, 3, Limits(3, latency_ms=6.0), cost) == [5]
    assert most_that_fit(votes, 3, Limits(3), cost) == [0, 1, 5]
    assert most_that_fit(votes, 6, Limits(6), cost) == [0, 1, 2, 5]
    assert most_that_fit(votes, 6, Limits(6, parameters=400), cost) == [0, 1]


def test_limits_below_the_smallest_trial_name_it(library: Library) -> None:
    with pytest.raises(UserError, match=r"the smallest, a0, has 100 parameters and takes 1\.0 ms an image"):
        make_front(library, "log-loss", Limits(1, parameters=50), cost_of, seed=0)


def point(members: int, badness: float) -> Choice:
    return Choice(tuple(range(members)), (1 / members,) * members, Cost(members, members), badness)


def test_the_knee_is_the_smallest_with_nearly_all_of_the_gain() -> None:
    front = [point(1, 1.0), point(2, 0.6), point(3, 0.505), point(4, 0.5)]
    assert knee(front, 100) == front[2]
    assert knee(front[:2], 100) == front[1]
    assert knee(front[:1], 100) == front[0]


def test_where_the_images_cannot_tell_whether_there_is_a_gain_the_knee_is_the_largest() -> None:
    front = [point(1, 0.50), point(2, 0.49), point(3, 0.51)]
    assert knee(front, 100) == front[2]
    assert knee(front, 1000) == front[1]


def test_the_best_is_the_one_with_the_best_score_and_of_equals_the_largest() -> None:
    front = [point(1, 0.5), point(2, 0.4), point(3, 0.4), point(4, 0.45)]
    assert best(front) == front[2]


def test_the_front_says_how_far_each_ensemble_is_behind_the_single_candidate(library: Library) -> None:
    front = make_front(library, "log-loss", Limits(6), cost_of, seed=0)
    assert front[0].lag == 0
    assert front[-1].lag < -2  # the mean of six equals is better, beyond chance


def ballot(others: list[int], shares: Sequence[float] = (1.0,)) -> Ballot:
    half = np.setdiff1d(np.arange(IMAGES), others)
    return Ballot(np.array(shares), np.zeros(len(shares)), half, np.array(others))


def test_standard_errors_count_each_image_once_with_its_mean_over_the_ballots() -> None:
    given_here = [ballot([0, 1, 2]), ballot([1, 2, 3])]
    losses = [np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])]
    zeros = [np.zeros(3)] * 2
    means = np.array([1.0, 3.0, 4.0, 6.0])
    expected = means.mean() / (means.std(ddof=1) / 2)
    assert standard_errors_behind(losses, zeros, given_here) == pytest.approx(expected)
    assert standard_errors_behind(zeros, losses, given_here) == pytest.approx(-expected)


def test_without_any_spread_the_sign_decides() -> None:
    one, zero = [np.ones(2)], [np.zeros(2)]
    assert standard_errors_behind(zero, zero, [ballot([0, 1])]) == 0
    assert standard_errors_behind(one, zero, [ballot([0, 1])]) == np.inf
    assert standard_errors_behind(zero, one, [ballot([0, 1])]) == -np.inf
    assert standard_errors_behind([np.ones(1)], [np.zeros(1)], [ballot([0])]) == 0  # one image tells nothing


def test_out_of_bag_the_ensemble_is_calibrated_by_the_images_that_chose_it(library: Library) -> None:
    (first, *_) = ballots(library.probabilities, library.labels, "log-loss", seed=0)
    changed = library.labels.copy()
    changed[first.others] = (changed[first.others] + 1) % CLASSES
    members = np.flatnonzero(first.shares).tolist()
    assert len(members) > 1
    seen, other = (
        unseen_badness(each, members, first, "log-loss") for each in (library, library._replace(labels=changed))
    )
    mean = np.tensordot(np.array(weights_of(first.shares, members)), library.probabilities[members], axes=1)
    plain = -np.log(mean[first.others, library.labels[first.others]])
    assert seen.mean() < plain.mean()  # the mean of calibrated members is too flat
    right = [np.exp(-each) for each in (seen, other)]
    assert (right[0] + right[1] <= 1 + 1e-6).all()  # two classes of one distribution: other labels changed no T


def test_an_ensemble_that_is_worse_than_the_single_candidate_beyond_chance_is_not_taken() -> None:
    alone = point(1, 0.5)
    worse, unclear = (point(3, 0.6)._replace(lag=lag) for lag in (CHANCE + 0.1, CHANCE - 0.1))
    assert not_worse([alone, worse], worse) == alone
    assert not_worse([alone, unclear], unclear) == unclear
    assert not_worse([alone], alone) == alone


def weak_and_strong(images: int, seed: int) -> tuple[list[Candidate], np.ndarray]:
    """One trial that is right about most images and was trained in full, and eleven that hardly learned anything."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(images) % CLASSES)
    candidates = []
    for index in range(12):
        logits = generator.normal(0, 1, (images, CLASSES))
        logits[np.arange(images), labels] += 2.5 if index == 0 else 0.5
        config = TrialConfig(data=Path("x"), arch="test_resnet")
        trained = 8.0 if index == 0 else 1.0
        entry = Candidate(f"a{index}", config, 32, Path("w"), logits.astype(np.float16), trained=trained)
        candidates.append(entry)
    return candidates, labels


def test_weak_trials_hardly_ever_join_though_twelve_images_cannot_speak_against_them() -> None:
    joined = 0
    for seed in range(20):
        library = make_library(*weak_and_strong(12, seed))
        front = make_front(library, "log-loss", Limits(5), lambda _: Cost(1, 1.0), seed=0)
        members = not_worse(front, knee(front, 12)).members
        joined += any(library.candidates[index].trained < 8 for index in members)
    assert joined <= 1


def test_only_candidates_that_are_chosen_are_measured_where_there_is_no_limit(library: Library) -> None:
    measured = set()

    def cost_once(candidate: Candidate) -> Cost:
        measured.add(candidate.trial)
        return cost_of(candidate)

    front = make_front(library, "log-loss", Limits(2), cost_once, seed=0)
    assert measured == {library.candidates[index].trial for choice in front for index in choice.members}
