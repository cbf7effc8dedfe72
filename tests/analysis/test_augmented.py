"""Views are tried where they may be, and kept where they help."""

from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.augmented import reason_against, with_views
from analysis.candidates import Candidate, find_candidates
from analysis.experiment import load_experiment, read_facts
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
