"""Rebuilt members are checked in the arithmetic in which they were trained."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import analysis.members as members_module
from analysis.ensemble import load_ensemble
from analysis.members import check_faithful, logits_as_trained
from benchmarks._made_up_ensemble import write_ensemble
from trainable.config import TrialConfig
from trainable.data.dataset import Dataset
from trainable.errors import UserError


@pytest.fixture
def selected(dataset: Dataset, tmp_path: Path):
    """An ensemble, and a selection whose member said what it says in bf16, as trained in the given precision."""
    write_ensemble(tmp_path / "made", "test_vit", [32], [each.id for each in dataset.classes])
    ensemble = load_ensemble(tmp_path / "made", "cpu")
    images = dataset.cache.images[dataset.splits.select]
    kept = logits_as_trained(ensemble, 0, images, torch.bfloat16).astype(np.float16)

    def make(precision: str) -> tuple:
        config = TrialConfig.model_validate({"data": "x", "precision": precision})
        member = SimpleNamespace(logits=kept, config=config, weights="model.safetensors")
        return ensemble, SimpleNamespace(dataset=dataset, members=[member])

    return make


def test_logits_that_only_bf16_repeats_are_those_of_a_training_in_bf16(selected, monkeypatch) -> None:
    ensemble, selection = selected("bf16")
    exact = ensemble.member_logits(selection.dataset.cache.images[selection.dataset.splits.select])
    apart = np.linalg.norm(exact[0] - selection.members[0].logits) / np.linalg.norm(selection.members[0].logits)
    monkeypatch.setattr(members_module, "FAITHFUL", apart / 2)  # as far apart as an EfficientNet is at the usual limit
    check_faithful(ensemble, selection)
    with pytest.raises(UserError, match=r"model\.safetensors: rebuilt, it predicts otherwise than in training"):
        check_faithful(*selected("fp32"))
