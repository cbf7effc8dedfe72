"""What a member costs: measured, once an architecture."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.candidates import Candidate
from analysis.cost import CostMeter, measure
from trainable.architectures import build_model
from trainable.config import TrialConfig

CPU = torch.device("cpu")


def candidate(arch: str, image_size: int = 32) -> Candidate:
    return Candidate("x", TrialConfig(data=Path("x"), arch=arch), image_size, None, np.zeros((1, 3)))


def test_parameters_are_those_of_the_model() -> None:
    model = build_model(TrialConfig(data=Path("x"), arch="test_resnet"), 3, 32)
    assert measure(candidate("test_resnet"), 3, CPU).parameters == sum(each.numel() for each in model.parameters())


def test_a_larger_image_takes_longer() -> None:
    small, large = (measure(candidate("test_resnet", size), 3, CPU).latency_ms for size in (32, 512))
    assert 0 < small < large


def test_an_architecture_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = CostMeter(3, CPU)
    first = meter.of(candidate("test_resnet"))
    monkeypatch.setattr(time, "perf_counter", lambda: pytest.fail("measured again"))
    assert meter.of(candidate("test_resnet")) is first
