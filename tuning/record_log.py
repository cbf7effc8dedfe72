"""Each step's record: in result.json, on the disk as soon as the step is over, and in TensorBoard's files."""

import json
import os
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.logger import JsonLoggerCallback, TBXLoggerCallback
from ray.tune.result import EXPR_PARAM_FILE, EXPR_RESULT_FILE
from ray.tune.utils.util import SafeFallbackEncoder

from trainable import metrics
from trainable.files import write_text
from tuning.storage import cut_half_line, read_lines


class RecordLog(JsonLoggerCallback):
    """Ray's, but it writes where the experiment is, at once, and each step once.

    Ray's writes to a staging folder that is copied now and then, and where a trial goes on after a pause it first takes
    the copy back: the epochs since are lost. So are all epochs since the last copy when the process is killed.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        """Of the experiment, on this machine."""
        self._trial_files: dict[Trial, Any] = {}
        self.last: dict[Trial, float] = {}
        """The last step in each trial's file."""

    def log_trial_start(self, trial: Trial) -> None:
        """Go on where the trial's file ends."""
        self.log_trial_end(trial)
        trial.init_local_path()
        self.update_config(trial, trial.config)
        path = self.folder / str(trial) / EXPR_RESULT_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        cut_half_line(path)
        self.last[trial] = max((step_in(record) for record in read_lines(path)), default=0)
        self._trial_files[trial] = path.open("ab", buffering=0)

    def update_config(self, trial: Trial, config: dict) -> None:
        """Write params.json where the experiment is, whole at any time: Ray's copy would be half a file meanwhile."""
        self._trial_configs[trial] = config
        path = self.folder / str(trial) / EXPR_PARAM_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(config, indent=2, sort_keys=True, cls=SafeFallbackEncoder))

    def log_trial_result(self, iteration: int, trial: Trial, result: dict) -> None:
        """Add the step, on the disk; one that was trained again, from an older checkpoint, takes the first's place."""
        step = metrics.step_of(result)
        if step <= self.last[trial]:
            path = Path(self._trial_files[trial].name)
            kept = [record for record in read_lines(path) if step_in(record) < step]
            text = "".join(json.dumps(record) + "\n" for record in kept)
            write_text(path, text)
            self.log_trial_start(trial)
        file = self._trial_files[trial]
        line = (json.dumps(result, cls=SafeFallbackEncoder) + "\n").encode()
        while line:  # without a buffer, which would be written much later where the disk is full now
            line = line[file.write(line) :]
        self.last[trial] = step
        os.fsync(file.fileno())

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Close the files of trials that wait at a rung: most will wait until the search ends."""
        for trial in [trial for trial in self._trial_files if trial.status == Trial.PAUSED]:
            self.log_trial_end(trial)

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Close the file of a trial that ran in this process, and drop what nothing reads.

        Ray keeps, of each trial to the end of the search, the last ten values of each metric and their means: 50 kB.
        """
        self.last.pop(trial, None)
        statistics = trial.run_metadata
        statistics.metric_analysis.clear()
        statistics.metric_n_steps.clear()
        statistics.invalidate_cache()
        super().log_trial_end(trial, failed)


class TensorBoardLog(TBXLoggerCallback):
    """Ray's, but a trial that waits at a rung holds no thread and no open file: there may be hundreds."""

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Close the writers of trials that wait; one that goes on gets another."""
        for trial in [trial for trial in self._trial_writer if trial.status == Trial.PAUSED]:
            self._trial_writer.pop(trial).close()

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Write the configuration with the last record, also of a trial that ends while it waits."""
        last = self._trial_result.get(trial)
        if last and trial not in self._trial_writer:
            self.log_trial_start(trial)
            self._trial_result[trial] = last
        super().log_trial_end(trial, failed)


def step_in(line: dict[str, Any]) -> float:
    """The step that a line of result.json is of; 0 for one that isn't a record."""
    return metrics.step_of(line) if metrics.EPOCH in line else 0
