"""The Ray Trainable: one `step` is a step of one trial. Everything it does is in `training` and `checkpoint`."""

import faulthandler
import gc
import math
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray._raylet import setproctitle  # type: ignore[attr-defined]
from ray.train._internal.checkpoint_manager import _TrainingResult
from ray.tune.result import DONE, SHOULD_CHECKPOINT, TIMESTAMP

from trainable.address import patiently
from trainable.config import TrialConfig
from trainable.data.dataset import Dataset, open_images_of
from trainable.errors import UserError
from trainable.files import RECORD, STACKS, to_disk, wait_until_written

if TYPE_CHECKING:
    from trainable.training import Training

CHECKPOINT_SHARE = 0.02
"""Checkpoints may take this share of a trial's time: then one is written after each epoch, else after several."""

DataKey = tuple[Path | str, int | None, int, Path | None, bool, float | str]


class Trial(tune.Trainable):
    """Trains the configuration that Ray hands over; its actor, imports, CUDA context and open data set are re-used."""

    images: str | None = None
    """The fingerprint of the images that its search is on; None where that doesn't matter."""
    deadline: float = math.inf
    """Seconds since 1970, by the driver's clock, after which a step ends with the update that runs."""
    _dataset: tuple[DataKey, Dataset] | None = None
    _checkpoint_s = 0.0
    """What the last checkpoint took, with Ray's copy of it to a storage elsewhere."""
    _saved_at = 0.0
    """When the trial last had all its epochs saved: at its begin, or after its last checkpoint."""
    _held_s = 0.0
    """What saving has kept the trial from training since its last epoch."""
    _is_due: bool = False
    """Whether the last epoch asked for a checkpoint and isn't the trial's last."""
    _written: Future[float] | None = None
    """Of the checkpoint that the thread writes, or has written."""
    _is_own = False
    """Whether that is of the trial which this actor trains now."""
    _leaving = False
    """Whether the process was told to end: it does so after the epoch and its checkpoint."""

    def __repr__(self) -> str:
        """What Ray's dashboard calls the actor: Ray asks once, when it starts, for the trial that it starts with."""
        return f"{self.trial_name} and later"

    def setup(self, config: dict[str, Any]) -> None:
        """Make the process ready and open the data; also called for each further trial of this actor.

        torch and timm are imported here, in the actor: the process that runs the search never needs them.
        """
        import torch

        import trainable.training  # noqa: F401 with all that it needs, before what is there is frozen
        from trainable.device import choose_device

        self._listen()
        self._saved_at, self._held_s = time.perf_counter(), 0.0
        self._is_due = self._is_own = False
        torch.set_num_threads(self._cores())
        self.cleanup()
        if choose_device().type == "cuda":
            torch.cuda.set_per_process_memory_fraction(min(1.0, self._slot().get("GPU", 1.0)))
        self._open(TrialConfig.model_validate(config))
        if ray.is_initialized() and not gc.get_freeze_count():
            gc.freeze()  # half a million objects, which each collection would look at

    @cached_property
    def training(self) -> "Training":
        """Built when it is first asked for, since that of a trial which goes on needs no initial weights."""
        return self.build_training()

    def build_training(self) -> "Training":
        """The trial's training before its first epoch."""
        from trainable.device import choose_device
        from trainable.training import Training

        config = TrialConfig.model_validate(self.config)
        dataset = self._open(config)
        training = Training(
            config,
            dataset,
            train_rows=dataset.splits.train,
            held_out_rows=dataset.splits.select,
            device=choose_device(),
            cores=self._cores(),
        )
        training.deadline = self.deadline
        return training

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take over another trial's configuration in the same process."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """One step; the record says `done` at the full length, and at once where the loss diverged.

        It asks Ray for a checkpoint where enough time has passed for one to be cheap. Ray also writes one when a trial
        ends or pauses. A process that is told to end (SIGTERM: a machine that is taken back) still finishes its epoch.
        """
        if self._is_own or self._leaving:
            self._wait_for_writer()
        if self._leaving:
            ray.actor.exit_actor()
        if ray.is_initialized():  # until the step is over, in `ps`, Ray's dashboard and its metrics of processes
            setproctitle(f"ray::{self.trial_name}")
        self.training.seconds_checkpoint, self._held_s = self._held_s, 0.0
        record = self.training.run_step()
        due = (time.perf_counter() - self._saved_at) * CHECKPOINT_SHARE >= self._checkpoint_s
        self._is_due = (due or self._leaving) and not self.training.done
        now = {TIMESTAMP: time.time()}  # Ray's own has whole seconds
        return record | now | {DONE: self.training.done, SHOULD_CHECKPOINT: due or self._leaving}

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Ray's; returns when the checkpoint is kept in the storage, or is being written to the experiment's folder.

        There a thread writes it, for which the trial's next epoch waits, but no other trial of this process. Where an
        epoch asked for it, what follows may be one of the same trial, which would go on from it: so this waits, too.
        """
        started = time.perf_counter()
        if self._storage is not None and self._storage.storage_filesystem.type_name == "local":
            saved = self._save_here()
        else:
            with tempfile.TemporaryDirectory() as scratch:  # Ray leaves its own behind where a write fails
                saved = super().save(checkpoint_dir or scratch)
            self._checkpoint_s = time.perf_counter() - started
        self._saved_at = time.perf_counter()
        self._held_s += self._saved_at - started
        return saved

    def _save_here(self) -> Any:
        self._wait_for_writer()
        storage: Any = self._storage
        results: dict[str, Any] = dict(self._last_result or {})
        storage._update_checkpoint_index(results)
        storage._check_validation_file()
        folder = Path(storage.checkpoint_fs_path)
        shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was lost
        folder.mkdir(parents=True)
        to_disk(folder.parent)
        self._written, self._is_own = self._writer.submit(whole_or_nothing, self.snapshot(), folder), True
        if self._is_due:
            self._wait_for_writer()
        kept = tune.Checkpoint(path=storage.checkpoint_fs_path, filesystem=storage.storage_filesystem)
        return _TrainingResult(checkpoint=kept, metrics=results)

    def _wait_for_writer(self) -> None:
        """Until the last checkpoint is written; raises what kept it from being."""
        written, self._written = self._written, None
        if written is not None:
            self._checkpoint_s = written.result()

    @cached_property
    def _writer(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, "checkpoint")

    def snapshot(self) -> Callable[[Path], None]:
        """What writes the checkpoint of now to a folder, also after another trial took over."""
        from trainable.checkpoint import contents, write_contents

        return partial(write_contents, contents(self.training))

    def stop(self) -> None:
        """Ray's; the process isn't needed any more."""
        try:
            self._wait_for_writer()
        finally:
            super().stop()

    def restore(self, checkpoint_path: Any) -> None:
        """Ray's; a storage elsewhere that doesn't answer is asked again."""
        patiently(lambda: super(Trial, self).restore(checkpoint_path))

    def _report_class_trainable_checkpoint(self, checkpoint_dir: str, content: Any) -> Any:
        """Ray's, which copies the checkpoint to the storage."""
        if self._storage is None:
            return super()._report_class_trainable_checkpoint(checkpoint_dir, content)
        return self._copy_elsewhere(checkpoint_dir, content)

    def _copy_elsewhere(self, checkpoint_dir: str, content: Any) -> Any:
        """Copy to a storage, the record last: its presence means that all is there. One that doesn't answer is asked
        again."""
        storage: Any = self._storage
        number, record = storage.current_checkpoint_index, Path(checkpoint_dir, RECORD)
        text = record.read_bytes()
        record.unlink()

        def copy() -> Any:
            storage.current_checkpoint_index = number  # a second try takes the place of the first
            saved: Any = super(Trial, self)._report_class_trainable_checkpoint(checkpoint_dir, content)
            kept = saved.checkpoint
            with kept.filesystem.open_output_stream(f"{kept.path}/{RECORD}") as file:
                file.write(text)
            return saved

        return patiently(copy)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the folder that `trainable.checkpoint` describes."""
        self.snapshot()(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Continue from such a folder, given by its path."""
        from trainable.architectures import WithoutInitialValues
        from trainable.checkpoint import load_checkpoint

        wait_until_written(Path(checkpoint))
        self.cleanup()
        with WithoutInitialValues():
            training = self.build_training()
        load_checkpoint(training, Path(checkpoint))
        self.training = training

    def cleanup(self) -> None:
        """Give the training's memory and worker processes back."""
        vars(self).pop("training", None)
        gc.collect()
        torch = sys.modules.get("torch")
        if torch and torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def _listen(self) -> None:
        """In a worker of Ray's: SIGTERM ends it after the epoch, SIGUSR1 writes what all threads do to a file."""
        if ray.is_initialized() and self.logdir:
            signal.signal(signal.SIGTERM, lambda *_: setattr(self, "_leaving", True))
            faulthandler.register(signal.SIGUSR1, open(Path(self.logdir, STACKS), "w"))  # noqa: SIM115 the handler's

    def _open(self, config: TrialConfig) -> Dataset:
        key = (
            config.data,
            config.image_size,
            config.seed,
            config.cache_dir,
            config.skip_bad_images,
            config.select_share,
        )
        if self._dataset is None or self._dataset[0] != key:
            self._dataset = key, self._check(open_images_of(config, progress=False), config)
        return self._dataset[1]

    def _check(self, dataset: Dataset, config: TrialConfig) -> Dataset:
        found = dataset.cache.fingerprint
        if self.images not in (None, found):
            raise UserError(
                f"{config.data}: the images on {socket.gethostname()} aren't those that the search began with "
                f"({found[:8]}, not {self.images[:8]}); restore them"
            )
        return dataset

    def _cores(self) -> int:
        return max(1, int(self._slot().get("CPU", 1)))

    def _slot(self) -> dict[str, float]:
        """What Ray gave this trial's actor: CPUs, and the fraction of a GPU."""
        return ray.get_runtime_context().get_assigned_resources() if ray.is_initialized() else {}


def whole_or_nothing(write: Callable[[Path], None], folder: Path) -> float:
    """Let `write` fill the folder, and return the seconds it took; where it fails, the folder goes."""
    started = time.perf_counter()
    try:
        write(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return time.perf_counter() - started
