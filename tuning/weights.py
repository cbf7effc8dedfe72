"""Which weights of a search stay on the disk, and what happens where the disk gets full."""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from trainable import metrics
from trainable.address import delete_tree, patiently
from trainable.files import RECORD, STATE, WEIGHTS, wait_until_written
from trainable.sizes import size_text
from tuning.executor import Executor
from tuning.past import PastTrial, checkpoints_in, trial_folders, whole_checkpoints
from tuning.plan import Limits
from tuning.storage import prune_weights, weights_to_keep

if TYPE_CHECKING:
    from trainable.address import Place

GIVE_UP_EVERY_S = 10
"""Seconds between two paused trials that end because the disk is full, perhaps not for long and not by our doing."""
PATIENCE_S = 30
"""How long a storage elsewhere is asked again to delete something."""
END_S = 60
"""What the thread gets at the end of a search."""


class WeightKeeper(Callback):
    """Deletes weights that nothing needs; predictions and records stay.

    What stays: of running trials the two newest checkpoints, of paused ones the newest, of ended ones too if they are
    among the best, but without their state where the full length is reached. Where all checkpoints together are too
    large, the least promising paused trials end. Where the disk is nearly full, no trial begins. What is in a storage
    elsewhere is listed and deleted in a thread, since Ray's loop can't wait for it. A checkpoint on this machine may
    still be written when Ray is told of it: until it is, nothing of its trial is deleted.
    """

    def __init__(
        self,
        folder: Path,
        limits: Limits,
        say: Callable[[str], None],
        executor: Executor | None = None,
        ended: Iterable[PastTrial] = (),
        place: "Place | None" = None,
    ) -> None:
        self.folder = folder
        self.kept: Place = folder if place is None else place
        """Where the trials' folders with checkpoints are."""
        self.disk = folder
        """What has to have room."""
        if isinstance(self.kept, Path):
            self.disk = self.kept
            self.kept.mkdir(parents=True, exist_ok=True)
        self.thread = None if isinstance(self.kept, Path) else ThreadPoolExecutor(1, "storage")
        self.doing: set[Future[None]] = set()
        """What the thread does, or will."""
        self.going: Counter[str] = Counter()
        """Of each trial, how often its weights are about to be deleted by the thread."""
        self.limits = limits
        self.say = say
        self.executor = executor
        self.scores = {
            trial.folder.name: (max(trial.curve.values()), trial.config["arch"]) for trial in ended if trial.records
        }
        """Best top-1 and architecture of each ended trial."""
        self.saved: set[Trial] = set()
        """Trials that have saved a checkpoint, and ran at the last look or had it not yet written."""
        self.ended: set[Trial] = set()
        """Ended trials whose last checkpoint wasn't written at the last look."""
        self.sizes: dict[str, int] = {}
        """What the checkpoints of each trial take, in bytes."""
        for path in trial_folders(folder):
            self._do(self._measure, path.name)
        self.pruned: set[str] = set()
        """Ended trials without weights."""
        self.next_end = 0.0
        self.is_full = False
        """Whether too little of the disk is free."""
        self._prune_ended()

    def on_trial_save(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        """A trial has written a checkpoint."""
        self.saved.add(trial)
        self._do(self._measure, str(trial))  # here, not in each round of Ray's loop for every trial that runs

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        """A trial has ended, so the ranking may have changed."""
        last = trial.last_result or {}
        if metrics.BEST_TOP1 not in last:
            return
        self.scores[str(trial)] = (last[metrics.BEST_TOP1], trial.config["arch"])
        self.ended.add(trial)
        self._settle_ended()

    def on_step_end(self, iteration: int, trials: list[Trial], **info: object) -> None:
        """Ray's loop went round once."""
        self._look()

    def is_held(self) -> bool:
        """Whether no trial may begin; asked also while Ray's loop waits for one."""
        self._look()
        return self.is_full

    def _look(self) -> None:
        self._settle()
        self._keep_to_the_size()
        self._look_at_the_disk()

    def _settle(self) -> None:
        """Delete what trials that don't run don't need, once their last checkpoint is written."""
        for trial in [each for each in self.saved if each.status != Trial.RUNNING and not self._unwritten(str(each))]:
            if trial.status == Trial.PAUSED and self.executor is not None:  # a population copies older ones
                self._leave_newest(trial)
            self._do(self._measure, str(trial))
            self.saved.remove(trial)
        if self.ended:
            self._settle_ended()

    def _unwritten(self, name: str) -> Path | None:
        """The trial's newest checkpoint, if its process still writes it or ended before it was whole."""
        newest = checkpoints_in(self.kept / name)[-1:] if self.thread is None else []
        return next((path for path in newest if isinstance(path, Path) and not (path / RECORD).exists()), None)

    def _settle_ended(self) -> None:
        for trial in [trial for trial in self.ended if not self._unwritten(str(trial))]:
            self.ended.remove(trial)
            self._leave_newest(trial)
            if metrics.is_complete(trial.last_result, trial.config):
                self._prune(str(trial), (STATE,))
        self._prune_ended()

    def _keep_to_the_size(self) -> None:
        most = self.limits.most_bytes
        excess = sum(size for name, size in self.sizes.items() if not self.going[name]) - most
        while excess > 0 and self.executor is not None:
            freed = self._give_up(self.executor, f"checkpoints take more than {size_text(most)} (--max-size)")
            if freed is None:
                return
            excess -= freed

    def _prune(self, name: str, files: Iterable[str]) -> int:
        """Delete files of a trial's checkpoints; returns their bytes: of a storage elsewhere, at most so many."""
        before = self.sizes.get(name, 0)
        self.going[name] += 1
        self._do(self._prune_now, name, files)
        return before if self.thread else before - self.sizes[name]

    def _prune_now(self, name: str, files: Iterable[str]) -> None:
        prune_weights(checkpoints_in(self.kept / name), files)
        self._measure(name)
        self.going[name] -= 1

    def _leave_newest(self, trial: Trial) -> None:
        kept: Any = trial.run_metadata.checkpoint_manager  # would look for what is deleted, to delete it itself
        if self.thread is None:
            for folder in whole_checkpoints(self.kept / str(trial))[:-1]:
                with suppress(FileNotFoundError):
                    delete_tree(folder)
            there = [each for each in kept._checkpoint_results if Path(each.checkpoint.path).is_dir()]
        else:
            *older, newest = kept._checkpoint_results or [None]
            for each in older:
                self._do(delete_tree, self.kept / str(trial) / Path(each.checkpoint.path).name)
            there = [newest] if newest else []
        kept._checkpoint_results = there

    def _do(self, action: Callable[..., None], *arguments: Any) -> None:
        """Now, or in the thread for a storage elsewhere; weights that an outage saves from being deleted stay."""
        if self.thread is None:
            action(*arguments)
        else:
            self.doing = {each for each in self.doing if not each.done()}
            self.doing.add(self.thread.submit(patiently, partial(action, *arguments), PATIENCE_S))

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Ray's loop is over, and so are its processes: what is to be deleted is."""
        for name in sorted(map(str, self.saved | self.ended)):
            if (folder := self._unwritten(name)) is not None:
                self.say(f"{name}: its process ended while its last checkpoint was written; the one before it counts")
                delete_tree(folder)
        self._settle()
        if self.thread is not None:
            wait(self.doing, END_S)  # what isn't deleted by then is by a resumed search
            self.thread.shutdown(wait=False, cancel_futures=True)

    def _prune_ended(self) -> None:
        without = set(self.scores) - weights_to_keep(self.scores, self.limits.keep) - set(map(str, self.ended))
        for name in without - self.pruned:
            self._prune(name, WEIGHTS)
        self.pruned = without

    def _measure(self, name: str) -> None:
        """Note what a trial's checkpoints take; one may be deleted meanwhile."""
        size = 0
        for path in (self.kept / name).glob("checkpoint_*/*"):
            with suppress(FileNotFoundError):
                size += path.stat().st_size
        self.sizes[name] = size

    def _give_up(self, executor: Executor, why: str) -> int | None:
        """End the least promising paused trial; returns the bytes of its weights, None where no trial waits."""
        key = executor.give_up("its weights made room: it promised least of the trials that waited")
        if key is None:
            return None
        name = executor.folders[key].name
        self.say(f"{name} ends: it promised least, and {why}")
        if (folder := self._unwritten(name)) is not None:
            wait_until_written(folder)
        return self._prune(name, WEIGHTS)

    def _look_at_the_disk(self) -> None:
        now, free = time.monotonic(), shutil.disk_usage(self.disk).free
        was_full, self.is_full = self.is_full, free < self.limits.free_bytes
        if self.is_full and self.disk == self.kept and self.executor is not None and now >= self.next_end:
            self.next_end = now + GIVE_UP_EVERY_S
            self._give_up(self.executor, f"{size_text(free)} of the disk are free (--min-free)")
        if self.is_full and not was_full:
            self.say(
                f"{size_text(free)} of the disk are free, less than --min-free {size_text(self.limits.free_bytes)}: "
                f"no trial begins until there is more; running ones go on"
            )
        elif was_full and not self.is_full:
            self.say(f"{size_text(free)} of the disk are free again: trials begin again")
