import math
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import v2

from trainable import metrics
from trainable.config import TrialConfig
from trainable.data.dataset import open_dataset
from trainable.data.mixing import BatchMixer
from trainable.device import Arithmetic
from trainable.epoch import (
    Machinery,
    MicroBatch,
    Normalise,
    gradients,
    predict_logits,
    score,
    step,
    top_accuracies,
    train_epoch,
)
from trainable.time_split import PARTS
from trainable.training import Training, build_machinery

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
        micro_batch=MicroBatch(1000),
        eval_micro_batch=MicroBatch(1000),
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
    gradients(machinery, machinery.normalise(images), labels, 0.0)
    step(machinery, None, 0)
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


def gradients_of(machinery: Machinery, images: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradients that a batch leaves, and its loss and logits beside them."""
    loss, logits = gradients(machinery, images, targets, label_smoothing=0.1)
    return {"loss": loss, "logits": logits} | {name: p.grad for name, p in machinery.model.named_parameters()}


def mixed_batch(size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised noise (size, 3, 4, 4) and soft targets (size, classes) that sum to 1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, 3, 4, 4, generator=generator), torch.rand(size, CLASSES, generator=generator).softmax(1)


@pytest.mark.parametrize("during", ["forward", "backward"])
@settings(deadline=None)
@given(batch=st.integers(1, 40), limit=st.integers(1, 40), seed=st.integers(0, 1000))
def test_gradients_of_micro_batches_add_up_to_those_of_the_whole_batch(
    limit_memory, during: str, batch: int, limit: int, seed: int
) -> None:
    images, targets = mixed_batch(batch, seed)
    whole, short = machinery_of(), machinery_of()
    tried = limit_memory(short.model, limit, during)
    expected, got = gradients_of(whole, images, targets), gradients_of(short, images, targets)
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, rtol=1e-4, atol=1e-6, msg=name)
    halvings = [size for size in tried if size > limit]
    assert halvings == [math.ceil(batch / 2**power) for power in range(len(halvings))]
    assert sum(tried[len(halvings) :]) == batch


def test_a_batch_that_doesnt_divide_is_weighted_by_the_images_of_each_micro_batch(limit_memory) -> None:
    images, targets = mixed_batch(10)
    whole, short = machinery_of(), machinery_of()
    tried = limit_memory(short.model, 4)
    expected, got = gradients_of(whole, images, targets), gradients_of(short, images, targets)
    assert tried == [10, 5, 3, 3, 3, 1]
    torch.testing.assert_close(got["1.weight"], expected["1.weight"])
    mean_of_means = [
        gradients_of(machinery_of(), *part) for part in zip(images.split(3), targets.split(3), strict=True)
    ]
    assert not torch.allclose(sum(each["1.weight"] for each in mean_of_means) / 4, expected["1.weight"], rtol=0.01)


def test_what_a_failed_attempt_accumulated_does_not_count() -> None:
    images, targets = mixed_batch(8)
    whole, short = machinery_of(), machinery_of()
    short.micro_batch.images = 2
    calls = []

    def fail_at_third(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        calls.append(len(inputs[0]))
        if len(calls) == 3:
            raise torch.OutOfMemoryError

    short.model.register_forward_pre_hook(fail_at_third)
    expected, got = gradients_of(whole, images, targets), gradients_of(short, images, targets)
    assert calls == [2, 2, 2] + [1] * 8
    torch.testing.assert_close(got["1.weight"], expected["1.weight"])


def test_a_failed_attempt_is_freed_before_the_next_one(limit_memory) -> None:
    """Its tensors would hang on the exception's traceback, and fill the memory that the smaller attempt needs."""
    machinery = machinery_of()
    outputs, alive = [], []
    machinery.model.register_forward_pre_hook(lambda *_: alive.extend(output() is not None for output in outputs))
    machinery.model.register_forward_hook(lambda _, __, output: outputs.append(weakref.ref(output)))
    limit_memory(machinery.model, 4, during="backward")
    gradients(machinery, *mixed_batch(8), 0.0)
    assert alive[0] is False


def test_a_thousand_images_become_one_in_ten_halvings_and_only_once(limit_memory) -> None:
    machinery = machinery_of()
    tried = limit_memory(machinery.model, 1)
    run(machinery, batches_of(2, size=1000))
    assert tried == [1000, 500, 250, 125, 63, 32, 16, 8, 4, 2, *[1] * 2000]


def test_a_micro_batch_stays_for_later_batches_and_a_small_batch_does_not_shrink_it(limit_memory) -> None:
    machinery = machinery_of()
    tried = limit_memory(machinery.model, 4)
    run(machinery, [*batches_of(1, size=3), *batches_of(2, size=8)])
    assert tried == [3, 8, 4, 4, 4, 4]
    assert machinery.micro_batch.images == 4


def test_a_batch_that_fits_goes_through_the_model_as_it_is() -> None:
    machinery = machinery_of()
    images, targets = mixed_batch(8)
    seen = []
    machinery.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    gradients(machinery, images, targets, 0.0)
    assert len(seen) == 1
    assert seen[0] is images


@pytest.mark.parametrize("during", ["forward", "backward"])
def test_one_image_that_does_not_fit_ends_the_epoch_and_leaves_the_weights(limit_memory, during: str) -> None:
    machinery = machinery_of()
    before = machinery.model[1].weight.detach().clone()
    tried = limit_memory(machinery.model, 0, during)
    with pytest.raises(torch.OutOfMemoryError, match=f"in the {during} pass"):
        run(machinery, batches_of(1, size=8))
    assert tried == [8, 4, 2, 1]
    assert machinery.micro_batch.images == 1
    assert torch.equal(machinery.model[1].weight, before)


def test_an_optimisers_step_that_runs_out_of_memory_is_not_tried_again(monkeypatch: pytest.MonkeyPatch, limit_memory):
    machinery = machinery_of()
    tried = limit_memory(machinery.model, 8)

    def run_out(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("in the step")

    monkeypatch.setattr(machinery.optimizer, "step", run_out)
    with pytest.raises(torch.OutOfMemoryError, match="in the step"):
        run(machinery, batches_of(1, size=8))
    assert tried == [8]


@pytest.mark.parametrize("scale", [False, True], ids=["unscaled", "scaled gradients"])
def test_an_epoch_in_micro_batches_has_the_scores_and_weights_of_one_in_whole_batches(
    limit_memory, scale: bool
) -> None:
    sides = []
    for limit in (1000, 3):
        machinery = machinery_of(lr=0.05, ema_decay=0.5)
        machinery.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scale)
        limit_memory(machinery.model, limit)
        sides.append((run(machinery, batches_of(6, size=10), smoothing=0.1, clip_grad=0.5), machinery))
    (whole, of_whole), (short, of_short) = sides
    assert of_short.micro_batch.images == 3
    assert short == pytest.approx(whole, rel=1e-5)
    for name in ("model", "evaluated"):
        torch.testing.assert_close(getattr(of_short, name)[1].weight, getattr(of_whole, name)[1].weight)


def test_gradients_of_a_real_model_without_batch_norm_add_up(colour_folder: Path, limit_memory) -> None:
    dataset = open_dataset(colour_folder, progress=False)
    config = TrialConfig(data=colour_folder, arch="test_vit", epochs=1, batch_size=32, precision="fp32")
    found = []
    for limit in (32, 5):
        machinery = build_machinery(config, dataset, CPU, updates_per_epoch=1)
        limit_memory(machinery.model, limit)
        rows = dataset.splits.train[:32]
        images = machinery.normalise(torch.from_numpy(dataset.cache.images[rows]))
        found.append(gradients_of(machinery, images, torch.from_numpy(dataset.cache.labels[rows])))
        assert machinery.micro_batch.images == {32: 32, 5: 4}[limit]
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor, rtol=1e-3, atol=1e-5, msg=name)


