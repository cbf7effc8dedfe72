import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainable.data.augmentation import augment, build_policy
from trainable.data.batch_augmentation import (
    Draws,
    apply_draws,
    draw,
    draw_colours,
    draw_crops,
    draw_holes,
    draw_warps,
)

SIDE = 32
OFFSET, SCALE = torch.tensor([120.0, 125.0, 130.0]), torch.tensor([0.02, 0.01, 0.015])
WHOLE = [0.0, 0.0, 1.0, 1.0]


def smooth_images(count: int, seed: int = 0, side: int = SIDE) -> np.ndarray:
    """Random blobs, uint8 (count, side, side, 3), which a fraction of a pixel changes little."""
    rough = np.random.default_rng(seed).random((count, 6, 6, 3)).astype(np.float32)
    fine = np.stack([cv2.resize(each, (side, side), interpolation=cv2.INTER_CUBIC) for each in rough])
    return np.clip(255 * fine, 0, 255).astype(np.uint8)


def bytes_of(result: torch.Tensor) -> np.ndarray:
    """Undo the normalisation: (batch, H, W, 3) in 0..255."""
    return (result.permute(0, 2, 3, 1) / SCALE + OFFSET).numpy()


def applied(draws: Draws, images: np.ndarray, side: int = SIDE) -> np.ndarray:
    return bytes_of(apply_draws(draws, torch.from_numpy(images), side, OFFSET, SCALE))


def one(**parts: list) -> Draws:
    """Draws of a single image."""
    return Draws(**{name: torch.tensor([part], dtype=torch.float32) for name, part in parts.items()})


@pytest.mark.parametrize("policy", ["none", "light", "full"])
def test_at_strength_0_images_are_only_normalised(policy) -> None:
    images = smooth_images(4)
    result = apply_draws(
        draw(policy, 0.0, True, SIDE, 4, np.random.default_rng(0)), torch.from_numpy(images), SIDE, OFFSET, SCALE
    )
    np.testing.assert_allclose(bytes_of(result), images, atol=1e-3)
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_a_strength_outside_0_to_1_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"strength 1\.5 is outside"):
        draw("full", 1.5, True, SIDE, 1, np.random.default_rng(0))


def test_a_crop_shows_that_part_as_opencv_resizes_it() -> None:
    image = smooth_images(1)
    part = image[0, 4:28, 6:22]  # 24 rows, 16 columns
    expected = cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    crop = [(6 + 22) / SIDE - 1, (4 + 28) / SIDE - 1, 16 / SIDE, 24 / SIDE]
    found = applied(one(crop=crop), image)[0]
    np.testing.assert_allclose(found[1:-1, 1:-1], expected[1:-1, 1:-1], atol=1.5)


def test_a_negative_half_width_mirrors() -> None:
    image = smooth_images(1)
    np.testing.assert_allclose(applied(one(crop=[0.0, 0.0, -1.0, 1.0]), image)[0], image[0, :, ::-1], atol=1e-2)


