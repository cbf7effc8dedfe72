"""What a search has to know of the cluster that it runs on: whether it is still there, and open to strangers."""

import ipaddress
import time
from typing import Any

import ray
from ray._private.authentication.authentication_utils import is_token_auth_enabled
from ray.tune import Callback
from ray.tune.experiment import Trial

from trainable.errors import UserError

LOOK_EVERY_S = 5


class RayWatch(Callback):
    """Ends the search where the node that it runs on has left the cluster: its raylet crashed, or was killed."""

    def __init__(self, name: str) -> None:
        self.name = name
        """Of the experiment."""
        self.node = ray.get_runtime_context().get_node_id()
        self.next_look = 0.0

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Ray's loop went round once; UserError where nothing will ever come of it."""
        if time.monotonic() < self.next_look:
            return
        self.next_look = time.monotonic() + LOOK_EVERY_S
        if self.node not in {node["NodeID"] for node in ray.nodes() if node["Alive"]}:
            raise UserError(f"Ray has crashed here, its raylet doesn't answer; go on by --resume {self.name}")


def open_to_strangers(address: str | None) -> str | None:
    """A warning where the cluster at `address` can be reached from other machines and asks for no token."""
    host = (address or "").removeprefix("ray://").rpartition(":")[0].strip("[]")
    if host in ("", "localhost") or is_token_auth_enabled():
        return None
    try:
        if ipaddress.ip_address(host).is_loopback:
            return None
    except ValueError:
        pass  # a name
    return (
        f"warning: the Ray cluster at {address} asks for no token: whoever reaches it can run programs there; "
        "start it with RAY_AUTH_MODE=token"
    )
