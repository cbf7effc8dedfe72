"""The choice of members: a rule on arrays, held as properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.select import choose_members, prefix_means, rank, score_logits

FEW = settings(deadline=None, max_examples=40)
IMAGES, CLASSES = 12, 3
LABELS = np.arange(IMAGES) % CLASSES
CANDIDATES = st.lists(
    arrays(np.float16, (IMAGES, CLASSES), elements=st.floats(-8, 8, width=16)), min_size=1, max_size=5
)


def guesses(right: int, margin: float = 4.0) -> np.ndarray:
    """Logits that are right for the first `right` images and wrong for the others."""
    logits = np.zeros((IMAGES, CLASSES), dtype=np.float32)
    named = np.where(np.arange(IMAGES) < right, LABELS, (LABELS + 1) % CLASSES)
    logits[np.arange(IMAGES), named] = margin
    return logits


@FEW
@given(CANDIDATES, st.integers(1, 6))
def test_the_ensemble_is_never_worse_on_select_than_the_best_single_candidate(
    logits: list[np.ndarray], most: int
) -> None:
    chosen = choose_members(logits, LABELS, most)
    best = max((score_logits(each, LABELS) for each in logits), key=lambda scores: (scores.top1, -scores.loss))
    assert (chosen.scores.top1, -chosen.scores.loss) >= (best.top1, -best.loss)


@FEW
@given(CANDIDATES, st.integers(1, 6))
def test_the_members_are_a_prefix_of_the_ranking_with_the_scores_of_their_mean(
    logits: list[np.ndarray], most: int
) -> None:
    chosen = choose_members(logits, LABELS, most)
    assert list(chosen.indices) == rank(logits, LABELS)[: len(chosen.indices)]
    assert 1 <= len(chosen.indices) <= most
    mean = np.mean([logits[index].astype(np.float64) for index in chosen.indices], axis=0)
    assert chosen.scores == pytest.approx(score_logits(mean, LABELS))


@FEW
@given(CANDIDATES, st.randoms(use_true_random=False))
def test_the_order_of_candidates_with_distinct_scores_does_not_matter(logits: list[np.ndarray], random) -> None:
    distinct = list({score_logits(each, LABELS): each for each in logits}.values())
    order = random.sample(range(len(distinct)), len(distinct))
    before = choose_members(distinct, LABELS, most=3)
    after = choose_members([distinct[index] for index in order], LABELS, most=3)
    assert tuple(order[index] for index in after.indices) == before.indices
    assert after.scores == before.scores


@FEW
@given(CANDIDATES)
def test_the_prefix_means_are_the_means_of_the_prefixes(logits: list[np.ndarray]) -> None:
    for count, mean in enumerate(prefix_means(logits), start=1):
        np.testing.assert_allclose(mean, np.mean(logits[:count], axis=0, dtype=np.float64), atol=1e-12)


def test_candidates_rank_by_top1_and_then_by_the_lower_loss() -> None:
    timid, bold, best = guesses(6, margin=0.5), guesses(6, margin=9.0), guesses(7, margin=9.0)
    assert rank([bold, timid, best], LABELS) == [2, 1, 0]


def test_of_two_equal_candidates_one_is_enough() -> None:
    assert choose_members([guesses(8), guesses(8)], LABELS, most=2).indices == (0,)


def test_a_worse_candidate_joins_where_it_mends_mistakes() -> None:
    strong, other = guesses(9), guesses(6)
    other[9:] = 0
    other[np.arange(9, IMAGES), LABELS[9:]] = 9.0
    other[:9] = 0
    assert choose_members([other, strong], LABELS, most=2).indices == (1, 0)


def test_a_member_more_is_taken_at_equal_top1_where_the_loss_falls() -> None:
    overconfident, careful = guesses(9, margin=9.0), guesses(8, margin=0.1)
    chosen = choose_members([overconfident, careful], LABELS, most=2)
    assert chosen.indices == (0, 1)
    assert chosen.scores.top1 == pytest.approx(9 / 12)


@pytest.mark.parametrize(("candidates", "labels", "most"), [(0, 3, 1), (1, 0, 1), (1, 3, 0)])
def test_nothing_to_choose_from_is_refused(candidates: int, labels: int, most: int) -> None:
    logits = [np.zeros((labels, CLASSES))] * candidates
    with pytest.raises(ValueError, match=f"{candidates} candidates, {labels} labels, at most {most} members"):
        choose_members(logits, LABELS[:labels], most)
