"""The slots of a running search on a cluster: of which kind each trial's is, and how many as nodes come and go."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import ray
from ray.exceptions import RayError
from ray.tune import Callback, PlacementGroupFactory, TuneError
from ray.tune.experiment import Trial
from ray.tune.result import NODE_IP
from ray.util.placement_group import PlacementGroup, remove_placement_group

from tuning.cluster import Probe, read_nodes, start_probe, unmeasured
from tuning.executor import Executor
from tuning.newcomers import Newcomers
from tuning.resources import Node, Rule, SlotKind, Slots, gpu_fraction, slots_now

LOOK_EVERY_S = 2
NODE_ID = "ray.io/node-id"
"""The label that Ray gives each node."""
PLACE_IS_GONE = "its node has died, or is full, before it began there"
"""What a trial fails for, without counting, that Ray would keep waiting for a place."""


class Places:
    """Hands each trial that starts or goes on a kind of slot that has a free place."""

    def __init__(self, kinds: Sequence[SlotKind], occupies: Callable[[str], bool]) -> None:
        self.kinds = kinds
        self.occupies = occupies
        """Whether a trial runs, or is about to: its place is free again once it doesn't."""
        self.held: dict[str, SlotKind] = {}
        self.unfit: frozenset[str] = frozenset()
        """Ray's ids of the nodes that no trial may be put on."""

    def request(self, key: str) -> PlacementGroupFactory:
        """What Ray is asked for, for a place that the trial takes."""
        return request(self.take(key), self.unfit)

    def take(self, key: str) -> SlotKind:
        """A kind for the trial: the first with a free place; the first of all where none has, to wait for."""
        self.held.pop(key, None)
        free = self.free()
        kind = next((kind for kind in self.kinds if free[kind.pin] > 0), self.kinds[0])
        self.held[key] = kind
        return kind

    def free(self) -> Counter[str | None]:
        """Places that no trial has, by the kind's pin; below 0 where nodes left."""
        self.held = {key: kind for key, kind in self.held.items() if self.occupies(key)}
        free = Counter({kind.pin: kind.places for kind in self.kinds})
        free.subtract(kind.pin for kind in self.held.values())
        return free

    def runs_on(self, key: str, pin: str) -> None:
        """Count a trial that was asked for when no node had a pin at the kind of the node that it runs on."""
        kind = next((kind for kind in self.kinds if kind.pin == pin), None)
        if kind and key in self.held and self.held[key].pin is None:
            self.held[key] = kind

    def is_lost(self, key: str) -> bool:
        """Whether the trial has a kind that is gone, or so full that it had better wait for another."""
        kind = self.held.get(key)
        if kind is None:
            return False
        if kind.resources not in [each.resources for each in self.kinds]:
            return True
        free = self.free()
        return free[kind.pin] < 0 and any(free[each.pin] > 0 for each in self.kinds)


def request(kind: SlotKind, unfit: Collection[str] = ()) -> PlacementGroupFactory:
    """What Ray is asked for; two of the same kind are equal, and their trials can use each other's processes."""
    if not unfit:
        return PlacementGroupFactory([kind.resources])
    elsewhere: Any = [{NODE_ID: f"!in({','.join(sorted(unfit))})"}]
    return PlacementGroupFactory([kind.resources], bundle_label_selector=elsewhere)


def take_back(controller: Any, trial: Trial) -> None:
    """Let a trial fail that waits for a place which it won't get, as one fails whose node has died: it starts anew.

    Nothing where its process is being started already; that fails by itself.
    """
    actor = controller._trial_to_actor.get(trial)
    if actor in controller._actor_manager.pending_actors and trial in controller._staged_trials:
        controller._unstage_trial_with_resources(trial)
        controller._process_trial_failure(trial, exception=TuneError(PLACE_IS_GONE))


class Demand:
    """Placement groups that wait for nodes which aren't there: what an autoscaler adds nodes for.

    Ray drops them when this process ends, however it does.
    """

    def __init__(self) -> None:
        self.waiting: list[PlacementGroup] = []

    def ask(self, place: PlacementGroupFactory, count: int) -> None:
        """Wait for so many such places; those that have come are left to the trials."""
        come = [group for group in self.waiting if group.wait(timeout_seconds=0)]
        extra = self.waiting[max(0, count) :]
        for group in {*come, *extra}:
            remove_placement_group(group)
        self.waiting = [group for group in self.waiting if group not in come and group not in extra]
        if not come:  # else trials first: whether more are missing is known when they run there
            self.waiting += [place.to_placement_group() for _ in range(count - len(self.waiting))]


