import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import nn
from torchvision.transforms import v2

from trainable import metrics
from trainable.config import TrialConfig
from trainable.data.dataset import open_dataset
from trainable.data.mixing import BatchMixer
from trainable.device import Arithmetic
from trainable.epoch import Machinery, Normalise, predict_logits, score, top_accuracies, train_epoch, update
from trainable.training import Training

CPU = torch.device("cpu")
CLASSES = 3


def machinery_of(lr: float = 0.01, ema_decay: float | None = None, dtype: torch.dtype | None = None) -> Machinery:
    """A linear classifier of 4 px images, whose rate is `lr` in every update, under plain gradient descent."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return Machinery(
        model=model,
        normalise=Normalise((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        optimizer=optimizer,
        schedule=CosineLRScheduler(optimizer, t_initial=10, lr_min=lr, t_in_epochs=False),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        arithmetic=Arithmetic(dtype, False, "the test says so"),
        ema=ModelEmaV3(model, decay=ema_decay) if ema_decay else None,
        device=CPU,
    )


def batches_of(count: int, size: int = 8) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of noise; each image is a little brighter in its label's channel."""
    generator = torch.Generator().manual_seed(1)
    batches = []
    for _ in range(count):
        labels = torch.arange(size) % CLASSES
        images = torch.randint(0, 200, (size, 4, 4, 3), dtype=torch.uint8, generator=generator)
        images[torch.arange(size), :, :, labels] += 50
        batches.append((images, labels))
    return batches


def run(machinery: Machinery, batches, smoothing: float = 0.0, clip_grad: float | None = None):
    return train_epoch(machinery, batches, BatchMixer(CLASSES, 0.0, 0.0), smoothing, clip_grad, first_update=0)


def test_scores_are_those_computed_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]))
    labels = torch.tensor([0, 1, 2, 2])
    loss, top1, top5 = score(logits, labels)
    assert loss == pytest.approx(-(math.log(0.7) + math.log(0.3) + math.log(0.25) + math.log(0.6)) / 4)
    assert top1 == 0.5
    assert top5 == 1


def test_a_label_in_fifth_place_counts_for_top5_and_in_sixth_not() -> None:
    logits = torch.tensor([[6.0, 5, 4, 3, 2, 1]] * 4)
    _, top1, top5 = score(logits, torch.tensor([0, 4, 5, 1]))
    assert (top1, top5) == (0.25, 0.75)


@given(count=st.integers(1, 20), classes=st.integers(2, 5), seed=st.integers(0, 1000))
def test_with_at_most_five_classes_top5_is_always_1(count: int, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=generator)
    labels = torch.randint(0, classes, (count,), generator=generator)
    top1, top5 = top_accuracies(logits, labels)
    assert top5 == 1
    assert top1.item() == pytest.approx((logits.argmax(1) == labels).float().mean().item())


@pytest.mark.parametrize("mean", [(0.485, 0.456, 0.406), (0.5, 0.5, 0.5)])
def test_normalising_is_what_torchvision_does(mean: tuple[float, ...]) -> None:
    std = (0.229, 0.224, 0.225)
    images = torch.randint(0, 256, (4, 8, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])(images.permute(0, 3, 1, 2))
    torch.testing.assert_close(Normalise(mean, std)(images), expected, rtol=1e-5, atol=1e-5)


def test_normalised_images_are_channels_last_in_memory() -> None:
    out = Normalise((0.5,) * 3, (0.5,) * 3)(torch.zeros(2, 4, 4, 3, dtype=torch.uint8))
    assert out.shape == (2, 3, 4, 4)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_an_epochs_scores_are_means_over_its_images_not_over_its_batches() -> None:
    machinery = machinery_of(lr=0.0)
    batches = [*batches_of(1, size=8), *batches_of(1, size=3)]
    images = torch.cat([images for images, _ in batches])
    labels = torch.cat([labels for _, labels in batches])
    logits = machinery.model(machinery.normalise(images))
    result = run(machinery, batches)
    assert result.loss == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert result.top1 == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert (result.top5, result.images, result.finite) == (1, 11, True)


def test_labels_are_smoothed() -> None:
    batches = batches_of(1)
    machinery = machinery_of(lr=0.0)
    logits = machinery.model(machinery.normalise(batches[0][0]))
    expected = nn.functional.cross_entropy(logits, batches[0][1], label_smoothing=0.3).item()
    assert run(machinery, batches, smoothing=0.3).loss == pytest.approx(expected, rel=1e-5)


def test_an_epoch_learns() -> None:
    machinery = machinery_of(lr=0.01)
    first = run(machinery, batches_of(20))
    later = run(machinery, batches_of(20))
    assert later.loss < first.loss
    assert later.top1 > first.top1


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_an_epoch_ends_where_the_loss_stops_being_finite(dtype: torch.dtype | None) -> None:
    seen = []

    def watched():
        for batch in batches_of(10):
            seen.append(batch)
            yield batch

    result = run(machinery_of(lr=1e38, dtype=dtype), watched())
    assert not result.finite
    assert not math.isfinite(result.loss)
    assert 1 < len(seen) < 10
    assert result.images == 8 * len(seen)


