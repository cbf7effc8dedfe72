"""Says how far long work has come, on stderr."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from trainable.escape import printable

QUIET_S = 2.0
"""Work that is shorter than this is not worth a line."""


@contextmanager
def reporter(
    text: str, total: int, progress: bool, unit: Literal["files", "bytes"] = "files"
) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; else one line when the work turns out to be long, and one at its end."""
    text = printable(text)  # it names a folder or a file
    if progress and getattr(sys.stderr, "isatty", bool)():  # a trial's stderr is Ray's, and has none
        with _bar(text, total, unit) as advance:
            yield advance
        return
    start, said = time.monotonic(), False

    def advance_in_silence(_: int) -> None:
        nonlocal said
        if not said and time.monotonic() - start > QUIET_S:
            said = True
            amount = f"{total:,} files" if unit == "files" else f"{total / 1e6:,.0f} MB"
            print(f"{text}: {amount} ...", file=sys.stderr, flush=True)

    yield advance_in_silence
    if said:
        print(f"{text}: done in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


@contextmanager
def _bar(text: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    count = MofNCompleteColumn() if unit == "files" else DownloadColumn()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), count, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(text, total=total)
        yield lambda count: bar.advance(task, count)
