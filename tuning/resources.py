"""What the machine has, and how trials share it. Needs neither torch nor Ray."""

import math
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from trainable.errors import UsageError

MEMORY_MARGIN = 1.15
"""A trial's slot holds its measured peak memory with 15 % to spare."""
PIN_SHARE = 0.001
"""Of the one unit that a node has of its name, and of its GPUs' type: what a trial takes that has to run there."""


class Hardware(NamedTuple):
    """CPU cores that this process may use, and GPUs with their memory in bytes."""

    cpus: int
    gpu_bytes: tuple[int, ...]


class Node(NamedTuple):
    """A machine of the cluster, and what it offers."""

    address: str
    cpus: float
    gpus: float = 0.0
    gpu_type: str | None = None
    """As Ray names it, `A100`; None where it knows none."""
    memory_bytes: float = 0.0
    id: str = ""
    """Ray's."""

    @property
    def pin(self) -> str:
        """The resource of Ray's that only nodes with such GPUs have; where their type isn't known, the node's own."""
        return f"accelerator_type:{self.gpu_type}" if self.gpu_type else f"node:{self.address}"

    @property
    def offer(self) -> str:
        """`10.0.0.2: 1 GPU (A100), 8 cores, 32 GiB`."""
        gpus = f"{self.gpus:g} GPU{'s' * (self.gpus > 1)} ({self.gpu_type or 'of an unknown type'}), "
        memory = f", {self.memory_bytes / 2**30:.0f} GiB" if self.memory_bytes else ""
        return f"{self.address}: {gpus if self.gpus else 'no GPU, '}{self.cpus:g} cores{memory}"


class Rule(NamedTuple):
    """How trials share the nodes, whichever there are: what was asked for, and what was measured."""

    gpus_per_trial: float | None = None
    """Of any GPU; where it is None, `measured` tells."""
    cpus_per_trial: float | None = None
    """None: with GPUs a slot's part of the node's cores, else one."""
    concurrent: int | None = None
    """Trials at once, for which there has to be room at the start."""
    most: int | None = None
    """Trials at once at most; there may be room for fewer, until nodes join."""
    cpu_trials: bool = False
    """Whether nodes without a GPU take trials too where others have one."""
    alike: bool = False
    """Whether all trials get the same, as Ray's own schedulers need it: what fits on every GPU."""
    measured: Mapping[str, float] = MappingProxyType({})
    """The share that a trial needs of a GPU, by its `Node.pin`."""


class SlotKind(NamedTuple):
    """One size of slot: what a trial gets, and how many such places the nodes have together."""

    cpus: float
    gpus: float
    pin: str | None
    """The resource of Ray's that only nodes with such places have; None where all nodes have them."""
    places: int

    @property
    def resources(self) -> dict[str, float]:
        """What Ray reserves for a trial."""
        share = {"CPU": self.cpus, "GPU": self.gpus}
        return share | {self.pin: PIN_SHARE} if self.pin else share

    @property
    def text(self) -> str:
        """`A100: 4 of 0.25 GPU and 2 cores`."""
        share = f"{self.gpus:.3g} GPU and " if self.gpus else ""
        return f"{(self.pin or 'any').split(':')[-1]}: {self.places} of {share}{self.cpus:g} cores"


class Slots(NamedTuple):
    """How many trials run at once, what each gets, and why."""

    concurrent: int
    cpus_per_trial: float
    gpus_per_trial: float
    reason: str
    kinds: tuple[SlotKind, ...] = ()
    """On a cluster: the sizes of its slots, of which `cpus_per_trial` and `gpus_per_trial` are the first."""
    rule: Rule | None = None
    """How they follow from the nodes, where these may come and go."""

    def shared_by(self, count: int, why: str) -> "Slots":
        """The same cores for fewer trials at once; on a CPU only, as long as no node comes or goes."""
        if count >= self.concurrent or self.gpus_per_trial or self.rule is not None:
            return self
        cpus = math.floor(self.concurrent * self.cpus_per_trial / count)
        return self._replace(concurrent=count, cpus_per_trial=cpus, reason=f"{why}: {cpus} cores each")


def find_hardware() -> Hardware:
    """This machine's cores and GPUs, from the operating system and nvidia-smi."""
    return Hardware(len(os.sched_getaffinity(0)), find_gpus())


