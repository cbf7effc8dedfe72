import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainable.data.augmentation import augment, build_policy, resized, size_at, strength_at

POLICIES = ["none", "light", "full"]
SEEDS = np.arange(100, 108)


def noise(size: int, count: int = 8, seed: int = 0) -> np.ndarray:
    """uint8 images (count, size, size, 3) without two equal pixels beside each other."""
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@given(epochs=st.integers(1, 1000))
def test_the_strength_is_0_in_the_first_epoch(epochs: int) -> None:
    assert strength_at(0, epochs) == 0


@given(epochs=st.integers(1, 1000), data=st.data())
def test_the_strength_grows_from_epoch_to_epoch_and_never_exceeds_1(epochs: int, data: st.DataObject) -> None:
    epoch = data.draw(st.integers(0, epochs - 1))
    assert 0 <= strength_at(epoch, epochs) < strength_at(epoch + 1, epochs) <= 1


@given(epochs=st.integers(1, 1000), beyond=st.integers(0, 1000))
def test_the_strength_stays_1_beyond_the_full_length(epochs: int, beyond: int) -> None:
    assert strength_at(epochs + beyond, epochs) == pytest.approx(1)
    assert strength_at(epochs + beyond, epochs) <= 1


def test_the_strength_follows_one_minus_the_cosine() -> None:
    assert strength_at(5, 10) == pytest.approx(1 - math.cos(math.pi / 4))


@given(epochs=st.integers(1, 200), image_size=st.sampled_from([32, 64, 96, 224]))
def test_images_never_shrink_and_have_their_size_in_the_last_quarter(epochs: int, image_size: int) -> None:
    sizes = [size_at(epoch, epochs, image_size) for epoch in range(epochs)]
    assert sizes == sorted(sizes)
    assert set(sizes) <= {image_size // 2, image_size * 3 // 4, image_size}
    assert all(size == image_size for size in sizes[math.ceil(epochs * 3 / 4) :])
    assert size_at(epochs, epochs, image_size) == image_size


def test_resized_images_are_means_of_their_pixels() -> None:
    images = noise(32)
    expected = images.reshape(len(images), 16, 2, 16, 2, 3).mean((2, 4))
    np.testing.assert_allclose(resized(images, 16), expected, atol=1)
    assert resized(images, 32) is images


@pytest.mark.parametrize("strength", [-0.1, 1.1, math.nan])
def test_a_strength_outside_0_to_1_is_refused(strength: float) -> None:
    with pytest.raises(ValueError, match=r"strength .* is outside 0\.\.1"):
        build_policy("full", strength, 32)


@pytest.mark.parametrize("kind", POLICIES)
def test_at_strength_0_every_policy_leaves_images_as_they_are(kind) -> None:
    images = noise(32)
    np.testing.assert_array_equal(augment(build_policy(kind, 0.0, 32), images, SEEDS, epoch=0), images)


def test_the_policy_none_leaves_images_as_they_are_at_full_strength() -> None:
    images = noise(32)
    np.testing.assert_array_equal(augment(build_policy("none", 1.0, 32), images, SEEDS, epoch=9), images)


@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("strength", [0.01, 0.5, 1.0])
def test_shape_and_type_are_kept_and_the_images_given_are_not_touched(kind, size: int, strength: float) -> None:
    images = noise(size)
    images.flags.writeable = False  # as the memory map of the cache is
    before = images.copy()
    out = augment(build_policy(kind, strength, size), images, SEEDS, epoch=3)
    assert (out.shape, out.dtype) == (images.shape, np.uint8)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("kind", ["light", "full"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**62), epoch=st.integers(0, 10_000), strength=st.floats(0.01, 1))
def test_seed_and_epoch_fix_what_becomes_of_an_image(kind, seed: int, epoch: int, strength: float) -> None:
    images = noise(32, count=1)
    seeds = np.array([seed])
    first = augment(build_policy(kind, strength, 32), images, seeds, epoch)
    used_before = build_policy(kind, strength, 32)
    augment(used_before, noise(32), SEEDS, epoch + 1)
    np.testing.assert_array_equal(augment(used_before, images, seeds, epoch), first)


@pytest.mark.parametrize("kind", ["light", "full"])
def test_another_epoch_and_another_seed_give_other_images(kind) -> None:
    policy, images = build_policy(kind, 1.0, 32), noise(32)
    out = augment(policy, images, SEEDS, epoch=3)
    for other in (augment(policy, images, SEEDS, epoch=4), augment(policy, images, SEEDS + 1000, epoch=3)):
        assert sum(not np.array_equal(left, right) for left, right in zip(out, other, strict=True)) >= 6


@pytest.mark.parametrize("kind", ["light", "full"])
@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(8)), size=st.integers(1, 8))
def test_an_image_is_augmented_the_same_whatever_else_is_in_its_batch(kind, order: list[int], size: int) -> None:
    policy, images = build_policy(kind, 0.8, 32), noise(32)
    whole = augment(policy, images, SEEDS, epoch=5)
    chosen = order[:size]
    np.testing.assert_array_equal(augment(policy, images[chosen], SEEDS[chosen], epoch=5), whole[chosen])


def test_the_global_generators_of_random_and_numpy_are_neither_used_nor_moved() -> None:
    import random

    images = noise(32)
    outputs = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        states = random.getstate(), np.random.get_state()[1].tolist()
        outputs.append(augment(build_policy("full", 1.0, 32), images, SEEDS, epoch=3))
        assert (random.getstate(), np.random.get_state()[1].tolist()) == states
    np.testing.assert_array_equal(*outputs)


def columns(images: np.ndarray) -> np.ndarray:
    """Which of images whose brightness rises to the right are mirrored."""
    return np.array([image[:, -4:].mean() < image[:, :4].mean() for image in images])


@pytest.mark.parametrize("kind", ["light", "full"])
@pytest.mark.parametrize(("flip", "share"), [(False, 0), (True, 0.5)])
def test_images_are_mirrored_only_where_a_mirrored_image_keeps_its_label(kind, flip: bool, share: float) -> None:
    ramp = np.broadcast_to(np.linspace(20, 235, 32).astype(np.uint8)[:, None], (200, 32, 32, 3))
    out = augment(build_policy(kind, 1.0, 32, flip=flip), ramp, np.arange(200), epoch=7)
    assert columns(out).mean() == pytest.approx(share, abs=0.12 if share else 0)


def test_the_light_policy_moves_an_image_by_at_most_an_eighth_of_its_side() -> None:
    image = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    image[0, 16, 16] = 255
    out = augment(build_policy("light", 1.0, 32, flip=False), np.repeat(image, 300, 0), np.arange(300), epoch=1)
    moves = np.array([np.argwhere(moved[..., 0] == 255)[0] - 16 for moved in out])
    assert np.abs(moves).max() == 4
    assert len(np.unique(moves, axis=0)) > 60  # of 81


@pytest.mark.parametrize("kind", ["light", "full"])
def test_a_stronger_policy_changes_more(kind) -> None:
    # smooth images: on noise, one pixel's move changes as much as ten
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    image = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], ramp[::-1, None]), axis=-1)
    images = np.repeat(image[None], 100, 0)
    changes = []
    for strength in (0.05, 0.5, 1.0):
        out = augment(build_policy(kind, strength, 32), images, np.arange(100), epoch=1)
        changes.append(np.abs(out.astype(int) - images).mean())
    assert changes[0] < changes[1] < changes[2]
