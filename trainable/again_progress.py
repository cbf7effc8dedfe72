"""What is seen of trainings that repeat trials, while they run: bars on a terminal, lines elsewhere."""

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from trainable import metrics
from trainable.again import Again
from trainable.escape import printable


class AgainProgress:
    """Follows several trainings at once; the console may be quiet."""

    def __init__(self, todo: Sequence[Again], console: Console) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self.console = console
        self.bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.total = self.bars.add_task("all epochs", total=sum(again.epochs for again in todo))
        self.rows: dict[str, TaskID] = {}
        """Of the trainings that run, by the trial's name."""
        self.done: dict[str, float] = {}
        """Epochs of each that has begun."""

    def __enter__(self) -> "AgainProgress":
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def epoch(self, again: Again, record: dict[str, Any]) -> None:
        """A training has finished a step."""
        if again.name not in self.rows:
            self.rows[again.name] = self.bars.add_task(printable(again.name), total=again.epochs)
        self.done[again.name] = record[metrics.EPOCH]
        self._draw(again)
        if not self.console.is_terminal:
            self._line(epoch_text(again, record))

    def end(self, again: Again, failure: str | None = None) -> None:
        """A training is complete, or has failed for a reason."""
        if failure is not None:
            self._line(f"{again.name} failed: {failure}")
        self.done[again.name] = again.epochs
        self._draw(again)
        if again.name in self.rows:
            self.bars.remove_task(self.rows.pop(again.name))

    def _draw(self, again: Again) -> None:
        if again.name in self.rows:
            self.bars.update(self.rows[again.name], completed=self.done[again.name])
        self.bars.update(self.total, completed=sum(self.done.values()))

    def _line(self, text: str) -> None:
        line = f"{time.strftime('%H:%M:%S')} {printable(text)}"
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)


def epoch_text(again: Again, record: dict[str, Any]) -> str:
    """One step for people, in a line."""
    title = f"{again.name} epoch {record[metrics.EPOCH]:g}/{again.epochs:g}"
    top1 = "" if again.refit else f"top-1 {record[metrics.SELECT_TOP1]:.1%} on select, "
    return (
        f"{title}: train loss {record[metrics.TRAIN_LOSS]:.3f}, {top1}{record[metrics.IMAGES_PER_SECOND]:.0f} images/s"
    )