def test_a_finite_epoch_says_so() -> None:
    assert run(machinery_of(), batches_of(2)).finite


def test_the_schedule_counts_updates_on_from_the_first() -> None:
    machinery = machinery_of()
    calls = []
    machinery.schedule.step_update = calls.append
    train_epoch(machinery, batches_of(3), BatchMixer(CLASSES, 0.0, 0.0), 0.0, None, first_update=7)
    assert calls == [7, 8, 9]


@pytest.mark.parametrize(("clip_grad", "largest"), [(0.5, 0.5), (None, math.inf)])
def test_gradients_are_clipped_to_their_largest_norm(clip_grad: float | None, largest: float) -> None:
    machinery = machinery_of(lr=1.0)
    before = torch.cat([p.detach().flatten().clone() for p in machinery.model.parameters()])
    run(machinery, batches_of(1), clip_grad=clip_grad)
    after = torch.cat([p.detach().flatten() for p in machinery.model.parameters()])
    step = (after - before).norm().item()
    assert step > 0.49
    assert step <= largest * 1.001
    assert clip_grad is not None or step > 0.6


def test_the_moving_average_follows_the_weights() -> None:
    machinery = machinery_of(lr=0.1, ema_decay=0.75)
    before = machinery.model[1].weight.detach().clone()
    train_epoch(machinery, batches_of(1), BatchMixer(CLASSES, 0.0, 0.0), 0.0, None, first_update=5)
    after = machinery.model[1].weight.detach()
    torch.testing.assert_close(machinery.evaluated[1].weight, 0.75 * before + 0.25 * after)


def test_without_a_moving_average_the_model_itself_is_evaluated() -> None:
    machinery = machinery_of()
    assert machinery.evaluated is machinery.model


def test_mixed_targets_reach_the_loss() -> None:
    """Their heavier label is what accuracy compares with."""
    machinery = machinery_of(lr=0.0)
    images, labels = batches_of(1)[0]
    mixed = torch.full((8, CLASSES), 0.2)
    mixed[:, 1] = 0.6
    result = train_epoch(machinery, [(images, labels)], lambda images, _: (images, mixed), 0.0, None, first_update=0)
    logits = machinery.model(machinery.normalise(images))
    assert result.loss == pytest.approx(nn.functional.cross_entropy(logits, mixed).item(), rel=1e-5)
    assert result.top1 == pytest.approx((logits.argmax(1) == 1).float().mean().item())


def test_an_update_forgets_the_gradients_before() -> None:
    machinery = machinery_of(lr=1.0)
    for parameter in machinery.model.parameters():
        parameter.grad = torch.full_like(parameter, 1e6)
    images, labels = batches_of(1)[0]
    loss = nn.functional.cross_entropy(machinery.model(machinery.normalise(images)), labels)
    update(machinery, loss, None, 0)
    assert all(parameter.abs().max() < 100 for parameter in machinery.model.parameters())


def test_logits_are_float32_and_the_same_in_batches_of_any_size() -> None:
    machinery = machinery_of(dtype=torch.bfloat16)
    images = batches_of(1, size=9)[0][0]
    whole = predict_logits(machinery, [images])
    assert whole.dtype == torch.float32
    torch.testing.assert_close(predict_logits(machinery, images.split(2)), whole, rtol=0.02, atol=0.02)


def test_predicting_uses_no_dropout_and_keeps_no_gradients() -> None:
    machinery = machinery_of()
    machinery.model.insert(1, nn.Dropout(0.9))
    machinery.model.train()
    images = batches_of(1)[0][0]
    first, second = predict_logits(machinery, [images]), predict_logits(machinery, [images])
    assert torch.equal(first, second)
    assert not first.requires_grad
    run(machinery, batches_of(1))
    assert machinery.model.training  # an epoch switches dropout on again


@pytest.mark.parametrize("arch", ["test_resnet", "test_vit"])
def test_a_real_model_learns_real_images(colour_folder: Path, arch: str) -> None:
    dataset = open_dataset(colour_folder, progress=False)
    config = TrialConfig(data=colour_folder, arch=arch, epochs=5, batch_size=16, lr=2e-3, mix_prob=0.2)
    splits = dataset.splits
    training = Training(config, dataset, splits.train, splits.holdout, CPU)
    while not training.done:
        training.run_epoch()
    assert training.history[-1][metrics.SELECT_TOP1] > 0.85
    logits = training.predict(splits.holdout)
    assert (logits.argmax(1).numpy() == dataset.cache.labels[splits.holdout]).mean() > 0.85
    assert np.isfinite(logits.numpy()).all()
