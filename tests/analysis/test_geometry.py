"""Members of one architecture and different geometry: exported, loaded and written as a graph like any others."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from analysis.candidates import Candidate
from analysis.cost import CostMeter
from analysis.deadline import Deadline
from analysis.ensemble import load_ensemble
from analysis.experiment import load_experiment, read_facts
from analysis.export import stage, write_papers
from analysis.formats import write_formats
from analysis.inference import candidate_logits
from analysis.manifest import read_manifest
from analysis.selection import Selection, Wanted, select_members
from trainable.architectures import build_model
from trainable.config import TrialConfig
from trainable.data.dataset import Dataset
from trainable.training import cpu_weights

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def members(
    config_of: Callable[[str, float], TrialConfig], dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> list[Candidate]:
    """Untrained ResNets, one with the small stem, one with the published one, as candidates."""
    folder = tmp_path_factory.mktemp("weights")
    found = []
    for number, stem in enumerate(("small", "full"), 1):
        config = config_of("resnet18", 1e-3).model_copy(update={"stem": stem})
        name, path = f"000{number}-resnet18", folder / f"{stem}.safetensors"
        save_file(cpu_weights(build_model(config, dataset.num_classes, 32)), path)
        entry = Candidate(name, config, 32, path, np.zeros((1, 1)))
        logits = candidate_logits(entry, dataset, dataset.splits.select, CPU, "")
        found.append(entry._replace(logits=logits.astype(np.float16)))
    return found


@pytest.fixture(scope="module")
def selection(experiment: Path, members: list[Candidate], tmp_path_factory: pytest.TempPathFactory) -> Selection:
    """Both, weighed alike, as if a search had trained them."""
    facts, trials = read_facts(experiment), load_experiment(experiment)
    scratch = tmp_path_factory.mktemp("scratch")
    chosen = select_members(experiment, trials, facts, Wanted(extras=False), scratch, CPU)
    choice = chosen.choice._replace(members=(0, 1), weights=(0.5, 0.5))
    return chosen._replace(members=tuple(members), temperatures=(1.0, 1.0), choice=choice)


def test_both_are_exported_rebuilt_and_written_as_a_graph(
    experiment: Path, selection: Selection, dataset: Dataset, tmp_path: Path
) -> None:
    ensemble = stage(selection, tmp_path, CPU, Deadline())
    (note,) = write_formats(ensemble, dataset, tmp_path, ["pt2"])
    assert "gives the ensemble's probabilities" in note
    trials = load_experiment(experiment)
    write_papers(experiment, trials, selection, ensemble, tmp_path, tmp_path, (), Deadline())
    kept = [member.config for member in read_manifest(tmp_path).members]
    assert kept == [{"arch": "resnet18", "stem": "small"}, {"arch": "resnet18", "stem": "full"}]
    logits = load_ensemble(tmp_path, "cpu").member_logits(dataset.cache.images[dataset.splits.select])
    for own, member in zip(logits, selection.members, strict=True):
        np.testing.assert_allclose(own, member.logits.astype(np.float32), rtol=0.01, atol=0.01)


def test_each_geometry_is_measured_for_itself(members: list[Candidate]) -> None:
    meter = CostMeter(3, CPU)
    small, full = (meter.of(member) for member in members)
    assert small.parameters < full.parameters  # 3 x 3 against 7 x 7
