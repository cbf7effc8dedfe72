"""The trials that can become members: their weights are there, and they learned from the experiment's data."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import ZipFile

import numpy as np

from analysis._checkpoints import newest_checkpoint
from trainable.config import TrialConfig, make_config
from trainable.errors import UserError
from trainable.files import PREDICTIONS

if TYPE_CHECKING:
    from pandas import DataFrame

LARGEST_LOGITS_BYTES = 2**31
"""Logits on `select` take as much for a million images of a thousand classes: a file that says more is broken."""


class Candidate(NamedTuple):
    """A trial at its best epoch."""

    trial: str
    config: TrialConfig
    image_size: int
    """In pixels."""
    weights: Path
    logits: np.ndarray
    """float16 (images, classes) on `select`, kept from its training."""


def find_candidates(folder: Path, trials: "DataFrame", facts: dict[str, Any]) -> list[Candidate]:
    """Candidates of the experiment in `folder`, in the order of `trials`; UserError where there is none."""
    with_weights = trials[trials["has_weights"]]["trial"]
    found = [read_candidate(folder / trial, facts["dataset"]) for trial in with_weights]
    candidates = [candidate for candidate in found if candidate]
    if not candidates:
        reason = "were trained on other data" if len(with_weights) else "have no weights of a scored epoch"
        raise UserError(f"{folder}: nothing to export, its {len(trials)} trials {reason}; see analysis.experiment")
    return candidates


def read_candidate(path: Path, dataset: str) -> Candidate | None:
    """The trial in `path`; None where its data hasn't the fingerprint `dataset`, or its weights are gone."""
    checkpoint = newest_checkpoint(path)
    if checkpoint is None or checkpoint.best_weights is None or checkpoint.record["dataset"] != dataset:
        return None
    record = checkpoint.record
    config = make_config(record["config"], str(checkpoint.folder))
    logits = read_logits(checkpoint.folder / PREDICTIONS)
    return Candidate(path.name, config, record["image_size"], checkpoint.best_weights, logits)


def read_logits(path: Path) -> np.ndarray:
    """The float16 logits (images, classes) that a checkpoint keeps; UserError for anything else, unread."""
    try:
        with ZipFile(path) as archive, archive.open("logits.npy") as member:
            if archive.getinfo("logits.npy").file_size > LARGEST_LOGITS_BYTES:
                raise ValueError(f"its logits would take more than {LARGEST_LOGITS_BYTES / 2**30:g} GiB")
            logits = np.lib.format.read_array(member, allow_pickle=False)
        if logits.ndim != 2 or logits.dtype.kind != "f":
            raise ValueError("its logits aren't numbers (images, classes)")
        return logits
    except Exception as error:  # on broken bytes zipfile, zlib and NumPy raise nearly everything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: can't be read ({reason}); move this trial's folder away and export again") from None


def check_logits(candidates: Sequence[Candidate], images: int, classes: int) -> None:
    """UserError where kept predictions can't be those of the `select` images that there are now."""
    for candidate in candidates:
        if candidate.logits.shape != (images, classes):
            raise UserError(
                f"trial {candidate.trial}: keeps predictions {candidate.logits.shape} but select has {images} images "
                f"of {classes} classes: another version wrote it; export with that version"
            )
