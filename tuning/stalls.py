"""Trials that hang: found by their silence, looked into, and ended so that they are tried again."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.tune import Callback
from ray.tune.experiment import Trial

from search_spaces import is_probe
from trainable.files import STACKS, write_text
from tuning.plan import clock

LONGEST_EPOCHS = 10
"""A trial may be silent for so many times its longest epoch, ..."""
AT_LEAST_S = 600
"""... and for so long; ..."""
FIRST_EPOCH_S = 7200
"""... and for so long where no epoch of any trial says how long one takes, or for the features of a probe."""
LOOK_EVERY_S = 5
ANSWER_S = 60
"""What a node gets to end a process of its."""
DUMP_S = 3
"""What a process gets to write what its threads do."""


class StallWatch(Callback):
    """Ends the process of a trial that reports nothing for too long; what its threads did is kept in its folder."""

    def __init__(self, folder: Path, timeout_s: float | None, say: Callable[[str], None]) -> None:
        self.folder = folder
        """Of the experiment."""
        self.timeout_s = timeout_s
        self.say = say
        self.heard: dict[str, float] = {}
        """When each running trial last gave a sign of life."""
        self.longest: dict[str, float] = {}
        """The longest epoch of each trial, in seconds."""
        self.probes: set[str] = set()
        """Trials that report once, whatever an epoch takes."""
        self.next_look = 0.0

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial starts or goes on."""
        self.probes |= {trial.trial_id} if is_probe(trial.config) else set()
        self.heard[trial.trial_id] = time.monotonic()

    def on_trial_restore(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial has loaded its checkpoint."""
        self.heard[trial.trial_id] = time.monotonic()

    def on_trial_save(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial has written a checkpoint."""
        self.heard[trial.trial_id] = time.monotonic()

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info: Any) -> None:
        """A trial finished an epoch."""
        self.heard[trial.trial_id] = time.monotonic()
        if trial.trial_id in self.probes:
            return
        took = float(result.get("time_this_iter_s", 0))
        self.longest[trial.trial_id] = max(took, self.longest.get(trial.trial_id, 0))

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Ray's loop went round once."""
        now = time.monotonic()
        if now < self.next_look:
            return
        self.next_look = now + LOOK_EVERY_S
        for trial in trials:
            silent = now - self.heard.get(trial.trial_id, now)
            if trial.status == Trial.RUNNING and silent > self.limit(trial.trial_id):
                self.heard[trial.trial_id] = now
                self.end(trial, silent)

    def limit(self, key: str) -> float:
        """How long a trial may be silent, in seconds: as asked, or by the epochs that it or others have finished."""
        if self.timeout_s is not None:
            return self.timeout_s
        known = self.longest.get(key, max(self.longest.values(), default=None))
        return FIRST_EPOCH_S if known is None or key in self.probes else max(AT_LEAST_S, LONGEST_EPOCHS * known)

    def end(self, trial: Trial, silent: float) -> None:
        """End the trial's process, on whichever node it runs; Ray then reports a trial that broke."""
        process = trial._get_default_result_or_future()  # of the actor that runs; `last_result` may be another's
        if not process:
            return
        storage: Any = trial.storage
        on_its_node = dump_and_end.options(resources={f"node:{process['node_ip']}": 0.001})
        stacks = Path(storage.trial_working_directory, STACKS)
        try:
            text = ray.get(on_its_node.remote(process["pid"], str(stacks)), timeout=ANSWER_S)
        except RayError:  # the node is gone or hangs too; Ray finds out by itself
            self.say(f"{trial} has reported nothing for {clock(silent)}, and its node doesn't answer")
            return
        kept = self.folder / str(trial) / STACKS
        write_text(kept, text)
        self.say(f"{trial} has reported nothing for {clock(silent)}: its process is ended, see {kept}")


@ray.remote(num_cpus=0)
def dump_and_end(process: int, stacks: str) -> str:
    """Let the process write what its threads do to the file `stacks`, then kill it; returns what it wrote."""
    path, command = Path(stacks), Path(f"/proc/{process}/cmdline")
    if not command.exists() or b"ray::" not in command.read_bytes():
        return "the process had ended already\n"
    try:
        os.kill(process, signal.SIGUSR1)
        patience = time.monotonic() + DUMP_S
        while time.monotonic() < patience and not (path.exists() and path.stat().st_size):
            time.sleep(0.05)
        time.sleep(0.2)
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return "the process had ended already\n"
    return path.read_text(errors="replace") if path.exists() else "the process wrote nothing\n"
