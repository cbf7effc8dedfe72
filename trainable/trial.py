"""The Ray Trainable: one `step` is one epoch of one trial. Everything it does is in `training` and `checkpoint`."""

import faulthandler
import gc
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray._raylet import setproctitle  # type: ignore[attr-defined]
from ray.train._internal.checkpoint_manager import _TrainingResult
from ray.tune.result import DONE, SHOULD_CHECKPOINT, TIMESTAMP

from trainable.address import patiently
from trainable.config import TrialConfig
from trainable.data.dataset import Dataset, open_images_of
from trainable.errors import UserError
from trainable.files import RECORD, STACKS, tree_to_disk

SCRATCH = ".saving"
"""The folder in a trial's own in which a checkpoint is written."""
CHECKPOINT_SHARE = 0.02
"""Checkpoints may take this share of a trial's time: then one is written after each epoch, else after several."""

DataKey = tuple[Path | str, int | None, int, Path | None, bool]


class Trial(tune.Trainable):
    """Trains the configuration that Ray hands over; its actor, imports, CUDA context and open data set are re-used."""

    images: str | None = None
    """The fingerprint of the images that its search is on; None where that doesn't matter."""
    _dataset: tuple[DataKey, Dataset] | None = None
    _checkpoint_s = 0.0
    """What the last checkpoint took of this actor's time, with Ray's copy of it to the experiment's folder."""
    _leaving = False
    """Whether the process was told to end: it does so after the epoch and its checkpoint."""

    def __repr__(self) -> str:
        """What Ray's dashboard calls the actor: Ray asks once, when it starts, for the trial that it starts with."""
        return f"{self.trial_name} and later"

    def setup(self, config: dict[str, Any]) -> None:
        """Open the data and build the training; also called for each further trial of this actor.

        torch and timm are imported here, in the actor: the process that runs the search never needs them.
        """
        import torch

        from trainable.device import choose_device
        from trainable.training import Training

        self._listen()
        self._save_started: float | None = None
        self._saved_at = time.perf_counter()
        resources = self._slot()
        cores = max(1, int(resources.get("CPU", 1)))
        torch.set_num_threads(cores)
        self.cleanup()
        device = choose_device()
        if device.type == "cuda":  # not yet run on a GPU
            torch.cuda.set_per_process_memory_fraction(min(1.0, resources.get("GPU", 1.0)))
        trial_config = TrialConfig.model_validate(config)
        dataset = self._open(trial_config)
        self.training = Training(
            trial_config,
            dataset,
            train_rows=dataset.splits.train,
            held_out_rows=dataset.splits.select,
            device=device,
            cores=cores,
        )

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take over another trial's configuration in the same process."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """One epoch; the record says `done` at the full length, and at once where the loss diverged.

        It asks Ray for a checkpoint where enough time has passed for one to be cheap. Ray also writes one when a trial
        ends or pauses. A process that is told to end (SIGTERM: a machine that is taken back) still finishes its epoch.
        """
        if self._leaving:
            ray.actor.exit_actor()
        if ray.is_initialized():  # until the step is over, in `ps`, Ray's dashboard and its metrics of processes
            setproctitle(f"ray::{self.trial_name}")
        if self._save_started is not None:
            self._saved_at = time.perf_counter()
            self._checkpoint_s, self._save_started = self._saved_at - self._save_started, None
        record = self.training.run_epoch()
        due = (time.perf_counter() - self._saved_at) * CHECKPOINT_SHARE >= self._checkpoint_s
        now = {TIMESTAMP: time.time()}  # Ray's own has whole seconds
        return record | now | {DONE: self.training.done, SHOULD_CHECKPOINT: due or self._leaving}

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Ray's; returns when the checkpoint is kept in the experiment's folder or storage.

        It is written to a folder of ours: Ray leaves its own behind where a write fails. On this machine that is one
        in the trial's own folder, which becomes the checkpoint's by its name, where Ray would copy it.
        """
        with self._scratch() as scratch:
            saved = super().save(checkpoint_dir or scratch)
        checkpoint: Any = saved.checkpoint
        folder = Path(checkpoint.path)
        if self._is_here() and folder.is_dir():
            tree_to_disk(folder)
        return saved

    @contextmanager
    def _scratch(self) -> Iterator[str | None]:
        """Where a checkpoint is written before it is kept; None without a storage, where Ray's folder is the place."""
        if self._storage is None:
            yield None
        elif self._is_here():
            folder = Path(self._storage.trial_fs_path, SCRATCH)
            shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
            try:
                yield str(folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        else:
            with tempfile.TemporaryDirectory() as temporary:
                yield temporary

    def restore(self, checkpoint_path: Any) -> None:
        """Ray's; a storage elsewhere that doesn't answer is asked again."""
        patiently(lambda: super(Trial, self).restore(checkpoint_path))

    def _report_class_trainable_checkpoint(self, checkpoint_dir: str, content: Any) -> Any:
        """Ray's, which copies the checkpoint; a folder on the same disk only gets its name."""
        if not self._is_here():
            return self._copy_elsewhere(checkpoint_dir, content)
        storage: Any = self._storage
        if storage is None or Path(checkpoint_dir).name != SCRATCH:
            return super()._report_class_trainable_checkpoint(checkpoint_dir, content)
        results: dict[str, Any] = dict(self._last_result or {})
        storage._update_checkpoint_index(results)
        storage._check_validation_file()
        shutil.rmtree(storage.checkpoint_fs_path, ignore_errors=True)  # of an attempt that was lost
        Path(checkpoint_dir).rename(storage.checkpoint_fs_path)
        kept = tune.Checkpoint(path=storage.checkpoint_fs_path, filesystem=storage.storage_filesystem)
        return _TrainingResult(checkpoint=kept, metrics=results)

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

    def _is_here(self) -> bool:
        """Whether checkpoints are copied to a file system of this machine."""
        return self._storage is None or self._storage.storage_filesystem.type_name == "local"

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the folder that `trainable.checkpoint` describes."""
        self._save_started = time.perf_counter()
        from trainable.checkpoint import save_checkpoint

        save_checkpoint(self.training, Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Continue from such a folder, given by its path."""
        from trainable.checkpoint import load_checkpoint

        load_checkpoint(self.training, Path(checkpoint))

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
        key = (config.data, config.image_size, config.seed, config.cache_dir, config.skip_bad_images)
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

    def _slot(self) -> dict[str, float]:
        """What Ray gave this trial's actor: CPUs, and the fraction of a GPU."""
        return ray.get_runtime_context().get_assigned_resources() if ray.is_initialized() else {}
