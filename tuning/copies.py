"""What the search's own process writes, copied to the search's storage while it runs: a resume may come from anywhere.

Object storage can't append, so files are written here and copied whole. Checkpoints are none of this: Ray copies them,
from the node that trained.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from trainable.address import patiently, storage_errors, why
from trainable.errors import UserError
from trainable.experiment_files import bring_home, is_record, sizes_below
from tuning.decisions import DECISIONS
from tuning.plan import SearchPlan
from tuning.storage import EXPERIMENT, RESULTS

if TYPE_CHECKING:
    from trainable.address import Place

EVERY_S = 5.0
"""Seconds between two looks at what is new: a lost machine takes no more of the records with it."""
SHARE = 0.2
"""Of the time that copying may take, where there is much to copy."""


class Copies:
    """Copies the files of `folder` that have changed to `place`, in a thread; whoever started it must end it."""

    def __init__(self, folder: Path, place: "Place", say: Callable[[str], None]) -> None:
        self.folder = folder
        self.place = place
        self.say = say
        self.copied: dict[Path, tuple[int, int]] = {}
        """Time of change and size of each file when it was copied."""
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, name="copies", daemon=True)

    def copy_new(self) -> None:
        """Copy what has changed since the last time, and delete what was deleted here."""
        for path in [path for path in self.copied if not path.exists()]:
            with suppress(FileNotFoundError):
                (self.place / path.relative_to(self.folder).as_posix()).unlink()
            del self.copied[path]
        for path in [path for path in self.folder.rglob("*") if path.is_file()]:
            name = path.relative_to(self.folder).as_posix()
            if not is_record(name) or path.name.startswith("."):
                continue
            try:
                looks = path.stat()
                look = looks.st_mtime_ns, looks.st_size
                if self.copied.get(path) == look:
                    continue
                content = path.read_bytes()
            except FileNotFoundError:  # replaced meanwhile
                continue
            there = self.place / name
            if isinstance(there, Path):
                there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(content)
            self.copied[path] = look

    def _run(self) -> None:
        pause, silent = EVERY_S, False
        while not self.over.wait(pause):
            started = time.monotonic()
            try:
                self.copy_new()
            except Exception as error:
                if not silent:
                    self.say(f"{self.place}: {why(error) or error}; the search goes on, and copies are made later")
                silent = True
            else:
                if silent:
                    self.say(f"{self.place} answers again")
                silent = False
            pause = max(EVERY_S, (time.monotonic() - started) * (1 / SHARE - 1))

    def end(self) -> None:
        """Copy the rest; UserError where the storage doesn't take it."""
        self.over.set()
        if self.thread.is_alive():
            self.thread.join()
        try:
            patiently(self.copy_new)
        except Exception as error:
            raise UserError(
                f"{self.place}: {why(error) or error}; {self.folder} is complete: mend that, then copy it by "
                f"--resume {self.folder.name}"
            ) from None


@contextmanager
def kept_in_storage(plan: SearchPlan, say: Callable[[str], None]) -> Iterator[None]:
    """Copy the experiment's records to its storage while the block runs, and the rest when it ends, however it does."""
    place = plan.place
    if place is None:
        yield
        return
    copies = Copies(plan.folder, place, say)
    with storage_errors("--storage", plan.storage):
        patiently(copies.copy_new)
    copies.thread.start()
    try:
        yield
    except BaseException:
        with suppress(UserError):  # what ended the block is what has to be told
            copies.end()
        raise
    copies.end()


def check_storage(plan: SearchPlan) -> None:
    """UserError where the storage can't be written, or holds an experiment of that name."""
    place = plan.place
    if place is None:
        return
    with storage_errors("--storage", plan.storage):
        probe = place.parent / f".{plan.name}.probe"
        if isinstance(probe, Path):  # of a bucket that isn't there, mkdir would make one
            probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
        if (place / EXPERIMENT).exists():
            raise UserError(
                f"--name {plan.name}: {place} exists; go on with it by --resume {plan.name} --storage {plan.storage}, "
                "or give another name"
            )


def known(sizes: Mapping[str, int]) -> int:
    """How much of a search is known, by the bytes of its files: those of decisions and epochs only grow."""
    return sum(size for name, size in sizes.items() if name == DECISIONS or name.endswith(f"/{RESULTS}"))


def bring_records_home(place: "Place", folder: Path, console: Console) -> None:
    """The experiment's records from its storage to `folder`, unless what is here is at least as far."""
    with storage_errors("--storage", place.parent):
        there, here = (sizes_below(each) for each in (place, folder))
        if EXPERIMENT in there and (EXPERIMENT not in here or known(there) > known(here)):
            bring_home(place, folder, is_record, console)
