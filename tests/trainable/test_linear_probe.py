"""The probe: logistic regression as the last layer of a model, fixed by the seed, and where fine-tuning starts."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression

from trainable import metrics
from trainable.checkpoint import load_checkpoint, save_checkpoint
from trainable.config import TrialConfig
from trainable.data.dataset import Dataset, open_dataset
from trainable.errors import UserError
from trainable.linear_probe import fit, fit_head
from trainable.training import Training

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def colours(colour_folder: Path) -> Dataset:
    return open_dataset(colour_folder, progress=False)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """`published("test_resnet")` is a file of weights that can pass for published ones."""
    folder = tmp_path_factory.mktemp("weights")

    def write(arch: str) -> Path:
        torch.manual_seed(0)
        save_file(timm.create_model(arch).state_dict(), folder / f"{arch}.safetensors")
        return folder / f"{arch}.safetensors"

    return write


@pytest.fixture
def build(colours: Dataset, published, tmp_path: Path):
    def build_training(**values) -> Training:
        weights = published("test_resnet")
        defaults = {"data": "colours", "arch": "test_resnet", "pretrained": weights, "head": "probe", "epochs": 2}
        more = {"batch_size": 16, "lr": 1e-3, "precision": "fp32", "cache_dir": tmp_path / "caches"}
        config = TrialConfig.model_validate(defaults | more | values)
        return Training(config, colours, colours.splits.train, colours.splits.select, CPU)

    return build_training


def clouds(images: int, classes: int, seed: int = 0, width: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Features of one view in overlapping clouds, one a class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    return (rng.normal(size=(1, images, width)) + rng.normal(size=(classes, width))[labels]), labels


def test_a_fit_is_scikit_learns_with_the_same_penalty():
    values, labels = clouds(120, 3)
    x = torch.from_numpy(values.astype(np.float32))
    state = torch.zeros(3, 6)
    fit(state, x, torch.from_numpy(labels), penalty=0.05)
    theirs = LogisticRegression(C=1 / (0.05 * len(labels)), tol=1e-8, max_iter=1000).fit(values[0], labels)
    ours = torch.softmax(x[0] @ state[:, :-1].T + state[:, -1], dim=1)
    assert np.allclose(ours.numpy(), theirs.predict_proba(values[0]), atol=2e-3)


@settings(deadline=None, max_examples=15)
@given(images=st.integers(8, 40), classes=st.integers(2, 4), seed=st.integers(0, 5))
def test_whatever_the_images_the_head_is_finite_and_the_seed_fixes_it(images, classes, seed):
    values, labels = clouds(images, classes, seed)
    values[..., 0] = 3.0  # a feature that never varies
    first, again = (fit_head(values, labels, classes, seed) for _ in range(2))
    assert np.isfinite(first.weight).all()
    assert np.isfinite(first.out_of_fold).all()
    assert np.array_equal(first.weight, again.weight)
    assert first.out_of_fold.shape == (images, classes)


def test_one_image_of_a_class_is_enough():
    values, labels = clouds(20, 2)
    labels[:] = 0
    labels[7] = 1
    assert np.isfinite(fit_head(values, labels, 2, seed=0).weight).all()


def test_scales_and_offsets_of_the_features_do_not_matter():
    values, labels = clouds(60, 3)
    plain, moved = fit_head(values, labels, 3, 0), fit_head(100 * values + 7, labels, 3, 0)
    ours, theirs = (values[0] @ plain.weight.T + plain.bias), ((100 * values[0] + 7) @ moved.weight.T + moved.bias)
    assert np.allclose(ours, theirs, atol=1e-2)


def test_noise_gets_a_strong_penalty_and_clear_features_a_weak_one():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    noise = fit_head(rng.normal(size=(1, 60, 200)), labels, 2, 0)
    clear = fit_head(rng.normal(size=(1, 60, 200)) / 10 + labels[None, :, None], labels, 2, 0)
    assert noise.penalty > 10 * clear.penalty


def test_a_probe_is_at_its_full_length_after_one_step_and_is_a_model_like_any_other(build, colours, tmp_path):
    training = build(freeze="all")
    before = {name: each.clone() for name, each in training.machinery.model.state_dict().items()}
    record = training.run_step()
    assert training.done
    assert (record[metrics.STEP], record[metrics.EPOCH]) == (2, 2)
    assert record[metrics.SELECT_TOP1] > 0.9  # three colours
    after = training.machinery.model.state_dict()
    assert {name for name in after if not torch.equal(after[name], before[name])} == {"fc.weight", "fc.bias"}
    save_checkpoint(training, tmp_path)
    again = build(freeze="all")
    load_checkpoint(again, tmp_path)
    rows = colours.splits.holdout
    assert torch.equal(again.predict(rows), training.predict(rows))
    with np.load(tmp_path / "predictions.npz") as kept:
        assert kept["out_of_fold"].shape == (len(colours.splits.train), 3)


def test_fine_tuning_starts_from_the_probe(build, colours):
    probe, tuned = build(freeze="all"), build(lr=1e-12, mix_prob=0.0)
    rows = colours.splits.select
    probe.run_step()
    tuned.run_step()
    assert torch.allclose(tuned.predict(rows), probe.predict(rows), atol=1e-3)


def test_a_probe_needs_no_word_on_its_head_but_weights(build):
    training = build(freeze="all", head="new")
    training.run_step()
    assert training.probe is not None
    with pytest.raises(UserError, match="freeze = early: without pretrained weights there is nothing to keep"):
        build(freeze="early", pretrained=False)


def test_the_head_is_kept_beside_the_features(build, monkeypatch):
    build(freeze="all").run_step()
    monkeypatch.setattr("trainable.linear_probe.fit_head", None)
    build(freeze="all").run_step()


@pytest.mark.parametrize(("freeze", "moves"), [("none", True), ("early", False), ("most", False)])
def test_frozen_layers_stay_as_they_are(build, freeze, moves):
    training = build(freeze=freeze)
    first = next(iter(training.machinery.model.parameters())).clone()
    head = training.machinery.model.fc
    training.run_step()
    started = head.weight.clone()
    training.run_step()
    assert not torch.equal(head.weight, started)
    assert torch.equal(next(iter(training.machinery.model.parameters())), first) is not moves


@pytest.mark.parametrize("arch", ["test_resnet", "test_efficientnet"])  # the second one's norms have children
def test_batch_norms_of_published_weights_keep_their_statistics_in_small_batches(build, published, arch):
    for batch_size, moves in ((32, False), (64, True)):
        training = build(batch_size=batch_size, arch=arch, pretrained=published(arch))
        name = next(name for name in training.machinery.model.state_dict() if name.endswith("running_mean"))
        before = training.machinery.model.state_dict()[name].clone()
        training.run_step()
        assert torch.equal(training.machinery.model.state_dict()[name], before) is not moves


def test_the_backbone_has_its_own_learning_rate(build):
    training = build(backbone_lr=0.1, layer_decay=0.5, lr=0.5)
    head = {id(each) for each in training.machinery.model.fc.parameters()}
    scales = {
        (id(each) in head, round(group["lr_scale"], 6))
        for group in training.machinery.optimizer.param_groups
        for each in group["params"]
    }
    assert {scale for is_head, scale in scales if is_head} == {1.0}
    assert max(scale for is_head, scale in scales if not is_head) <= 0.1
    count = sum(len(group["params"]) for group in training.machinery.optimizer.param_groups)
    assert count == len(list(training.machinery.model.parameters()))


def test_a_moving_average_starts_from_the_probe_too(build, colours):
    training = build(ema_decay=0.9, lr=1e-12)
    training.run_step()
    assert training.machinery.ema is not None
    assert torch.allclose(training.machinery.ema.module.fc.weight, training.machinery.model.fc.weight, atol=1e-4)
