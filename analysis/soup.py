"""Greedy model soups: the mean of the weights of several trials, as one model (Wortsman et al. 2022, recipe 1)."""

from collections.abc import Callable, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from analysis.calibration import fit_temperature, helps, losses
from analysis.candidates import MOVE_AWAY, Candidate, Shape
from analysis.inference import batches, empty_module, predict_rows
from analysis.library import calibrated
from analysis.modules import read_tensors
from trainable.data.dataset import Dataset
from trainable.errors import UserError
from trainable.training import cpu_weights

INGREDIENTS = 5
"""Trials of one shape that a soup is tried with: the best ones."""
STATISTICS_IMAGES = 512
"""Training images from which batch norm takes the statistics of averaged weights."""

Weights = dict[str, Tensor]


class Soup(NamedTuple):
    """The mean of the weights of some ingredients."""

    taken: tuple[int, ...]
    """The ingredients by their index."""
    weights: Weights
    logits: np.ndarray
    """(images, classes) on `select`."""


def soups(
    candidates: Sequence[Candidate],
    dataset: Dataset,
    folder: Path,
    device: torch.device,
    refusal: Callable[[Sequence[Candidate]], str] = lambda _: "",
) -> tuple[list[Candidate], list[str]]:
    """A soup of each shape of model for which it helps, its weights written to `folder`.

    Args:
        candidates: Best first.
        dataset: Scored on its `select` images.
        folder: Where the soups' weights are written.
        device: Where they are scored.
        refusal: Why a soup of some candidates can't be tried; empty if it can.

    Returns:
        The soups, and a line for each shape of which there are several candidates.
    """
    found: list[Candidate] = []
    notes: list[str] = []
    for group in by_shape([candidate for candidate in candidates if candidate.weights]):
        alike, refusals = same_start(group)
        notes += refusals
        if len(alike) < 2:
            continue
        arch = alike[0].config.arch
        if reason := refusal(alike[:INGREDIENTS]):
            notes.append(f"soup of {arch} isn't tried: {reason}")
            continue
        soup, note = make_soup(alike[:INGREDIENTS], dataset, free_path(folder / f"soup-{arch}.safetensors"), device)
        found += [soup] if soup else []
        notes.append(note)
    return found, notes


