import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainable.data.layouts import ClassName
from trainable.data.splits import TEST, TRAIN, VAL, make_splits
from trainable.errors import UserError

Rows = tuple[np.ndarray, np.ndarray, tuple[ClassName, ...]]


@st.composite
def datasets(draw: st.DrawFn) -> Rows:
    """Labels (N,), published parts (N,) and classes, rows in any order."""
    per_class = draw(st.lists(st.integers(5, 70), min_size=2, max_size=5))
    n_val, n_test = draw(st.sampled_from([0, 7])), draw(st.integers(0, 3))
    labels = np.concatenate(
        [np.full(n, c) for c, n in enumerate(per_class)] + [np.arange(n_val) % 2, np.full(n_test, -1)]
    )
    published = np.repeat([TRAIN, VAL, TEST], [sum(per_class), n_val, n_test])
    order = np.random.default_rng(draw(st.integers(0, 99))).permutation(len(labels))
    return labels[order], published[order], named(len(per_class))


def named(count: int) -> tuple[ClassName, ...]:
    return tuple(ClassName(f"class{i}", f"word {i}") for i in range(count))


def rows_of_one_part(*per_class: int) -> Rows:
    labels = np.repeat(np.arange(len(per_class)), per_class)
    return labels, np.full(len(labels), TRAIN), named(len(per_class))


@given(datasets(), st.integers(0, 2**32))
def test_splits_are_sorted_disjoint_and_cover_all_rows(rows: Rows, seed: int) -> None:
    splits = make_splits(*rows, seed)
    assert sorted(np.concatenate(splits).tolist()) == list(range(len(rows[0])))
    for split in splits:
        assert split.dtype == np.int64
        assert np.all(np.diff(split) > 0)


@given(datasets(), st.integers(0, 9))
def test_published_parts_are_respected(rows: Rows, seed: int) -> None:
    _, published, _ = rows
    splits = make_splits(*rows, seed)
    assert np.all(published[splits.train] == TRAIN)
    assert np.all(published[splits.select] == TRAIN)
    assert splits.test.tolist() == np.flatnonzero(published == TEST).tolist()
    if np.any(published == VAL):
        assert splits.holdout.tolist() == np.flatnonzero(published == VAL).tolist()
    else:
        assert np.all(published[splits.holdout] == TRAIN)


@given(datasets(), st.integers(0, 9))
def test_each_class_gives_its_share_and_at_least_two(rows: Rows, seed: int) -> None:
    labels, published, classes = rows
    splits = make_splits(*rows, seed)
    for index in range(len(classes)):
        total = np.sum((labels == index) & (published == TRAIN))
        assert np.sum(labels[splits.select] == index) == max(2, round(0.05 * total))
        assert np.sum(labels[splits.train] == index) >= 1
        if not np.any(published == VAL):
            assert np.sum(labels[splits.holdout] == index) == max(2, round(0.10 * total))


@given(datasets(), st.integers(0, 9))
def test_the_same_seed_gives_the_same_splits(rows: Rows, seed: int) -> None:
    for first, second in zip(make_splits(*rows, seed), make_splits(*rows, seed), strict=True):
        assert first.tolist() == second.tolist()


@settings(max_examples=50)
@given(datasets(), st.integers(0, 9), st.randoms(use_true_random=False))
def test_a_class_keeps_its_split_whatever_happens_to_the_others(rows: Rows, seed: int, shuffler: random.Random) -> None:
    labels, published, classes = rows
    elsewhere = np.flatnonzero((published == TRAIN) & (labels != 0))
    shuffled = elsewhere.tolist()
    shuffler.shuffle(shuffled)
    changed = labels.copy()
    changed[elsewhere] = labels[shuffled]
    before, after = make_splits(*rows, seed), make_splits(changed, published, classes, seed)
    for first, second in zip(before[:2], after[:2], strict=True):
        assert first[labels[first] == 0].tolist() == second[changed[second] == 0].tolist()


def test_a_class_keeps_its_split_when_another_is_added_before_it() -> None:
    labels, published, classes = rows_of_one_part(40, 30)
    added = (ClassName("another", "another"), *classes)
    before = make_splits(labels, published, classes, seed=3)
    after = make_splits(np.append(labels + 1, [0] * 9), np.append(published, [TRAIN] * 9), added, seed=3)
    assert before.select.tolist() == after.select[after.select < len(labels)].tolist()


def test_another_seed_gives_another_split() -> None:
    rows = rows_of_one_part(100, 100)
    assert make_splits(*rows, 0).select.tolist() != make_splits(*rows, 1).select.tolist()


def test_the_select_part_is_the_same_with_and_without_a_published_val() -> None:
    labels, published, classes = rows_of_one_part(50, 60)
    with_val = make_splits(np.append(labels, [0, 1]), np.append(published, [VAL, VAL]), classes, seed=5)
    assert make_splits(labels, published, classes, seed=5).select.tolist() == with_val.select.tolist()


def test_tiny_imagenet_gives_25_of_500_images_a_class() -> None:
    splits = make_splits(*rows_of_one_part(500, 500), 0)
    assert [len(split) for split in splits] == [850, 50, 100, 0]


@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_class_with_too_few_images_is_named_with_what_it_needs(count: int) -> None:
    with pytest.raises(UserError, match=rf"class 'class1' has {count} readable training images? but needs 5"):
        make_splits(*rows_of_one_part(10, count), 0)


def test_a_published_val_lowers_what_a_class_needs_to_three() -> None:
    labels, published, classes = rows_of_one_part(10, 3)
    splits = make_splits(np.append(labels, 0), np.append(published, VAL), classes, 0)
    assert np.sum(labels[splits.train] == 1) == 1
    with pytest.raises(UserError, match="class 'class1' has 2 readable training images but needs 3"):
        make_splits(np.append(labels[:-1], 0), np.append(published[:-1], VAL), classes, 0)
