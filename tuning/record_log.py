"""result.json: each epoch's record, on disk in the experiment's folder as soon as the epoch is over."""

from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.logger import JsonLoggerCallback
from ray.tune.result import EXPR_RESULT_FILE


class RecordLog(JsonLoggerCallback):
    """Ray's, but it writes where the experiment is.

    Ray's writes to a staging folder that is copied now and then, and where a trial goes on after a pause it first takes
    the copy back: the epochs since are lost. So are all epochs since the last copy when the process is killed.
    """

    def log_trial_start(self, trial: Trial) -> None:
        """Go on where the trial's file ends."""
        if trial in self._trial_files:
            self._trial_files[trial].close()
        trial.init_local_path()
        self.update_config(trial, trial.config)
        storage: Any = trial.storage
        folder = Path(storage.trial_fs_path)
        folder.mkdir(parents=True, exist_ok=True)
        self._trial_files[trial] = (folder / EXPR_RESULT_FILE).open("at")
