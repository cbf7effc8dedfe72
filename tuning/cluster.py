"""The nodes of a Ray cluster before a search: what they offer, and whether each can read the data and the storage."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import NodeDiedError, RayError, RayTaskError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console
from rich.progress import track

from trainable.config import TrialConfig
from trainable.data.dataset import ready_dataset
from trainable.errors import UserError
from tuning.plan import SearchPlan
from tuning.resources import PIN_SHARE, Node, Rule, Slots, gpu_fraction, places_on, share_nodes

ACCELERATOR = "accelerator_type:"
ANSWER_S = 60
"""What a node gets to look for a file."""
STEP_S = 2
"""How often nodes are looked at while a measurement is waited for."""
NODE_LEFT = NodeDiedError, TaskUnschedulableError
"""What Ray says of a task for a node that is no longer there; it may have looked alive for half a minute."""

Probe = Callable[[list[dict[str, Any]]], tuple[int, int]]
"""The peak bytes of the largest of these configurations on a GPU, and the GPU's total: `measure_peak_bytes`."""


def read_nodes() -> list[Node]:
    """The nodes that are alive now, in the order of their addresses."""
    nodes = [_node(each) for each in ray.nodes() if each["Alive"]]
    return sorted(nodes, key=lambda node: (node.address, node.id))


def _node(told: Mapping[str, Any]) -> Node:
    resources = told["Resources"]
    types = [name.removeprefix(ACCELERATOR) for name in resources if name.startswith(ACCELERATOR)]
    gpus = resources.get("GPU", 0.0)
    gpu_type = types[0] if types and gpus else None
    cpus, memory = resources.get("CPU", 0.0), resources.get("memory", 0.0)
    return Node(told["NodeManagerAddress"], cpus, gpus, gpu_type, memory, told["NodeID"])


def plan_cluster(
    rule: Rule, configurations: list[dict[str, Any]], probe: Probe, say: Callable[[str], None] = lambda text: None
) -> Slots:
    """The slots of the cluster by the rule; the share of each type of GPU is measured where none was asked for.

    Raises:
        UsageError: not one trial fits, or fewer than were asked for.
    """
    nodes = read_nodes()
    if rule.gpus_per_trial is None:
        pins = unmeasured(nodes, rule)
        if pins:
            measuring = {pin: start_probe(probe, configurations, pin) for pin in pins}
            rule, nodes = rule._replace(measured=wait_for_shares(measuring, say)), read_nodes()
        else:
            rule = rule._replace(gpus_per_trial=0.0)  # GPUs that join later could take no trial of this search
    return share_nodes(nodes, rule)


def wait_for_shares(measuring: Mapping[str, ray.ObjectRef], say: Callable[[str], None]) -> dict[str, float]:
    """The share that a trial needs of each type of GPU; those whose last node leaves before that is known are left
    out."""
    shares, waiting, told = {}, dict(measuring), False
    while waiting:
        ready, rest = ray.wait(list(waiting.values()), num_returns=len(waiting), timeout=STEP_S)
        if rest and not told:
            say(f"measuring the memory of a trial on {', '.join(map(pin_text, waiting))} ...")
            told = True
        there = {node.pin for node in read_nodes()}
        for pin, answer in list(waiting.items()):
            if pin not in there:
                ray.cancel(waiting.pop(pin))
                say(f"{pin_text(pin)} left the cluster before a trial was measured there: that is done when it joins")
            elif answer in ready:
                shares[pin] = gpu_fraction(*ray.get(waiting.pop(pin)))
    return shares


def pin_text(pin: str) -> str:
    """`A100`, or the node's address."""
    return pin.split(":")[-1]


def unmeasured(nodes: Sequence[Node], rule: Rule) -> list[str]:
    """The types of GPU (`Node.pin`) whose share isn't known."""
    if rule.gpus_per_trial is not None:
        return []
    return sorted({node.pin for node in nodes if node.gpus >= 1} - set(rule.measured))


def start_probe(probe: Probe, configurations: list[dict[str, Any]], pin: str) -> ray.ObjectRef:
    """Measure on one GPU of that type. Not yet run on a GPU."""
    measure = ray.remote(num_gpus=1, num_cpus=0, max_calls=1, resources={pin: PIN_SHARE})(probe)
    return measure.remote(configurations)


