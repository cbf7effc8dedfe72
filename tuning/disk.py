"""What a search will need of the disk, roughly, before it starts."""

import math
import shutil
from pathlib import Path
from typing import NamedTuple

from trainable.errors import UserError
from trainable.sizes import size_text
from tuning.plan import Precautions, SearchPlan, architectures_of

MILLION_PARAMETERS = {
    "resnet18": 11.2,
    "resnet34": 21.3,
    "resnet50": 23.6,
    "resnet101": 42.6,
    "resnet152": 58.2,
    "vit_small": 21.7,
    "deit_small": 21.7,
    "swin_tiny": 27.6,
}
UNKNOWN_ARCHITECTURE = 30.0
BYTES_A_PARAMETER = 16
"""Of a checkpoint: the latest weights, the best ones, and AdamW's two moments, in fp32."""
BYTES_HOME = 8
"""Of these, those that come here at the end from a storage elsewhere, for the export: both weights."""
CHECKPOINTS_KEPT = 2
"""Of a running trial."""


class DiskNeed(NamedTuple):
    """Bytes that checkpoints take: those of running trials, and at most those of all others."""

    running: float
    others: float


def largest_parameters(plan: SearchPlan) -> float:
    """Of the space's largest architecture."""
    return 1e6 * max(MILLION_PARAMETERS.get(arch, UNKNOWN_ARCHITECTURE) for arch in architectures_of(plan.space))


def expected_need(plan: SearchPlan, slots: int, care: Precautions) -> DiskNeed:
    """From the space's largest architecture. Decoded images are looked at when they are decoded."""
    checkpoint = largest_parameters(plan) * BYTES_A_PARAMETER
    of_all = math.inf if plan.trials is None else plan.trials * checkpoint
    return DiskNeed(CHECKPOINTS_KEPT * slots * checkpoint, min(of_all, care.limits(plan.keep_weights).most_bytes))


def check_disk(plan: SearchPlan, slots: int, care: Precautions) -> str:
    """What the search needs and what is free, in words; UserError where not even the running trials fit."""
    place = plan.place
    if place is not None and not isinstance(place, Path):
        return check_records(plan, care)
    option, folder = ("--output", plan.output) if place is None else ("--storage", place.parent)
    (size, _, free), need = disk_of(folder), expected_need(plan, slots, care)
    least = need.running + care.free_bytes
    if size and free < least:  # /proc has no size; that it can't be written is said when it's tried
        raise UserError(
            f"{option} {folder}: {size_text(free)} are free, but the checkpoints of {slots} running trials and "
            f"--min-free {size_text(care.free_bytes)} take {size_text(least)}; make room, or choose another disk"
        )
    most = need.running + need.others
    amount = "as much as there is" if most > free else f"up to {size_text(most)}"
    return f"checkpoints take {amount} of the {size_text(free)} that are free (--max-size, --min-free)"


def check_records(plan: SearchPlan, care: Precautions) -> str:
    """As `check_disk`, where checkpoints go elsewhere: here lie records, and at the end the weights that are kept."""
    size, _, free = disk_of(plan.output)
    if size and free < care.free_bytes:
        raise UserError(
            f"--output {plan.output}: {size_text(free)} are free, less than --min-free {size_text(care.free_bytes)}; "
            "make room, or choose another disk"
        )
    kept = plan.keep_weights if plan.trials is None else min(plan.trials, plan.keep_weights)
    amount = size_text(kept * largest_parameters(plan) * BYTES_HOME)
    return (
        f"checkpoints go to {plan.storage}; the weights of the {kept} best, about {amount} at most, come here at the "
        f"end, where {size_text(free)} are free (--min-free)"
    )


def disk_of(folder: Path) -> tuple[int, int, int]:
    """Bytes of the disk that the folder is or will be on: all, used, free."""
    return shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.exists()))