def find_gpus() -> tuple[int, ...]:
    """Memory in bytes of each NVIDIA GPU that CUDA_VISIBLE_DEVICES leaves visible; empty without a driver."""
    if shutil.which("nvidia-smi") is None:
        return ()
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        return ()
    mebibytes = [int(line) for line in answer.stdout.split()]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        mebibytes = mebibytes[: len([part for part in visible.split(",") if part.strip()])]
    return tuple(size * 2**20 for size in mebibytes)


def parse_gpus_per_trial(text: str) -> float | None:
    """`auto` -> None; else a number of GPUs: a fraction up to 1, or a whole number (Ray allows nothing else)."""
    if text == "auto":
        return None
    try:
        gpus = float(text)
    except ValueError:
        raise UsageError(f"--gpus-per-trial {text}: give auto, a fraction such as 0.25, or a whole number") from None
    if not 0 <= gpus < float("inf"):
        raise UsageError(f"--gpus-per-trial {text}: give auto, 0, a fraction such as 0.25, or a whole number")
    if gpus > 1 and gpus != int(gpus):
        raise UsageError(
            f"--gpus-per-trial {text}: above 1 it must be a whole number, since a trial can't share two GPUs"
        )
    return gpus


def gpu_fraction(peak_bytes: int, total_bytes: int) -> float:
    """The smallest 1/n of a GPU that holds `peak_bytes` with 15 % to spare; 1 where nothing smaller does."""
    return 1 / max(1, int(total_bytes / (MEMORY_MARGIN * peak_bytes)))


def plan_slots(
    cpus: float,
    gpus: float,
    cpus_per_trial: float | None,
    gpus_per_trial: float,
    concurrent: int | None,
    most: int | None = None,
) -> Slots:
    """Share this machine's `cpus` and `gpus` among trials, as `share_nodes` does; what doesn't fit is an error."""
    rule = Rule(gpus_per_trial, cpus_per_trial, concurrent)
    slots = share_nodes([Node("here", cpus, gpus)], rule)._replace(kinds=(), rule=None)
    return slots if most is None or slots.concurrent <= most else slots._replace(concurrent=most, reason="as asked")


def share_nodes(nodes: Sequence[Node], rule: Rule) -> Slots:
    """The slots that the nodes have by the rule; UsageError where not one trial fits, or fewer than were asked for."""
    slots = slots_now(nodes, rule)
    fits = sum(kind.places for kind in slots.kinds)
    may_wait = rule.most is not None and (rule.cpus_per_trial is None or rule.cpus_per_trial > 0)
    if not fits and not may_wait:
        raise UsageError(_why_none_fits(nodes, rule, slots.kinds))
    if rule.concurrent is not None and rule.concurrent > fits:
        reason = _reason(nodes, slots.kinds)
        raise UsageError(
            f"--concurrent {rule.concurrent}: only {fits} trials fit at once ({reason}); lower it or a trial's share"
        )
    return slots


def slots_now(nodes: Sequence[Node], rule: Rule) -> Slots:
    """The slots that the nodes have, as many as the rule allows; one where none has room, for a trial that waits.

    1. With GPUs, they set the number of slots of a node, and its cores are divided among those.
    2. On CPUs a slot is one core: two slots of one thread train as many images/s as one slot of two, or more.
    """
    kinds = slot_kinds(nodes, rule)
    fits, limit = sum(kind.places for kind in kinds), rule.concurrent or rule.most
    reason = _reason(nodes, kinds) if fits else "none fits yet"
    if limit is not None:
        reason = "as asked" if fits >= limit else f"{reason}; up to {limit} as nodes join"
    return Slots(max(1, min(fits, limit or fits)), kinds[0].cpus, kinds[0].gpus, reason, kinds, rule)


def slot_kinds(nodes: Sequence[Node], rule: Rule) -> tuple[SlotKind, ...]:
    """The sizes of slots on these nodes, at least one: of each type of GPU, then of nodes without.

    A GPU of a type that wasn't measured yet isn't used. A type's slots keep their pin where it is the only one: trials
    that run there are counted there when another type joins.
    """
    with_gpu = [node for node in nodes if node.gpus >= 1]
    if not (with_gpu or rule.gpus_per_trial) or rule.gpus_per_trial == 0:
        return (_kind(nodes, rule.cpus_per_trial, 0.0, None),)
    groups = _grouped(with_gpu)
    shares = {name: rule.gpus_per_trial or rule.measured.get(name, 0.0) for name in groups}
    groups = {name: group for name, group in groups.items() if shares[name]}
    if rule.alike or not groups:
        largest = max(shares.values(), default=rule.gpus_per_trial or 1.0) or 1.0
        return (_kind([node for group in groups.values() for node in group], rule.cpus_per_trial, largest, None),)
    kinds = [_kind(group, rule.cpus_per_trial, shares[name], name) for name, group in groups.items()]
    if rule.cpu_trials:
        without = [node for node in nodes if node.gpus < 1]
        kinds += [_kind(group, rule.cpus_per_trial, 0.0, name) for name, group in _grouped(without).items()]
    return tuple(kind for kind in kinds if kind.places) or (kinds[0],)


