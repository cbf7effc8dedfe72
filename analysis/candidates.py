"""What can become a member: trials with logits on `select`, which learned from the experiment's own data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import ZipFile

import numpy as np

from analysis._checkpoints import newest_checkpoint
from trainable import metrics
from trainable.again import retrained_weights
from trainable.config import Stem, TrialConfig, make_config
from trainable.errors import UserError
from trainable.files import MODEL, PREDICTIONS

if TYPE_CHECKING:
    from pandas import DataFrame

LARGEST_LOGITS_BYTES = 2**31
"""Logits on `select` take as much for a million images of a thousand classes: a file that says more is broken."""
LIBRARY = 100
"""Trials that selection looks at: the best on `select` (pruning the library, Caruana et al. 2006)."""
LIBRARY_BYTES = 2**30
"""Logits that it holds at once: selection takes three times as much memory."""
MOVE_AWAY = "move this trial's folder away and export again"
BEST_EPOCH, LATEST_EPOCH = "best epoch", "latest epoch"


class Shape(NamedTuple):
    """What decides how a model is built."""

    arch: str
    image_size: int
    stem: Stem | None
    patch_size: int | None
    window_size: int | None


class OutOfFold(NamedTuple):
    """What a probe said of training images that it wasn't fitted to."""

    logits: np.ndarray
    """float16 (images, classes)."""
    labels: np.ndarray
    """int64 (images,)."""


class Candidate(NamedTuple):
    """Weights of a trial, or made from those of several, with what they say on `select`."""

    trial: str
    """Name of the trial's folder, or of what was made from several."""
    config: TrialConfig
    image_size: int
    """In pixels."""
    weights: Path | None
    """None where they were deleted: the trial can be trained again."""
    logits: np.ndarray
    """float16 (images, classes) on `select`."""
    source: str = BEST_EPOCH
    """Which weights these are."""
    later: Path | None = None
    """Weights of the trial's latest epoch, where the best one is earlier and both are there."""
    trained: float = 1.0
    """Epochs that its trial was trained for in all."""
    image_s: float = 0.0
    """Seconds of evaluation an image, in the search; 0 where no record says."""
    out_of_fold: OutOfFold | None = None
    """Of a probe."""

    @property
    def shape(self) -> Shape:
        """Candidates of the same shape have the same model, but for its weights."""
        config = self.config
        return Shape(config.arch, self.image_size, config.stem, config.patch_size, config.window_size)


def find_candidates(
    folder: Path, trials: "DataFrame", facts: dict[str, Any], without_weights: bool = False
) -> list[Candidate]:
    """The first candidates of the experiment in `folder`, in the order of `trials`; UserError where there is none.

    Args:
        folder: Of the experiment.
        trials: As `load_experiment` gives them.
        facts: The content of experiment.json.
        without_weights: Also trials whose weights were deleted.
    """
    candidates: list[Candidate] = []
    for name in trials[trials[metrics.BEST_EPOCH] > 0]["trial"]:
        candidate = read_candidate(folder / name, facts["dataset"], without_weights)
        candidates += [candidate] if candidate else []
        if len(candidates) == LIBRARY or sum(each.logits.nbytes for each in candidates) > LIBRARY_BYTES:
            break
    if not candidates:
        raise UserError(f"{folder}: nothing to export, its {len(trials)} trials {_reason(trials)}")
    return candidates


def _reason(trials: "DataFrame") -> str:
    states = ", ".join(f"{number} {state}" for state, number in trials["state"].value_counts().items())
    if trials["has_weights"].any():
        return f"were trained on other data ({states}); see analysis.experiment --verify"
    if trials[metrics.BEST_EPOCH].max() > 0:
        return f"have no weights of a scored epoch ({states}); train the best ones again: analysis.export --retrain"
    return f"have no weights of a scored epoch ({states}); see analysis.experiment, and failure.txt of failed ones"