def check_nodes(plan: SearchPlan, slots: Slots, fingerprint: str, console: Console) -> None:
    """UserError where a node can't do what trials do there: open the data of this fingerprint, keep checkpoints."""
    check_data(slots, data_opener(plan), fingerprint, console)
    if plan.place is None or isinstance(plan.place, Path):
        check_shared(plan.place or plan.output, "--storage" if plan.place else "--output")


def data_opener(plan: SearchPlan) -> Callable[[], str]:
    """What makes the plan's images ready on the machine where it is called, and returns their fingerprint."""
    return partial(ready_dataset, TrialConfig.model_validate(plan.trial_settings))


def check_data(slots: Slots, open_data: Callable[[], str], fingerprint: str, console: Console) -> None:
    """Let each node that takes trials open the data set, all at once; nothing to do where this machine is the only one.

    Args:
        slots: Of the search.
        open_data: Opens it and returns its fingerprint.
        fingerprint: What it is on this machine.
        console: Shows how many nodes have done so.

    Raises:
        UserError: names the nodes where the data can't be opened, or is another.
    """
    nodes = read_nodes()
    if len(nodes) < 2:
        return
    asked = {node: on_node(node, open_data) for node in nodes if takes_trials(node, slots)}
    wrong = []
    text = f"data on {len(asked)} nodes ..."
    for node, answer in track(asked.items(), text, console=console, transient=True):
        try:
            fault = data_fault(answer, fingerprint)
        except NODE_LEFT:  # it takes no trial any more
            console.print(f"node {node.address} has left the cluster", highlight=False)
            continue
        if fault:
            wrong.append(f"node {node.address}: {fault}")
    if wrong:
        raise UserError("; ".join(wrong))


def takes_trials(node: Node, slots: Slots) -> bool:
    """Whether a slot of some kind fits on the node."""
    sizes = [(kind.cpus, kind.gpus) for kind in slots.kinds] or [(slots.cpus_per_trial, slots.gpus_per_trial)]
    return any(places_on(node, *size) for size in sizes)


def data_fault(answer: ray.ObjectRef, fingerprint: str) -> str | None:
    """What is wrong with the data of a node, by its `answer`, for which it waits; one of NODE_LEFT if it left."""
    try:
        found: Any = ray.get(answer)
    except NODE_LEFT:
        raise
    except RayError as error:
        return reason_of(error)
    difference = f"{found[:8]}, here {fingerprint[:8]}"
    return None if found == fingerprint else f"has other images than this machine ({difference}); copy them there"


def check_shared(folder: Path, option: str = "--output") -> None:
    """UserError where a folder of this machine isn't seen by all nodes, which are to write their checkpoints there."""
    nodes = read_nodes()
    if len(nodes) < 2:
        return
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / f".seen-by-all-{uuid.uuid4().hex}"
    mark.write_text(mark.name)
    try:
        answers = {node: on_node(node, _has_file, str(mark)) for node in nodes}
        blind = [node.address for node, answer in answers.items() if not _answer(answer)]
    finally:
        mark.unlink()
    if blind:
        raise UserError(
            f"{option} {folder}: isn't shared with node {', '.join(blind)}, so what trials write there would be lost; "
            "give --storage s3://BUCKET/FOLDER, or a folder that all nodes mount"
        )


def on_node(node: Node, function: Callable[..., Any], *arguments: Any) -> ray.ObjectRef:
    """Run the function on that node, however busy it is."""
    there = NodeAffinitySchedulingStrategy(node.id, soft=False)
    return ray.remote(num_cpus=0, max_retries=0)(_call).options(scheduling_strategy=there).remote(function, *arguments)


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Ray takes a function, and no partial one."""
    return function(*arguments)


def reason_of(error: RayError) -> str:
    """Why a task failed, in one line."""
    if isinstance(error, RayTaskError):
        cause: Any = error.cause
        if isinstance(cause, ModuleNotFoundError):
            return f"{cause}; install the program there as here, or submit the search by python -m tuning.jobs"
        return str(cause) if isinstance(cause, UserError) else f"{type(cause).__name__}: {cause}"
    return str(error).splitlines()[0]


def _has_file(path: str) -> bool:
    return Path(path).is_file()


def _answer(answer: ray.ObjectRef) -> bool:
    try:
        return bool(ray.get(answer, timeout=ANSWER_S))
    except NODE_LEFT:
        return True
    except RayError:
        return False
