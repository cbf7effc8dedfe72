"""What the machine has, and how trials share it. Needs neither torch nor Ray."""

import os
import shutil
import subprocess
from typing import NamedTuple

from trainable.errors import UsageError

MEMORY_MARGIN = 1.15
"""A trial's slot holds its measured peak memory with 15 % to spare."""


class Hardware(NamedTuple):
    """CPU cores that this process may use, and GPUs with their memory in bytes."""

    cpus: int
    gpu_bytes: tuple[int, ...]


class Slots(NamedTuple):
    """How many trials run at once, what each gets, and why."""

    concurrent: int
    cpus_per_trial: float
    gpus_per_trial: float
    reason: str


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
    cpus: float, gpus: float, cpus_per_trial: float | None, gpus_per_trial: float, concurrent: int | None
) -> Slots:
    """Share `cpus` and `gpus` among trials. Options that are None are chosen; what doesn't fit is an error.

    1. With GPUs, they set the number of slots, and the cores are divided among those.
    2. On CPUs a slot is one core: two slots of one thread train as many images/s as one slot of two, or more.
    """
    if gpus_per_trial > gpus:
        there = f"{gpus:g} GPUs" if gpus else "no GPU"
        raise UsageError(f"--gpus-per-trial {gpus_per_trial:g}: there is {there} here; give 0, auto or a smaller share")
    if cpus_per_trial is not None and not 0 < cpus_per_trial <= cpus:
        raise UsageError(f"--cpus-per-trial {cpus_per_trial:g}: give more than 0 and at most the {cpus:g} there are")
    gpu_slots = _gpu_slots(gpus, gpus_per_trial) if gpus_per_trial else None
    if cpus_per_trial is None:
        cpus_per_trial = max(1.0, cpus // gpu_slots) if gpu_slots else 1.0
    fits = int(cpus // cpus_per_trial) if cpus_per_trial >= 1 else int(cpus / cpus_per_trial)
    reason = f"{cpus:g} cores / {cpus_per_trial:g} a trial"
    if gpu_slots is not None and gpu_slots <= fits:
        fits, reason = gpu_slots, f"{gpus:g} GPUs / {gpus_per_trial:.3g} a trial"
    if concurrent is not None and concurrent > fits:
        raise UsageError(
            f"--concurrent {concurrent}: only {fits} trials fit at once ({reason}); lower it or a trial's share"
        )
    if concurrent is not None:
        fits, reason = concurrent, "as asked"
    return Slots(fits, cpus_per_trial, gpus_per_trial, reason)


def _gpu_slots(gpus: float, gpus_per_trial: float) -> int:
    if gpus_per_trial >= 1:
        return int(gpus // gpus_per_trial)
    return int(gpus) * int(1 / gpus_per_trial + 1e-9)
