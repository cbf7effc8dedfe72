"""The files of a trial's checkpoint by name, and files that are whole or not there. Needs no torch."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODEL = "model.safetensors"
"""Weights that were evaluated at the latest epoch."""
BEST = "best.safetensors"
"""The same at the best epoch; absent where the latest is the best."""
STATE = "state.pt"
"""Optimiser, scaler, moving average and progress; loadable with torch.load(weights_only=True)."""
PREDICTIONS = "predictions.npz"
"""float16 logits (images, classes) on `select` at the best epoch, with the epoch's number."""
RECORD = "trial.json"
"""Configuration, the record of each epoch, dataset fingerprint, versions. Written last: its presence means complete."""
WEIGHTS = (MODEL, BEST, STATE)
"""What is large, and kept only for trials that run or are among the best."""


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it, so that `path` is whole or as it was."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
