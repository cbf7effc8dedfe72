"""Views are tried where they may be, and kept where they help."""

from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.augmented import reason_against, together, with_views
from analysis.calibration import fit_temperature, fit_together
from analysis.candidates import Candidate, find_candidates
from analysis.experiment import load_experiment, read_facts
from analysis.pooling import pool
from analysis.views import CROPS, MIRRORED
from trainable.config import TrialConfig
from trainable.data.dataset import Dataset

CPU = torch.device("cpu")


def candidate(**values: bool) -> Candidate:
    return Candidate("x", TrialConfig(data=Path("x"), **values), 32, Path("w"), np.zeros((1, 2)))


def test_what_may_not_be_mirrored_is_not() -> None:
    assert "--no-flip" in reason_against(MIRRORED, [candidate(), candidate(flip=False)], 1, 7)
    assert reason_against(MIRRORED, [candidate()], 1, 7) == ""
    assert reason_against(CROPS, [candidate(flip=False)], 1, 7) == ""


def test_views_beyond_the_latency_are_not_tried() -> None:
    assert reason_against(MIRRORED, [candidate()], 1, 2) == ""
    assert "--max-latency-ms" in reason_against(CROPS, [candidate()], 1, 5)


def test_views_that_there_is_no_time_for_are_named_and_not_tried(experiment: Path, dataset: Dataset) -> None:
    trials = find_candidates(experiment, load_experiment(experiment), read_facts(experiment))
    asked = []

    def no_time(view: str, count: int) -> str:
        asked.append((view, count))
        return "it would take 9 s"

    _, views, notes = with_views(trials, [0.5, 0.5], dataset, CPU, 7, no_time)
    assert asked == [(MIRRORED, 1), (CROPS, 1)]
    assert views == ("whole",)
    assert notes == [f"{view} views aren't tried: it would take 9 s" for view in (MIRRORED, CROPS)]


def test_before_and_after_are_compared_with_all_temperatures() -> None:
    labels = np.arange(30) % 3
    logits = np.random.default_rng(0).normal(0, 1, (2, 30, 3)).astype(np.float32)
    logits[:, np.arange(30), labels] += 2
    temperatures = [fit_temperature(each, labels) for each in logits]
    mean = pool(logits, temperatures, [0.5, 0.5])
    expected = pool(logits, temperatures, [0.5, 0.5], fit_together(mean, temperatures, [0.5, 0.5], labels))
    np.testing.assert_allclose(together(logits, [0.5, 0.5], labels), expected, atol=1e-5)
    assert np.abs(expected - mean).max() > 0.01


@pytest.mark.parametrize("most", [1, 7])
def test_every_view_gets_a_line_and_only_those_that_help_are_kept(
    experiment: Path, dataset: Dataset, most: int
) -> None:
    trials = find_candidates(experiment, load_experiment(experiment), read_facts(experiment))
    members, views, notes = with_views(trials, [0.5, 0.5], dataset, CPU, most)
    assert len(notes) == 2
    assert views == ("whole", *(name for name, note in zip((MIRRORED, CROPS), notes, strict=True) if " help: " in note))
    if most == 1:
        assert all("aren't tried" in note for note in notes)
        assert all(np.array_equal(each.logits, trial.logits) for each, trial in zip(members, trials, strict=True))