class SlotWatch(Callback):
    """Follows the cluster: more trials run where nodes join, fewer where some leave, and missing ones are asked for."""

    def __init__(
        self,
        rule: Rule,
        places: Places,
        executor: Executor,
        configurations: list[dict[str, Any]],
        probe: Probe,
        newcomers: Newcomers,
        say: Callable[[str], None],
    ) -> None:
        self.rule = rule
        self.places = places
        self.executor = executor
        self.configurations = configurations
        """The largest ones, which a type of GPU that joins is measured with."""
        self.probe = probe
        self.newcomers = newcomers
        self.say = say
        self.demand = Demand()
        self.nodes = {node.id for node in read_nodes()}
        self.pins: dict[str, str] = {}
        """Of the nodes, by their addresses."""
        self.measuring: dict[str, ray.ObjectRef] = {}
        self.next_look = 0.0

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Ray's loop went round once."""
        if time.monotonic() >= self.next_look:
            self.next_look = time.monotonic() + LOOK_EVERY_S
            nodes = read_nodes()
            self.measure(nodes)
            self.resize(self.newcomers.leave_out(nodes, slots_now(nodes, self.rule)))
            self.places.unfit = frozenset(self.newcomers.unfit)
            self.ask()

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info: Any) -> None:
        """A trial finished an epoch, on a node that its result names."""
        pin = self.pins.get(result.get(NODE_IP, ""))
        if pin is not None:
            self.places.runs_on(trial.trial_id, pin)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """No more nodes are wanted."""
        self.demand.ask(self.wanted, 0)

    def measure(self, nodes: Sequence[Node]) -> None:
        """Find out what a trial needs of GPUs that the search hasn't seen before; they are used when it is known."""
        for pin in unmeasured(nodes, self.rule):
            if pin not in self.measuring:
                self.measuring[pin] = start_probe(self.probe, self.configurations, pin)
        for pin, answer in list(self.measuring.items()):
            if not ray.wait([answer], timeout=0)[0]:
                continue
            del self.measuring[pin]
            try:
                share = gpu_fraction(*ray.get(answer))
            except RayError:  # its node left, and is measured when it is back; else a whole GPU is on the safe side
                if pin not in {node.pin for node in nodes}:
                    continue
                share = 1.0
            self.rule = self.rule._replace(measured={**self.rule.measured, pin: share})

    def resize(self, nodes: Sequence[Node]) -> None:
        """Let as many trials run as there are places now, and say so where that changed."""
        slots = slots_now(nodes, self.rule)
        self.places.kinds = slots.kinds
        self.pins = {node.address: node.pin for node in nodes}
        alive = {node.id for node in nodes}
        gone, new, self.nodes = self.nodes - alive, alive - self.nodes, alive
        before = self.executor.slots
        self.executor.resize(slots.concurrent)
        events = [f"{count_text(ids)} {what}" for ids, what in ((gone, "left"), (new, "joined")) if ids]
        if events or before != self.executor.slots:
            self.say(f"{' and '.join(events) or 'GPUs of a new type are measured'}: {self.now(slots)}")

    def now(self, slots: Slots) -> str:
        """How many trials run at once."""
        if not any(kind.places for kind in slots.kinds):
            return "no trial fits now, they wait for a node"
        return f"{self.executor.slots} trial{'s' * (self.executor.slots > 1)} at once"

    def ask(self) -> None:
        """Ask for the places that are missing, while there is work for all that are there."""
        there = max(1, sum(kind.places for kind in self.places.kinds))  # for one a trial waits
        missing = 0 if self.executor.has_free_slot else (self.rule.most or 0) - there
        self.demand.ask(self.wanted, missing)

    @property
    def wanted(self) -> PlacementGroupFactory:
        """A place that is missing, on whichever node there may be."""
        return request(self.places.kinds[0]._replace(pin=None), self.places.unfit)


def count_text(ids: set[str]) -> str:
    """`a node`, `2 nodes`."""
    return "a node" if len(ids) == 1 else f"{len(ids)} nodes"
