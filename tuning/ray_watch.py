"""Notices that Ray itself is gone: without it a search would wait for ever."""

import time
from typing import Any

import ray
from ray.tune import Callback
from ray.tune.experiment import Trial

from trainable.errors import UserError

LOOK_EVERY_S = 5


class RayWatch(Callback):
    """Ends the search where the node that it runs on has left the cluster: its raylet crashed, or was killed."""

    def __init__(self) -> None:
        self.node = ray.get_runtime_context().get_node_id()
        self.next_look = 0.0

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Ray's loop went round once; UserError where nothing will ever come of it."""
        if time.monotonic() < self.next_look:
            return
        self.next_look = time.monotonic() + LOOK_EVERY_S
        if self.node not in {node["NodeID"] for node in ray.nodes() if node["Alive"]}:
            raise UserError("Ray has crashed on this machine: its raylet no longer answers")
