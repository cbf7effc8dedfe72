"""The real half of `benchmarks.cluster_scale`: a search by Ray Tune over logical nodes, whose trials only sleep.

Run as a process of its own, whose CPU time and memory are then the driver's: it prints what it measured as JSON.
"""

import json
import math
import os
import random
import sys
import time
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import psutil
from pydantic import BaseModel, ConfigDict
from ray.tune.result import DONE, SHOULD_CHECKPOINT
from rich.console import Console

import tuning.search
from benchmarks._chaos_search import ShortTrial
from benchmarks.decision_time import made_up_score
from search_spaces import get_space
from trainable import metrics
from tuning.engine import Action, Budget, Move, Policy
from tuning.executor import Executor
from tuning.plan import Precautions, Scheduler, SearchPlan
from tuning.resources import Slots
from tuning.storage import create_experiment

JITTER = 0.1
"""Epochs last so much more or less than asked for."""
BEGUN, REPORTED, PROCESS = "begun", "reported", "worker"
"""Keys that a sleeping trial adds to its records: when its epoch began and was over, as Unix time, and its process."""


class Drive(BaseModel):
    """What is to be driven."""

    model_config = ConfigDict(frozen=True)

    folder: Path
    nodes: int
    slots_a_node: int
    epochs: int
    epoch_s: float
    seconds: float
    """The search begins no epoch after these, from when every slot has had a result."""
    scheduler: Scheduler

    @property
    def slots(self) -> int:
        """Trials at once."""
        return self.nodes * self.slots_a_node


class Handled(NamedTuple):
    """A result at the moment when the driver's decision on it was made."""

    begun: float
    """When the epoch began, as Unix time."""
    reported: float
    """When the trial reported it."""
    handled: float
    """When the driver took it up."""
    worker: int
    """The process that trained it."""
    cpu_s: float
    """CPU time that the driver has used by now."""
    policy_s: float
    """Of that, in the policy's choices and proposals."""
    memory_bytes: int
    """Resident memory of the driver."""
    trials: int
    """Trials started by now."""


class SleepingTrial(ShortTrial):
    """An epoch is a sleep; a checkpoint after each, as of a real trial whose epochs take half a minute."""

    def step(self) -> dict[str, Any]:
        """Sleep, and score by a formula."""
        if self._leaving:
            return super().step()
        begun, epoch = time.time(), len(self.history) + 1
        length = random.Random(f"{self.trial_id} {epoch}").uniform(1 - JITTER, 1 + JITTER)
        time.sleep(self.config["epoch_s"] * length)
        record = {metrics.EPOCH: epoch, metrics.SCORE: made_up_score(self.config, epoch), metrics.DIVERGED: False}
        record |= {metrics.BEST_TOP1: record[metrics.SCORE], metrics.BEST_EPOCH: epoch}
        record |= dict.fromkeys((metrics.TRAIN_LOSS, metrics.SELECT_LOSS, metrics.SELECT_TOP5), 0.0)
        record |= {metrics.SECONDS_TRAIN: time.time() - begun, metrics.SECONDS_EVAL: 0.0}
        record |= {metrics.IMAGES_PER_SECOND: 1.0, BEGUN: begun, REPORTED: time.time(), PROCESS: os.getpid()}
        self.history.append(record)
        return record | {DONE: epoch >= self.config["epochs"], SHOULD_CHECKPOINT: True}


class TimedPolicy:
    """A policy whose choices and proposals are timed."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.seconds = 0.0
        """CPU time so far."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.policy, name)

    def choose(self, trials: Any, budget: Budget) -> Move | None:
        """What a free slot does."""
        begun = time.thread_time()
        move = self.policy.choose(trials, budget)
        self.seconds += time.thread_time() - begun
        return move

    def propose(self, key: str) -> dict[str, Any] | None:
        """A configuration."""
        begun = time.thread_time()
        config = self.policy.propose(key)
        self.seconds += time.thread_time() - begun
        return config


class WatchedExecutor(Executor):
    """The search's, which notes each result that it is told of; its time runs once every slot has had one."""

    handled: ClassVar[list[Handled]] = []

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.policy = TimedPolicy(self.engine.policy)
        self.engine.policy = self.policy
        self.process = psutil.Process()
        self.workers: set[int] = set()
        self.deadline = math.inf

    def report(self, key: str, record: dict[str, Any]) -> Action:
        """A trial finished an epoch."""
        now = time.time()
        action = super().report(key, record)
        self.workers.add(record[PROCESS])
        if len(self.workers) >= self.slots and self.deadline == math.inf:
            self.deadline = time.time() + (self.plan.time_budget_s or 0)
        times = (record[BEGUN], record[REPORTED], now)
        used = (time.process_time(), self.policy.seconds, self.process.memory_info().rss)
        self.handled.append(Handled(*times, record[PROCESS], *used, len(self.engine.trials)))
        return action


def drive(task: Drive) -> list[Handled]:
    """Run the search on a cluster of logical nodes on this machine; returns its results in the driver's order."""
    import ray
    from ray.cluster_utils import Cluster

    tuning.search.Executor = WatchedExecutor  # type: ignore[misc]
    plan = SearchPlan(
        space=get_space("all"),
        trial={"epoch_s": task.epoch_s},
        epochs=task.epochs,
        time_budget_s=task.seconds,
        scheduler=task.scheduler,
        name="scale",
        output=task.folder,
    )
    create_experiment(plan, {"dataset": "none"})
    nothing = {"include_dashboard": False, "dashboard_port": 0}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": task.slots_a_node, **nothing})
    try:
        for _ in range(1, task.nodes):
            cluster.add_node(num_cpus=task.slots_a_node)
        tuning.search.start_ray(cluster.address, task.slots, verbose=False)
        with (task.folder / "said.txt").open("w") as file:
            slots, care = Slots(task.slots, 1, 0, "as asked"), Precautions(free_bytes=0)
            console = Console(file=file)
            tuning.search.run_search(plan, slots, None, "none", console, False, trainable=SleepingTrial, care=care)
    finally:
        ray.shutdown()
        cluster.shutdown()
    return WatchedExecutor.handled


if __name__ == "__main__":
    print("handled", json.dumps(drive(Drive.model_validate_json(sys.argv[1]))))
