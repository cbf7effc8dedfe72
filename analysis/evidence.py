"""`evidence.npz`: the logits behind an export's figures, so that reports and comparisons need no image and no model."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from analysis.manifest import EXPORT_AGAIN
from trainable.errors import UserError

EVIDENCE = "evidence.npz"
SPLITS = ("select", "holdout")


class SplitEvidence(NamedTuple):
    """What the members say of one split."""

    files: tuple[str, ...]
    """Paths below the data's folder, one an image."""
    labels: np.ndarray
    """int64 (images,)."""
    logits: np.ndarray
    """float16 (members, images, classes): the members' own, the mean over the views, before any temperature."""
    single: np.ndarray
    """float16 (images, classes): those of the best single trial, which need not be a member."""


class Evidence(NamedTuple):
    """Of the images that chose the members, and of those that chose nothing."""

    select: SplitEvidence
    holdout: SplitEvidence


def write_evidence(evidence: Evidence, folder: Path) -> None:
    """Write it beside the manifest."""
    arrays = {
        f"{name}_{field}": np.array(value)
        for name, split in evidence._asdict().items()
        for field, value in split._asdict().items()
    }
    np.savez_compressed(folder / EVIDENCE, allow_pickle=False, **arrays)


def read_evidence(folder: Path) -> Evidence:
    """What `write_evidence` wrote to the export's folder; UserError where it is gone or broken."""
    path = folder / EVIDENCE
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            splits = [_read_split(arrays, name) for name in SPLITS]
    except Exception as error:  # on broken bytes zipfile, zlib and NumPy raise nearly everything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: can't be read ({reason}); {EXPORT_AGAIN}") from None
    return Evidence(*splits)


def _read_split(arrays: "np.lib.npyio.NpzFile", name: str) -> SplitEvidence:
    files, labels, logits, single = (arrays[f"{name}_{field}"] for field in SplitEvidence._fields)
    if logits.ndim != 3 or logits.shape[1:] != single.shape or len(files) != len(labels) or len(labels) != len(single):
        raise ValueError(f"its arrays of {name} don't fit each other")
    return SplitEvidence(tuple(files.tolist()), labels, logits, single)
