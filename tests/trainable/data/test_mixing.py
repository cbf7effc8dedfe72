import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from trainable.data.mixing import BatchMixer

BATCHES = {"classes": st.integers(2, 8), "count": st.integers(1, 9), "seed": st.integers(0, 2**31)}


def batch(count: int, classes: int, size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that each hold one value, which is their number; labels 0, 1, ..., 0, 1, ..."""
    images = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, size, size).clone()
    return images, torch.arange(count) % classes


@settings(max_examples=40, deadline=None)
@given(**BATCHES, mix_prob=st.floats(0, 1), strength=st.floats(0, 1))
def test_targets_are_shares_that_sum_to_one(
    classes: int, count: int, seed: int, mix_prob: float, strength: float
) -> None:
    torch.manual_seed(seed)
    images, labels = batch(count, classes)
    mixed, targets = BatchMixer(classes, mix_prob, strength)(images, labels)
    assert mixed.shape == images.shape
    assert mixed.dtype == targets.dtype == torch.float32
    assert targets.shape == (count, classes)
    assert targets.min() >= 0
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)


@settings(max_examples=20, deadline=None)
@given(**BATCHES, chances=st.sampled_from([(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)]))
def test_at_probability_0_images_stay_and_targets_are_one_hot(
    classes: int, count: int, seed: int, chances: tuple[float, float]
) -> None:
    torch.manual_seed(seed)
    images, labels = batch(count, classes)
    mixed, targets = BatchMixer(classes, *chances)(images, labels)
    assert torch.equal(mixed, images)
    assert torch.equal(targets, torch.nn.functional.one_hot(labels, classes).float())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_the_share_of_the_pixels_is_the_share_of_the_target(seed: int) -> None:
    """Of CutMix and MixUp alike: with the image's number as its pixels' value, means mix as targets do."""
    torch.manual_seed(seed)
    images, labels = batch(5, classes=5, size=32)
    mixed, targets = BatchMixer(5, 1.0, 1.0)(images, labels)
    np.testing.assert_allclose(mixed.mean((1, 2, 3)), targets @ torch.arange(5.0), atol=1e-4)


def test_cutmix_pastes_a_rectangle_and_mixup_blends_and_each_takes_about_half_of_the_batches() -> None:
    torch.manual_seed(0)
    images, labels = batch(2, classes=2, size=32)
    mixer = BatchMixer(2, 1.0, 1.0)
    pasted = 0
    for _ in range(400):
        mixed, _ = mixer(images, labels)
        pasted += bool(torch.isin(mixed, images.unique()).all())
    assert 160 < pasted < 240


@pytest.mark.parametrize(("mix_prob", "strength"), [(0.5, 0.5), (0.25, 1.0), (1.0, 0.25)])
def test_a_batch_is_mixed_with_the_product_of_both_chances(mix_prob: float, strength: float) -> None:
    torch.manual_seed(1)
    images, labels = batch(4, classes=2, size=4)
    mixer = BatchMixer(2, mix_prob, strength)
    mixer.mix = lambda images, labels: (images, None)
    mixed = sum(mixer(images, labels)[1] is None for _ in range(2000)) / 2000
    assert mixed == pytest.approx(0.25, abs=0.03)


def test_torchs_generator_fixes_the_mixing() -> None:
    images, labels = batch(6, classes=3)
    outputs = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        outputs.append(BatchMixer(3, 1.0, 1.0)(images, labels))
    assert torch.equal(outputs[0][0], outputs[1][0])
    assert torch.equal(outputs[0][1], outputs[1][1])
    assert not torch.equal(outputs[0][1], outputs[2][1])


def test_a_batch_of_one_image_is_never_mixed() -> None:
    torch.manual_seed(0)
    images, labels = batch(1, classes=2)
    mixed, targets = BatchMixer(2, 1.0, 1.0)(images, labels)
    assert torch.equal(mixed, images)
    assert targets.tolist() == [[1, 0]]


def test_the_batch_given_is_not_touched() -> None:
    torch.manual_seed(0)
    images, labels = batch(4, classes=2)
    before = images.clone()
    for _ in range(10):
        BatchMixer(2, 1.0, 1.0)(images, labels)
    assert torch.equal(images, before)


def test_mixing_is_torchvisions() -> None:
    assert [type(way) for way in BatchMixer(2, 1.0, 1.0).mix.transforms] == [v2.CutMix, v2.MixUp]
