"""Nodes that join a running search: each opens the data before it counts, and one that can't takes no trials."""

from collections.abc import Callable, Sequence

import ray

from tuning.cluster import NODE_LEFT, data_fault, on_node, read_nodes, takes_trials
from tuning.resources import Node, Slots


class Newcomers:
    """Asks the nodes that weren't there when `check_data` did; Ray's loop never waits for an answer."""

    def __init__(self, open_data: Callable[[], str], fingerprint: str, say: Callable[[str], None]) -> None:
        self.open_data = open_data
        """Opens the data set and returns its fingerprint."""
        self.fingerprint = fingerprint
        """What it is in this search."""
        self.say = say
        self.known = {node.id for node in read_nodes()}
        """Nodes that needn't be asked any more."""
        self.asked: dict[str, ray.ObjectRef] = {}
        """What those that haven't answered will, by their ids."""
        self.unfit: set[str] = set()
        """Those whose data can't be opened, or are others."""

    def leave_out(self, nodes: Sequence[Node], slots: Slots) -> list[Node]:
        """The nodes without those that may not take trials, or not yet; `slots` are what all of them would have."""
        for node in nodes:
            if node.id not in self.known and takes_trials(node, slots):
                self.known.add(node.id)
                self.asked[node.id] = on_node(node, self.open_data)
            if node.id in self.asked and ray.wait([self.asked[node.id]], timeout=0)[0]:
                self._hear(node, self.asked.pop(node.id))
        return [node for node in nodes if node.id not in self.asked and node.id not in self.unfit]

    def _hear(self, node: Node, answer: ray.ObjectRef) -> None:
        try:
            fault = data_fault(answer, self.fingerprint)
        except NODE_LEFT:  # which will be said when the cluster has noticed
            self.unfit.add(node.id)
            return
        if fault:
            self.unfit.add(node.id)
            self.say(f"node {node.address} joined, but takes no trials: {fault}")
