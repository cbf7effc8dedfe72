"""Soups: who may go into one, what averaged weights are, and that one is kept only where it helps."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from analysis.candidates import Candidate
from analysis.inference import empty_module, predict_rows
from analysis.soup import (
    Soup,
    by_shape,
    free_path,
    greedy_soup,
    make_soup,
    mean_weights,
    read_weights,
    same_start,
    soups,
    with_logits,
)
from trainable.config import TrialConfig
from trainable.data.dataset import Dataset
from trainable.errors import UserError
from trainable.training import Training, cpu_weights

CPU = torch.device("cpu")


def candidate(name: str, image_size: int = 32, **values: Any) -> Candidate:
    return Candidate(name, TrialConfig(data=Path("x"), **values), image_size, Path("w"), np.zeros((2, 2)))


def test_trials_of_one_seed_and_start_can_be_averaged() -> None:
    alike, notes = same_start([candidate("a", lr=0.1), candidate("b", lr=0.2), candidate("c", drop_rate=0.3)])
    assert [each.trial for each in alike] == ["a", "b", "c"]
    assert notes == []


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"seed": 1}, "seed 0 and 1"),
        ({"pretrained": True}, "pretrained False and True"),
    ],
)
def test_trials_of_different_starts_are_refused_with_the_reason(values: dict[str, Any], reason: str) -> None:
    alike, notes = same_start([candidate("a"), candidate("b", **values), candidate("c", **values)])
    assert [each.trial for each in alike] == ["a"]
    assert notes == [f"no soup of a and b, c: they began from other weights ({reason})"]


@pytest.mark.parametrize(
    "values",
    [{"image_size": 64}, {"arch": "vit_small"}, {"stem": "full"}, {"patch_size": 4}, {"window_size": 4}],
)
def test_trials_of_different_geometry_are_in_groups_of_their_own(values: dict[str, Any]) -> None:
    groups = by_shape([candidate("a"), candidate("b", **values), candidate("c", lr=0.1), candidate("d", **values)])
    assert [[each.trial for each in group] for group in groups] == [["a", "c"], ["b", "d"]]


def test_a_second_soup_of_an_architecture_does_not_take_the_first_ones_file(tmp_path: Path) -> None:
    path = tmp_path / "soup-resnet18.safetensors"
    assert free_path(path) == path
    path.touch()
    (tmp_path / "soup-resnet18-2.safetensors").touch()
    assert free_path(path).name == "soup-resnet18-3.safetensors"


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=6))
def test_the_mean_of_weights_is_taken_tensor_by_tensor_and_counters_are_kept(values: list[float]) -> None:
    weights = [{"w": torch.full((2,), value), "batches": torch.tensor(index)} for index, value in enumerate(values)]
    mean = mean_weights(weights)
    assert mean["w"].tolist() == pytest.approx([np.mean(values)] * 2, abs=1e-5)
    assert (mean["batches"].item(), mean["batches"].dtype) == (0, torch.int64)


def test_a_soup_takes_only_what_lowers_its_loss() -> None:
    weights = [{"w": torch.tensor([value])} for value in (1.0, 3.0, 100.0, -2.0)]
    soup = greedy_soup(
        Soup((0,), weights[0], np.array(1.0)),
        weights,
        finish=lambda mean: (mean, mean["w"].numpy()),
        loss=lambda logits: float(np.abs(logits).sum()),
    )
    assert soup.taken == (0, 3)
    assert soup.weights["w"].tolist() == [-0.5]


@pytest.fixture
def near_trials(dataset: Dataset, config_of: Callable[[str, float], TrialConfig], tmp_path: Path) -> list[Candidate]:
    """A trained ConvNeXt, and two with noise on its weights in opposite directions: their mean is the first again."""
    splits = dataset.splits
    training = Training(config_of("test_convnext", 3e-3), dataset, splits.train, splits.select, CPU)
    while not training.done:
        training.run_step()
    middle, generator = training.best_weights, torch.Generator().manual_seed(0)
    noise = {name: 0.5 * value.std() * torch.randn(value.shape, generator=generator) for name, value in middle.items()}
    found = []
    for name, sign in (("0001", 1), ("0002", -1)):
        weights = {key: value + sign * noise[key] for key, value in middle.items()}
        module = empty_module(training.config, dataset.num_classes, 32)
        module.model.load_state_dict(weights)
        save_file(weights, tmp_path / name)
        logits = predict_rows(module, dataset.cache, splits.select, CPU, "").astype(np.float16)
        later = tmp_path / "later"
        found.append(Candidate(name, training.config, 32, tmp_path / name, logits, "best epoch", later, 4.0, 0.5))
    return found


def test_a_soup_has_the_logits_of_the_weights_that_it_writes(
    near_trials: list[Candidate], dataset: Dataset, tmp_path: Path
) -> None:
    made, note = make_soup(near_trials, dataset, tmp_path / "soup-test_convnext.safetensors", CPU)
    assert made is not None, note
    assert note == "soup of test_convnext: the mean of 0001, 0002"
    assert (made.trial, made.source) == ("soup-test_convnext", "mean of 0001, 0002")
    assert (made.trained, made.image_s, made.later) == (4.0, 0.5, None)
    module = empty_module(made.config, dataset.num_classes, 32)
    module.model.load_state_dict(load_file(made.weights))
    again = predict_rows(module, dataset.cache, dataset.splits.select, CPU, "")
    np.testing.assert_allclose(made.logits.astype(np.float32), again, atol=0.02)


def test_a_soup_that_does_not_help_is_left_out(near_trials: list[Candidate], dataset: Dataset, tmp_path: Path) -> None:
    found, notes = soups([near_trials[0], near_trials[0]], dataset, tmp_path, CPU)
    assert found == []
    assert notes == ["soup of test_convnext: no better than 0001 alone on select, left out"]
    assert not list(tmp_path.glob("soup-*"))


def test_a_soup_that_there_is_no_time_for_is_not_tried(
    near_trials: list[Candidate], dataset: Dataset, tmp_path: Path
) -> None:
    asked = []

    def refusal(group: Sequence[Candidate]) -> str:
        asked.append([each.trial for each in group])
        return "it would take 9 s"

    assert soups(near_trials, dataset, tmp_path, CPU, refusal) == (
        [],
        ["soup of test_convnext isn't tried: it would take 9 s"],
    )
    assert asked == [["0001", "0002"]]


def test_batch_norm_gets_the_statistics_of_training_images(trainings: dict[str, Training], dataset: Dataset) -> None:
    training = trainings["0001-test_resnet"]
    weights = cpu_weights(training.machinery.evaluated)
    blind = {name: torch.zeros_like(each) if "running" in name else each for name, each in weights.items()}
    entry = Candidate("0001-test_resnet", training.config, 32, None, np.zeros((6, 3)))
    mended, logits = with_logits(entry, blind, dataset, CPU)
    module = empty_module(training.config, dataset.num_classes, 32)
    module.model.load_state_dict(weights)
    with torch.no_grad():
        images = torch.from_numpy(dataset.cache.images[dataset.splits.train])
        seen = module.model.conv1[0](module.normalise(images))
    torch.testing.assert_close(mended["conv1.1.running_mean"], seen.mean(dim=(0, 2, 3)), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(mended["conv1.1.running_var"], seen.var(dim=(0, 2, 3)), rtol=1e-3, atol=1e-3)
    assert np.isfinite(logits).all()


def test_weights_of_another_shape_are_named(tmp_path: Path) -> None:
    for name, length in (("a", 2), ("b", 3)):
        save_file({"w": torch.zeros(length)}, tmp_path / name)
    entries = [candidate(name)._replace(weights=tmp_path / name) for name in ("a", "b")]
    with pytest.raises(UserError, match="b: holds other tensors than a's; move this trial's folder away"):
        read_weights(entries)
