import hashlib
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainable.data.layouts import ClassName
from trainable.data.splits import TEST, TRAIN, VAL, SelectShare, make_splits, select_share_for
from trainable.errors import UserError

Rows = tuple[np.ndarray, np.ndarray, tuple[ClassName, ...]]

SHARES = st.one_of(st.floats(0.001, 0.999), st.just("auto"))


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


def rows_with_val(*per_class: int, val: int) -> Rows:
    labels, published, classes = rows_of_one_part(*per_class)
    return np.append(labels, np.arange(val) % len(classes)), np.append(published, np.full(val, VAL)), classes


@given(datasets(), st.integers(0, 2**32), SHARES)
def test_splits_are_sorted_disjoint_and_cover_all_rows(rows: Rows, seed: int, share: SelectShare) -> None:
    splits = make_splits(*rows, seed, share)
    assert sorted(np.concatenate(splits).tolist()) == list(range(len(rows[0])))
    for split in splits:
        assert split.dtype == np.int64
        assert np.all(np.diff(split) > 0)


@given(datasets(), st.integers(0, 9), SHARES)
def test_published_parts_are_respected(rows: Rows, seed: int, share: SelectShare) -> None:
    _, published, _ = rows
    splits = make_splits(*rows, seed, share)
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


@given(datasets(), st.integers(0, 9), st.floats(0.001, 0.999))
def test_each_class_gives_any_share_as_long_as_one_image_stays_to_train_on(rows: Rows, seed: int, share: float) -> None:
    labels, published, classes = rows
    splits = make_splits(*rows, seed, share)
    for index in range(len(classes)):
        total = np.sum((labels == index) & (published == TRAIN))
        held = 0 if np.any(published == VAL) else np.sum(labels[splits.holdout] == index)
        assert np.sum(labels[splits.select] == index) == max(2, min(round(share * total), total - held - 1))
        assert np.sum(labels[splits.train] == index) >= 1


@given(datasets(), st.integers(0, 9), SHARES)
def test_the_holdout_part_is_the_same_for_all_shares(rows: Rows, seed: int, share: SelectShare) -> None:
    assert make_splits(*rows, seed, share).holdout.tolist() == make_splits(*rows, seed).holdout.tolist()


@given(datasets(), st.integers(0, 9), st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_the_select_part_of_a_smaller_share_is_in_that_of_a_larger_one(
    rows: Rows, seed: int, one: float, other: float
) -> None:
    smaller, larger = (make_splits(*rows, seed, share).select.tolist() for share in sorted((one, other)))
    assert set(smaller) <= set(larger)


@given(datasets(), st.integers(0, 9))
def test_the_automatic_share_never_gives_a_class_less_than_the_usual_one(rows: Rows, seed: int) -> None:
    usual, automatic = (make_splits(*rows, seed, share).select.tolist() for share in (0.05, "auto"))
    assert set(usual) <= set(automatic)


@pytest.mark.parametrize(
    ("train_images", "classes", "share"),
    [
        (100_000, 200, 0.05),  # Tiny-ImageNet: 5,000 images, 25 a class
        (10_000, 200, 0.20),  # 10 a class
        (16_000, 200, 0.125),
        (1297, 10, 200 / 1297),  # the digits
        (4000, 10, 0.05),
        (1000, 2, 0.20),
        (30, 3, 0.20),
        (0, 2, 0.20),
    ],
)
def test_the_automatic_share_is_200_images_or_10_a_class_within_its_limits(
    train_images: int, classes: int, share: float
) -> None:
    assert select_share_for(train_images, classes) == pytest.approx(share)


@given(st.integers(0, 10**7), st.integers(2, 10**4))
def test_the_automatic_share_lies_between_5_and_20_percent_and_falls_with_the_images(images: int, classes: int) -> None:
    assert 0.05 <= select_share_for(images + 1, classes) <= select_share_for(images, classes) <= 0.20


def test_the_automatic_share_counts_training_images_only() -> None:
    splits = make_splits(*rows_with_val(500, 500, val=3000), 0, "auto")
    assert [len(split) for split in splits] == [800, 200, 3000, 0]


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


@pytest.mark.parametrize(
    ("per_class", "seed", "select", "holdout"),
    [
        (
            (45, 61, 5), 3,
            [19, 43, 86, 90, 100, 106, 107], [1, 5, 21, 27, 52, 55, 69, 77, 95, 97, 108, 109],
        ),
        ((45, 61, 3), 0, [7, 27, 51, 66, 101, 106, 108], None),
    ],
)  # fmt: skip
def test_the_usual_share_gives_the_rows_that_it_gave_before_there_were_others(
    per_class: tuple[int, ...], seed: int, select: list[int], holdout: list[int] | None
) -> None:
    rows = rows_of_one_part(*per_class) if holdout else rows_with_val(*per_class, val=4)
    splits = make_splits(*rows, seed)
    assert splits.select.tolist() == select
    assert splits.holdout.tolist() == (holdout or [109, 110, 111, 112])


@pytest.mark.parametrize(
    ("rows", "seed", "digest"),
    [
        (rows_of_one_part(*[500] * 20), 0, "05e2cccec3e0893f"),
        (rows_of_one_part(*range(5, 205)), 7, "d7fa55aff774e1bb"),
        (rows_with_val(*[500] * 20, val=100), 1, "a2264817dfe3e098"),
    ],
)
def test_the_usual_share_gives_all_that_it_gave_before_there_were_others(rows: Rows, seed: int, digest: str) -> None:
    splits = make_splits(*rows, seed, 0.05)
    assert hashlib.sha256(np.concatenate(splits).tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("share", [0.001, 0.05, 0.9, "auto"])
@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_a_class_with_too_few_images_is_named_with_what_it_needs(count: int, share: SelectShare) -> None:
    needs = r"needs 5 \(2 select, 2 holdout, 1 train\); add images or remove the class"
    with pytest.raises(UserError, match=rf"^class 'class1' has {count} readable training images? but {needs}$"):
        make_splits(*rows_of_one_part(10, count), 0, share)


@pytest.mark.parametrize("share", [0.001, 0.05, 0.9, "auto"])
def test_a_published_val_lowers_what_a_class_needs_to_three(share: SelectShare) -> None:
    splits = make_splits(*rows_with_val(10, 3, val=1), 0, share)
    assert np.sum(splits.train >= 10) == 1
    needs = r"needs 3 \(2 select, 1 train\)"
    with pytest.raises(UserError, match=rf"class 'class1' has 2 readable training images but {needs}"):
        make_splits(*rows_with_val(10, 2, val=1), 0, share)


@pytest.mark.parametrize("share", [0.5, "auto"])
def test_a_class_that_cant_give_its_share_gives_what_it_can(share: SelectShare) -> None:
    splits = make_splits(*rows_of_one_part(100, 5), 0, share)
    assert [int(np.sum(split >= 100)) for split in splits] == [1, 2, 2, 0]