def test_predicting_halves_its_own_batches(limit_memory) -> None:
    machinery = machinery_of()
    images = batches_of(1, size=9)[0][0]
    whole = predict_logits(machinery, [images, images])
    tried = limit_memory(machinery.model, 4)
    torch.testing.assert_close(predict_logits(machinery, [images, images]), whole)
    assert tried == [9, 5, *[3, 3, 3] * 2]
    assert machinery.micro_batch.images == 1000


def test_predicting_one_image_that_does_not_fit_raises(limit_memory) -> None:
    machinery = machinery_of()
    limit_memory(machinery.model, 0)
    with pytest.raises(torch.OutOfMemoryError, match="in the forward pass"):
        predict_logits(machinery, [batches_of(1, size=4)[0][0]])


@pytest.mark.parametrize("arch", ["test_resnet", "test_vit"])
def test_a_real_model_learns_real_images(colour_folder: Path, arch: str) -> None:
    dataset = open_dataset(colour_folder, progress=False)
    config = TrialConfig(data=colour_folder, arch=arch, epochs=5, batch_size=16, lr=2e-3, mix_prob=0.2)
    splits = dataset.splits
    training = Training(config, dataset, splits.train, splits.holdout, CPU)
    while not training.done:
        training.run_step()
    assert training.history[-1][metrics.SELECT_TOP1] > 0.85
    logits = training.predict(splits.holdout)
    assert (logits.argmax(1).numpy() == dataset.cache.labels[splits.holdout]).mean() > 0.85
    assert np.isfinite(logits.numpy()).all()


class ItemCalls(TorchDispatchMode):
    """Counts the `.item()`, `.tolist()` and the like, each of which would wait for a GPU."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("clip_grad", [None, 1.0])
def test_nothing_in_the_loop_waits_for_the_device(clip_grad) -> None:
    def mixer(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return images, torch.eye(CLASSES)[labels]  # the real one looks at its own CPU generator, and one_hot at labels

    with ItemCalls() as one:
        torch.ones(()).item()
    with ItemCalls() as calls:
        train_epoch(machinery_of(), batches_of(12), mixer, 0.1, clip_grad, first_update=0)
    assert (one.count, calls.count) == (1, 0)


def test_an_epochs_time_is_split_into_its_parts() -> None:
    machinery = machinery_of()
    run(machinery, batches_of(3))
    seconds = machinery.split.seconds()
    assert all(seconds[part] > 0 for part in PARTS)


def test_images_that_are_normalised_already_stay_as_they_are() -> None:
    machinery, other = machinery_of(), machinery_of()
    batches = batches_of(3)
    scores = run(machinery, batches)
    assert run(other, [(other.normalise(images), labels) for images, labels in batches]) == scores