def by_shape(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """The candidates in groups of one shape each: only tensors of the same shape have a mean."""
    groups: dict[Shape, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.shape, []).append(candidate)
    return list(groups.values())


def free_path(path: Path) -> Path:
    """The path, with a number if there is such a file: an architecture may have several shapes."""
    paths = chain([path], (path.with_stem(f"{path.stem}-{number}") for number in count(2)))
    return next(each for each in paths if not each.exists())


def same_start(candidates: Sequence[Candidate]) -> tuple[list[Candidate], list[str]]:
    """Those of one shape that began from the same weights as the first one, and a line for each reason against others.

    Weights from different starts lie in different basins, and their mean is good for nothing.
    """
    first = start(candidates[0])
    alike = [candidate for candidate in candidates if start(candidate) == first]
    others: dict[str, list[str]] = {}
    for other in (candidate for candidate in candidates if start(candidate) != first):
        what = next(name for name in first if start(other)[name] != first[name])
        others.setdefault(f"{what} {first[what]} and {start(other)[what]}", []).append(other.trial)
    return alike, [
        f"no soup of {candidates[0].trial} and {', '.join(names)}: they began from other weights ({reason})"
        for reason, names in others.items()
    ]


def start(candidate: Candidate) -> dict[str, Any]:
    """What decides the weights that a trial of a shape begins with."""
    return {"pretrained": str(candidate.config.starts_from), "seed": candidate.config.seed}


def make_soup(
    candidates: Sequence[Candidate], dataset: Dataset, path: Path, device: torch.device
) -> tuple[Candidate | None, str]:
    """The greedy soup of candidates that share a start, best first; None where it doesn't help on `select`."""
    best, labels = candidates[0], dataset.cache.labels[dataset.splits.select]

    def loss_of(logits: np.ndarray) -> np.ndarray:
        return losses(calibrated(logits, fit_temperature(logits, labels)), labels)

    weights = read_weights(candidates)
    soup = greedy_soup(
        Soup((0,), weights[0], best.logits),
        weights,
        lambda mean: with_logits(best, mean, dataset, device, same_statistics(weights)),
        lambda logits: float(loss_of(logits).mean()),
    )
    if len(soup.taken) == 1 or not helps(loss_of(best.logits), loss_of(soup.logits)):
        return None, f"soup of {best.config.arch}: no better than {best.trial} alone on select, left out"
    names = ", ".join(candidates[index].trial for index in soup.taken)
    save_file(soup.weights, path)
    kept, source = soup.logits.astype(np.float16), f"mean of {names}"
    made = best._replace(trial=path.stem, weights=path, logits=kept, source=source, later=None, out_of_fold=None)
    return made, f"soup of {best.config.arch}: the {source}"


def greedy_soup(
    first: Soup,
    weights: Sequence[Weights],
    finish: Callable[[Weights], tuple[Weights, np.ndarray]],
    loss: Callable[[np.ndarray], float],
) -> Soup:
    """`first`, with each further one of `weights` that lowers the loss.

    `finish` takes a mean of weights, and gives what has to be kept of it and its logits.
    """
    soup = first
    for index in range(1, len(weights)):
        taken = (*soup.taken, index)
        tried = Soup(taken, *finish(mean_weights([weights[each] for each in taken])))
        if loss(tried.logits) < loss(soup.logits):
            soup = tried
    return soup


def mean_weights(weights: Sequence[Weights]) -> Weights:
    """The mean of each tensor; of whole numbers (a counter of batches), the first one's."""
    first = weights[0]
    return {
        name: torch.stack([each[name] for each in weights]).mean(dim=0) if value.is_floating_point() else value
        for name, value in first.items()
    }


def same_statistics(weights: Sequence[Weights]) -> bool:
    """Whether batch norms have the same statistics in all: they were frozen, as published ones often are."""
    names = [name for name in weights[0] if name.endswith(("running_mean", "running_var"))]
    return all(torch.equal(each[name], weights[0][name]) for each in weights[1:] for name in names)


def with_logits(
    candidate: Candidate, weights: Weights, dataset: Dataset, device: torch.device, keeps_statistics: bool = False
) -> tuple[Weights, np.ndarray]:
    """The weights of a model like the candidate's, and its float32 logits (images, classes) on `select`.

    Where it has batch norm, the weights get the statistics that training images have under them, unless all that they
    are the mean of have the same ones.
    """
    module = empty_module(candidate.config, dataset.num_classes, candidate.image_size)
    module.model.load_state_dict(weights)
    what = f"soup of {candidate.config.arch}"
    if not keeps_statistics and any(isinstance(part, _BatchNorm) for part in module.model.modules()):
        rows = np.random.default_rng(0).permutation(dataset.splits.train)[:STATISTICS_IMAGES]
        update_bn(batches(dataset.cache, np.sort(rows), what), module.to(device), device)
        weights = cpu_weights(module.model)
    return weights, predict_rows(module.eval(), dataset.cache, dataset.splits.select, device, what)


def read_weights(candidates: Sequence[Candidate]) -> list[Weights]:
    """The tensors of candidates of one shape; UserError where some differ in shape."""
    found = []
    for candidate in candidates:
        assert candidate.weights is not None
        found.append(read_tensors(candidate.weights, candidate.config.arch, MOVE_AWAY))
        first, shapes = ({name: value.shape for name, value in each.items()} for each in (found[0], found[-1]))
        if shapes != first:
            raise UserError(f"{candidate.weights}: holds other tensors than {candidates[0].trial}'s; {MOVE_AWAY}")
    return found
