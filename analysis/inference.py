"""Logits of weights that lie on the disk, for rows of the data set."""

import sys
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from analysis.candidates import MOVE_AWAY, Candidate
from analysis.modules import MemberModule, load_weights
from analysis.views import WHOLE
from trainable.architectures import WithoutInitialValues, build_model, normalisation
from trainable.config import TrialConfig
from trainable.data.cache import CachedImages
from trainable.data.dataset import Dataset
from trainable.data.loader import in_order
from trainable.device import EVAL_BATCH, images_at_once
from trainable.epoch import Normalise


def empty_module(
    config: TrialConfig, num_classes: int, image_size: int, views: Sequence[str] = (WHOLE,)
) -> MemberModule:
    """The model of a trial, with initial weights that are still to be replaced, on the CPU and in evaluation mode."""
    model = build_model(config.for_its_weights(), num_classes, image_size)
    normalise = Normalise(*normalisation(model))
    return MemberModule(model.to(memory_format=torch.channels_last), normalise, tuple(views)).eval()


def load_member(candidate: Candidate, num_classes: int, views: Sequence[str] = (WHOLE,)) -> MemberModule:
    """The model of a candidate whose weights are there, on the CPU."""
    assert candidate.weights is not None
    with WithoutInitialValues():
        module = empty_module(candidate.config, num_classes, candidate.image_size, views)
    load_weights(module.model, candidate.weights, candidate.config.arch, MOVE_AWAY)
    return module


def candidate_logits(
    candidate: Candidate,
    dataset: Dataset,
    rows: np.ndarray,
    device: torch.device,
    what: str,
    views: Sequence[str] = (WHOLE,),
) -> np.ndarray:
    """float32 logits (rows, classes) of a candidate whose weights are there; `what` as in `predict_rows`."""
    return predict_rows(load_member(candidate, dataset.num_classes, views), dataset.cache, rows, device, what)


@torch.inference_mode()
def predict_rows(
    module: MemberModule, cache: CachedImages, rows: np.ndarray, device: torch.device, what: str
) -> np.ndarray:
    """float32 logits (rows, classes); `what` names the bar that is shown where stderr is a terminal."""
    module.to(device)
    at_once = images_at_once(cache.images.shape[1], device)
    parts = (part for batch in batches(cache, rows, what) for part in batch.split(at_once))
    return torch.cat([module(part.to(device)).cpu() for part in parts]).numpy()


def batches(cache: CachedImages, rows: np.ndarray, what: str) -> Iterable[torch.Tensor]:
    """The images of `rows` in uint8 batches, with a progress bar where stderr is a terminal."""
    return track(
        in_order(cache, rows, EVAL_BATCH),
        what,
        total=-(-len(rows) // EVAL_BATCH),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