def read_candidate(path: Path, dataset: str, without_weights: bool = False) -> Candidate | None:
    """The trial in `path`; None where its data hasn't the fingerprint `dataset`, or no epoch or no weights count."""
    checkpoint = newest_checkpoint(path)
    if checkpoint is None or checkpoint.record["dataset"] != dataset or not checkpoint.record["best_epoch"]:
        return None
    weights = checkpoint.best_weights or retrained_weights(path)
    if weights is None and not without_weights:
        return None
    record, latest = checkpoint.record, checkpoint.folder / MODEL
    config = make_config(record["config"], str(checkpoint.folder))
    logits = read_logits(checkpoint.folder / PREDICTIONS)
    later = latest if weights not in (None, latest) and latest.is_file() else None
    trained, image_s = record["epochs"][-1][metrics.EPOCH], evaluation_seconds(record["epochs"]) / max(1, len(logits))
    further = read_out_of_fold(checkpoint.folder / PREDICTIONS) if config.is_probe else None
    size, source = record["image_size"], BEST_EPOCH
    return Candidate(path.name, config, size, weights, logits, source, later, trained, image_s, further)


def evaluation_seconds(records: Sequence[dict[str, Any]]) -> float:
    """Of `select` once, the shortest of a trial's records, since the first one takes longer; 0 where none says."""
    return min((record[metrics.SECONDS_EVAL] for record in records if metrics.SECONDS_EVAL in record), default=0.0)


def read_logits(path: Path) -> np.ndarray:
    """The float16 logits (images, classes) that a checkpoint keeps; UserError for anything else, unread."""
    return _read_arrays(path, {"logits": ("f", 2)})[0]


def read_out_of_fold(path: Path) -> OutOfFold | None:
    """What a probe's checkpoint keeps besides; None if it has none, UserError for anything else, unread."""
    found = _read_arrays(path, {"out_of_fold": ("f", 2), "out_of_fold_labels": ("i", 1)}, may_lack=True)
    return OutOfFold(*found) if found else None


def _read_arrays(path: Path, wanted: Mapping[str, tuple[str, int]], may_lack: bool = False) -> list[np.ndarray]:
    """Arrays by name, each of that kind of numbers and so many dimensions, and all of as many images.

    None at all if the first isn't there and `may_lack`.
    """
    try:
        arrays = []
        with ZipFile(path) as archive:
            if may_lack and f"{next(iter(wanted))}.npy" not in archive.namelist():
                return []
            for name, (kind, dimensions) in wanted.items():
                with archive.open(f"{name}.npy") as member:
                    if archive.getinfo(f"{name}.npy").file_size > LARGEST_LOGITS_BYTES:
                        raise ValueError(f"its {name} would take more than {LARGEST_LOGITS_BYTES / 2**30:g} GiB")
                    array = np.lib.format.read_array(member, allow_pickle=False)
                if array.ndim != dimensions or array.dtype.kind != kind:
                    raise ValueError(f"its {name} aren't numbers (images, classes)")
                arrays.append(array)
        if len({len(array) for array in arrays}) > 1:
            raise ValueError("its arrays don't fit each other")
        return arrays
    except Exception as error:  # on broken bytes zipfile, zlib and NumPy raise nearly everything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: can't be read ({reason}); {MOVE_AWAY}") from None


def usable(candidates: Sequence[Candidate], images: int, classes: int) -> tuple[list[Candidate], list[str]]:
    """The candidates whose logits are numbers, and a line for each other one.

    UserError where kept predictions can't be those of the `select` images that there are now, or none is usable.
    """
    for candidate in candidates:
        if candidate.logits.shape != (images, classes):
            raise UserError(
                f"trial {candidate.trial}: keeps predictions {candidate.logits.shape} but select has {images} images "
                f"of {classes} classes: another version wrote it; export with that version"
            )
    finite = [bool(np.isfinite(candidate.logits).all()) for candidate in candidates]
    good = [candidate for candidate, is_good in zip(candidates, finite, strict=True) if is_good]
    bad = [candidate.trial for candidate, is_good in zip(candidates, finite, strict=True) if not is_good]
    if not good:
        raise UserError(f"nothing to export: the logits of {', '.join(bad[:3])} aren't all numbers; train new trials")
    return good, [f"{trial} is left out: its logits aren't all numbers" for trial in bad]