def test_a_warp_is_what_opencv_does_with_reflection_at_the_edges() -> None:
    image = smooth_images(1)
    warp = draw_warps(1.0, SIDE, 64, np.random.default_rng(1))
    warp = warp[np.abs(warp[:, :, :2] - np.eye(2)).max((1, 2)) > 0.1][0]
    middle = (SIDE - 1) / 2
    matrix = warp.copy()  # from places in -1..1 to pixels
    matrix[:, 2] = SIDE / 2 * warp[:, 2] + middle - warp[:, :2] @ [middle, middle]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    expected = cv2.warpAffine(image[0], matrix, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    found = applied(one(crop=WHOLE, warp=warp.tolist()), image)[0]
    assert np.abs(found - expected).mean() < 1
    assert np.abs(found - expected).max() < 12  # OpenCV counts in 32nds of a pixel


def test_half_the_size_is_the_mean_of_four_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    expected = images.reshape(3, SIDE // 2, 2, SIDE // 2, 2, 3).mean((2, 4))
    np.testing.assert_allclose(applied(Draws(), images, SIDE // 2), expected, atol=1e-2)


def test_grey_images_keep_their_hue_and_saturation() -> None:
    grey = np.repeat(np.random.default_rng(0).integers(60, 190, (8, SIDE, SIDE, 1), dtype=np.uint8), 3, axis=3)
    colour, to_mean = draw_colours(1.0, 8, np.random.default_rng(0))
    draws = Draws(colour=torch.from_numpy(colour).float(), to_mean=torch.from_numpy(to_mean).float())
    found = applied(draws, grey)
    np.testing.assert_allclose(found[..., 0], found[..., 1], atol=0.1)
    np.testing.assert_allclose(found[..., 1], found[..., 2], atol=0.1)


def test_a_hole_is_black_and_nothing_else_is() -> None:
    image = np.full((1, SIDE, SIDE, 3), 200, np.uint8)
    found = applied(one(hole=[4 / SIDE, 8 / SIDE, 10 / SIDE, 16 / SIDE]), image)[0]
    expected = np.full((SIDE, SIDE, 3), 200.0)
    expected[8:16, 4:10] = 0
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_blur_is_opencvs_of_three_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)
    side = np.exp(-0.5) / (1 + 2 * np.exp(-0.5))
    expected = cv2.GaussianBlur(images[0].astype(np.float32), (3, 3), 1.0)
    np.testing.assert_allclose(
        applied(Draws(blur=torch.tensor([side], dtype=torch.float32)), images)[0], expected, atol=0.01
    )


@given(strength=st.floats(0.01, 1), seed=st.integers(0, 1000), policy=st.sampled_from(["light", "full"]))
@settings(max_examples=25, deadline=None)
def test_results_stay_in_the_range_of_bytes_and_parts_equal_the_whole(strength, seed, policy) -> None:
    images = smooth_images(6, seed)
    draws = draw(policy, strength, True, SIDE, 6, np.random.default_rng(seed))
    whole = applied(draws, images)
    assert whole.shape == images.shape
    assert whole.min() > -0.01
    assert whole.max() < 255.01
    np.testing.assert_allclose(applied(draws.part(2, 5), images[2:5]), whole[2:5], atol=0.01)


@given(strength=st.floats(0, 1), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_crops_and_holes_lie_inside_the_image(strength, seed) -> None:
    rng = np.random.default_rng(seed)
    crop = draw_crops(strength, SIDE, 50, rng)
    assert (np.abs(crop[:, :2]) + crop[:, 2:] <= 1 + 1e-9).all()
    assert (4 * crop[:, 2] * crop[:, 3] >= 4 * (1 - 0.65 * strength) * 0.85).all()
    hole = draw_holes(strength, SIDE, 50, rng)
    assert (hole >= 0).all()
    assert (hole <= 1).all()
    assert (hole[:, 2:] - hole[:, :2] <= 0.35).all()


def both(policy: str, strength: float, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What albumentations and the batch make of the images, as floats of bytes."""
    one_by_one = augment(build_policy(policy, strength, SIDE), images, np.arange(len(images)), epoch=0)
    draws = draw(policy, strength, True, SIDE, len(images), np.random.default_rng(0))
    return one_by_one.astype(np.float64), applied(draws, images).astype(np.float64)


@pytest.mark.parametrize("policy", ["light", "full"])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_many_images_have_the_moments_of_albumentations(policy, strength) -> None:
    first, second = both(policy, strength, smooth_images(1500))
    means = [each.mean((1, 2)) for each in (first, second)]
    np.testing.assert_allclose(means[0].mean(0), means[1].mean(0), atol=4)
    np.testing.assert_allclose(means[0].std(0), means[1].std(0), atol=3)
    for spread in (lambda each: each.std((1, 2)).mean(), lambda each: np.abs(np.diff(each, axis=2)).mean()):
        assert spread(second) == pytest.approx(spread(first), rel=0.04)
    black = [(each <= 0.5).all(3).mean() for each in (first, second)]
    assert black[1] == pytest.approx(black[0], abs=0.005)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_the_mean_picture_of_one_image_is_that_of_albumentations(strength) -> None:
    """Which shows where crops, mirrors and warps put things, a direction or a centre that is wrong too."""
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    picture[3:9, 5:20] = 250, 60, 30
    picture[18:30, 22:28] = 40, 220, 120
    first, second = both("full", strength, np.repeat(picture[None], 3000, axis=0))
    difference = np.abs(cv2.blur(first.mean(0) - second.mean(0), (3, 3)))
    assert difference.max() < 9
    assert difference.mean() < 2.5
