"""Frozen features: what goes into the last layer, computed once a machine, whatever interrupts or breaks it."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

import trainable.features as features_module
from trainable.architectures import classifiers
from trainable.config import TrialConfig
from trainable.data.dataset import Dataset, open_dataset
from trainable.errors import UserError
from trainable.features import BATCH, FEATURES, features_as_logits, open_features
from trainable.training import build_machinery

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def colours(colour_folder: Path) -> Dataset:
    return open_dataset(colour_folder, progress=False)


def machinery_of(dataset: Dataset, **values):
    config = TrialConfig.model_validate({"data": "colours", "arch": "test_resnet", "precision": "fp32"} | values)
    return build_machinery(config, dataset, CPU, updates_per_epoch=1)


def features_of(dataset: Dataset, machinery, tmp_path: Path, flip: bool = True):
    return open_features(machinery, dataset, dataset.splits.train, "test_resnet", flip, tmp_path)


@pytest.mark.parametrize("arch", ["test_resnet", "test_vit", "test_efficientnet", "deit_small_distilled_patch16_224"])
def test_the_last_layers_make_the_logits_of_the_features(arch):
    model = timm.create_model(arch, num_classes=3).eval()
    images = torch.randn(2, 3, *timm.data.resolve_model_data_config(model)["input_size"][1:])
    with torch.inference_mode():
        logits = model(images)
        with features_as_logits(model):
            features = model(images)
        layers = classifiers(model)
        parts = features.split([layer.in_features for layer in layers], dim=1)
        again = torch.stack([layer(part) for layer, part in zip(layers, parts, strict=True)]).mean(0)
    assert torch.allclose(again, logits, atol=1e-5)
    assert torch.equal(model(images).detach(), model(images).detach())  # the hooks are gone


def test_a_head_of_several_layers_keeps_all_but_the_last():
    model = timm.create_model("caformer_s18", num_classes=3)
    (layer,) = classifiers(model)
    assert layer is model.head.fc.fc2


def test_a_model_without_a_linear_layer_at_its_end_is_refused():
    model = timm.create_model("test_resnet", num_classes=0)
    with pytest.raises(UserError, match=r"classifier is Identity, without a linear layer"):
        classifiers(model)


def test_features_are_computed_once_and_then_read(colours, tmp_path, monkeypatch):
    machinery = machinery_of(colours)
    first = features_of(colours, machinery, tmp_path)
    assert first.values.shape == (2, len(colours.splits.train), classifiers(machinery.model)[0].in_features)
    monkeypatch.setattr(features_module, "_compute", None)
    again = features_of(colours, machinery_of(colours, lr=0.5), tmp_path)
    assert np.array_equal(again.values, first.values)


def test_the_second_view_is_the_mirrored_image(colours, tmp_path):
    machinery = machinery_of(colours)
    values = features_of(colours, machinery, tmp_path).values
    images = torch.from_numpy(colours.cache.images[colours.splits.train[:3]].copy())
    with features_as_logits(machinery.model), torch.inference_mode():
        for view, shown in ((0, images), (1, images.flip(2))):
            expected = machinery.model(machinery.normalise(shown))
            assert np.allclose(values[view, :3], expected.numpy(), atol=2e-3)


@pytest.mark.parametrize("change", [{"seed": 1}, {"precision": "bf16"}, {"arch": "test_efficientnet"}])
def test_other_weights_and_other_arithmetic_have_features_of_their_own(colours, tmp_path, change):
    first = features_of(colours, machinery_of(colours), tmp_path)
    other = features_of(colours, machinery_of(colours, **change), tmp_path)
    assert other.folder != first.folder


def test_an_interrupted_pass_continues_where_it_was(colours, tmp_path, monkeypatch):
    whole = features_of(colours, machinery_of(colours), tmp_path / "whole").values
    monkeypatch.setattr(features_module, "BATCH", 8)
    monkeypatch.setattr(features_module, "SAVE_EVERY", 4)
    compute, seen = features_module._features_of, []

    def breaks(machinery, images):
        seen.append(len(images))
        if len(seen) == 11:
            raise KeyboardInterrupt
        return compute(machinery, images)

    monkeypatch.setattr(features_module, "_features_of", breaks)
    with pytest.raises(KeyboardInterrupt):
        features_of(colours, machinery_of(colours), tmp_path)
    before = len(seen)
    values = features_of(colours, machinery_of(colours), tmp_path).values
    batches = 2 * -(-len(colours.splits.train) // 8)
    assert len(seen) - before == 1 + batches - 8  # one for the width; the eight batches that were noted aren't repeated
    assert np.allclose(values, whole, atol=2e-3)


@pytest.mark.parametrize("damage", ["cut", "other key"])
def test_features_that_are_not_what_was_written_are_computed_again(colours, tmp_path, damage):
    machinery = machinery_of(colours)
    first = features_of(colours, machinery, tmp_path)
    kept = np.array(first.values)
    if damage == "cut":
        (first.folder / FEATURES).write_bytes((first.folder / FEATURES).read_bytes()[:-10])
    else:
        manifest = json.loads((first.folder / "manifest.json").read_text()) | {"key": "another"}
        (first.folder / "manifest.json").write_text(json.dumps(manifest))
    assert np.array_equal(features_of(colours, machinery, tmp_path).values, kept)


def test_a_cache_folder_that_cannot_be_written_is_named(colours, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file: features cannot be kept here .* choose another --cache-dir"):
        features_of(colours, machinery_of(colours), tmp_path / "file")


def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(colours, tmp_path, monkeypatch):
    def full(descriptor: int, begin: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"features cannot be kept here \(No space left on device\)"):
        features_of(colours, machinery_of(colours), tmp_path)


def test_batches_are_not_larger_than_what_evaluation_takes():
    assert BATCH <= 256