def cores_for_at_most(nodes: Sequence[Node], slots: Slots) -> float:
    """Cores a trial, at least the slots' own, so many that the nodes have them for no more trials than the slots.

    Where that isn't possible, as for one trial on two nodes that are alike: for as few as is.
    """
    cores = {math.floor(1e4 * node.cpus / count) / 1e4 for node in nodes for count in range(1, slots.concurrent + 1)}
    enough = slots.cpus_per_trial
    for enough in sorted({each for each in cores if each > slots.cpus_per_trial} | {slots.cpus_per_trial}):
        if sum(_cpu_slots(node.cpus, enough) for node in nodes) <= slots.concurrent:
            break
    return enough


def places_on(node: Node, cpus_per_trial: float, gpus_per_trial: float) -> int:
    """How many trials of that size fit on a node; a fraction of a GPU has to fit on one."""
    fits = _cpu_slots(node.cpus, cpus_per_trial)
    return min(fits, _gpu_slots(node.gpus, gpus_per_trial)) if gpus_per_trial else fits


def _kind(nodes: Sequence[Node], cpus_per_trial: float | None, gpus_per_trial: float, pin: str | None) -> SlotKind:
    cpus = cpus_per_trial
    if cpus is None:
        filled = [(node.cpus, _gpu_slots(node.gpus, gpus_per_trial)) for node in nodes if gpus_per_trial]
        cpus = max(1.0, min((cores // slots for cores, slots in filled if slots and cores >= 1), default=1.0))
    places = sum(places_on(node, cpus, gpus_per_trial) for node in nodes) if cpus > 0 else 0
    return SlotKind(cpus, gpus_per_trial, pin, places)


def _grouped(nodes: Sequence[Node]) -> dict[str, list[Node]]:
    """Nodes by the name of their GPUs, or each by itself where it has none."""
    groups: dict[str, list[Node]] = {}
    for node in nodes:
        groups.setdefault(node.pin, []).append(node)
    return groups


def _reason(nodes: Sequence[Node], kinds: Sequence[SlotKind]) -> str:
    if len({(kind.cpus, kind.gpus) for kind in kinds}) > 1:
        return "; ".join(kind.text for kind in kinds)
    kind = kinds[0]._replace(places=sum(kind.places for kind in kinds))
    used = [node for node in nodes if places_on(node, kind.cpus, kind.gpus)]
    if kind.gpus and kind.places == sum(_gpu_slots(node.gpus, kind.gpus) for node in used):
        return f"{sum(node.gpus for node in used):g} GPUs / {kind.gpus:.3g} a trial"
    return f"{sum(node.cpus for node in used):g} cores / {kind.cpus:g} a trial"


def _why_none_fits(nodes: Sequence[Node], rule: Rule, kinds: Sequence[SlotKind]) -> str:
    offers = "; ".join(node.offer for node in nodes)
    alone = len(nodes) == 1
    share, most = min(kind.gpus for kind in kinds), max((node.gpus for node in nodes), default=0.0)
    if share > most:
        there = f"there is {f'{most:g} GPUs' if most else 'no GPU'} here" if alone else f"nodes offer: {offers}"
        return f"--gpus-per-trial {share:g}: {there}; give 0, auto or a smaller share"
    cores, cpus = max((node.cpus for node in nodes), default=0.0), rule.cpus_per_trial
    if cpus is not None and not 0 < cpus <= cores:
        there = "there are" if alone else f"of one node; nodes offer: {offers}"
        return f"--cpus-per-trial {cpus:g}: give more than 0 and at most the {cores:g} {there}"
    return f"no node has {share:.3g} GPU and {kinds[0].cpus:g} cores for a trial; nodes offer: {offers}"


def _cpu_slots(cpus: float, cpus_per_trial: float) -> int:
    return int(cpus / cpus_per_trial + 1e-9)


def _gpu_slots(gpus: float, gpus_per_trial: float) -> int:
    if gpus_per_trial >= 1:
        return int(gpus // gpus_per_trial)
    return int(gpus) * int(1 / gpus_per_trial + 1e-9)
