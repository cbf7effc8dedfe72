"""A trial's newest checkpoint, read without torch."""

from pathlib import Path
from typing import Any, NamedTuple

from trainable import metrics
from trainable.files import BEST, MODEL, read_record


class Checkpoint(NamedTuple):
    """A complete checkpoint folder, and its trial.json."""

    folder: Path
    record: dict[str, Any]

    @property
    def best_weights(self) -> Path | None:
        """The weights of the best epoch; None where they were deleted, or where no epoch was scored."""
        best_epoch, history = self.record["best_epoch"], self.record["epochs"]
        if not best_epoch:
            return None
        path = self.folder / (MODEL if best_epoch == history[-1][metrics.EPOCH] else BEST)
        return path if path.is_file() else None


def newest_checkpoint(trial: Path) -> Checkpoint | None:
    """The newest of the trial's checkpoints that has its record, which is written last."""
    for folder in sorted(trial.glob("checkpoint_*"), reverse=True):
        record = read_record(folder)
        if record is not None:  # else unfinished, or deleted meanwhile by a search that runs
            return Checkpoint(folder, record)
    return None
