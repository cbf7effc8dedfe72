"""The plan as a person reads it before the search starts, and all that `--dry-run` prints."""

from typing import Any

from rich.console import Console
from rich.table import Table

from search_spaces import Space, describe
from tuning.budget import estimated_seconds, expected_budget, reference_speed
from tuning.data import Source
from tuning.plan import SearchPlan, clock
from tuning.resources import Hardware, Slots

SHOWN_FIRST = 4
"""So many of the first configurations are told."""
MANY_SLOTS = 100
PACE_S = 0.2
"""Of a result the driver needs so many seconds with freeze-thaw and thousands of trials (docs/scaling.md)."""


def space_table(space: Space) -> Table:
    """One row a dimension, then the fixed values."""
    table = Table(title=f"space {space.name}", title_justify="left", box=None, pad_edge=False, header_style="dim")
    rows = describe(space)
    for column in rows[0] if rows else ("name",):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    return table


def print_overview(
    console: Console,
    plan: SearchPlan,
    source: Source,
    hardware: Hardware,
    slots: Slots | None,
    disk: str,
    note: str | None = None,
) -> None:
    """Data, space, plan (with a note on it), resources, disk and the estimated budget."""
    size = f"at {source.image_size} px" if source.image_size else "at the images' own size"
    console.print(f"[bold]data[/] {source.note}, {size}", highlight=False, soft_wrap=True)
    console.print(space_table(plan.space))
    if plan.space.fixed:
        console.print("fixed: " + ", ".join(f"{name} = {value}" for name, value in plan.space.fixed.items()))
    console.print(f"[bold]plan[/] {plan_line(plan)}", highlight=False, soft_wrap=True)
    if note:
        console.print(f"[bold]note[/] {note}", highlight=False, soft_wrap=True)
    if plan.first:
        console.print(f"[bold]first[/] {first_line(plan.first)}", highlight=False, soft_wrap=True)
    console.print(f"[bold]resources[/] {resources_line(hardware, slots)}", highlight=False, soft_wrap=True)
    console.print(f"[bold]disk[/] {disk}", highlight=False, soft_wrap=True)
    console.print(f"[bold]budget[/] {budget_line(plan, source, hardware)}", highlight=False, soft_wrap=True)
    console.print(f"[bold]folder[/] {plan.folder}", highlight=False, soft_wrap=True)


def plan_line(plan: SearchPlan) -> str:
    """Trials, what decides, and where the search ends."""
    trials = "trials" if plan.trials is None else f"{plan.trials} trials"
    parts = [f"{trials} of up to {plan.epochs} epochs"]
    if plan.scheduler == "freeze-thaw":
        parts.append(f"freeze-thaw search, rungs at {plan.rungs} epochs")
    else:
        share = f"top 1/{plan.reduction_factor:g}"
        parts += [f"{plan.sampler} sampler", f"{plan.scheduler} scheduler"]
        parts += [f"rungs at {plan.rungs} epochs", f"{share} go on"] if plan.rungs else []
        parts += [f"{share} of a bracket go on"] if plan.scheduler == "hyperband" else []
    parts += [f"at most {plan.epoch_limit} epochs"] if plan.epoch_limit else []
    parts += [f"at most {clock(plan.time_budget_s)}"] if plan.time_budget_s else []
    parts += [f"warm start from {', '.join(folder.name for folder in plan.warm_start)}"] if plan.warm_start else []
    return ", ".join([*parts, f"seed {plan.seed}"])


def first_line(first: list[dict[str, Any]]) -> str:
    """How many configurations come first, and the first few by the values in which they differ."""
    names = dict.fromkeys(name for configuration in first for name in configuration)
    told = [n for n in names if len(first) == 1 or len({configuration.get(n) for configuration in first}) > 1]
    texts = [
        ", ".join(f"{name} {value_text(configuration[name])}" for name in told if name in configuration)
        for configuration in first[:SHOWN_FIRST]
    ]
    more = "; ..." if len(first) > SHOWN_FIRST else ""
    return f"{len(first)} configuration{'s' if len(first) > 1 else ''}: {'; '.join(texts)}{more}"


def value_text(value: Any) -> str:
    """A value in three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def resources_line(hardware: Hardware, slots: Slots | None) -> str:
    """What there is, and how trials share it."""
    gpus = ", ".join(f"{size / 2**30:.0f} GiB" for size in hardware.gpu_bytes)
    there = f"{hardware.cpus} cores, " + (f"{len(hardware.gpu_bytes)} GPU ({gpus})" if gpus else "no GPU")
    if slots is None:
        return f"{there}; each trial's share of a GPU is measured at the start"
    return (
        f"{there}; {slots.concurrent} trials at once ({slots.reason}), each with {slots.cpus_per_trial:g} of the cores"
        + (f" and {slots.gpus_per_trial:.3g} GPU" if slots.gpus_per_trial else "")
    )


def pace_line(plan: SearchPlan, slots: Slots) -> str | None:
    """A word where freeze-thaw's decisions may be what so many slots wait for."""
    if plan.scheduler != "freeze-thaw" or slots.concurrent < MANY_SLOTS:
        return None
    return (
        f"freeze-thaw keeps {slots.concurrent} slots busy where epochs last {PACE_S * slots.concurrent:.0f} s or more; "
        "for shorter ones take --search halving (docs/scaling.md)"
    )


def budget_line(plan: SearchPlan, source: Source, hardware: Hardware) -> str:
    """Epochs, full trainings and images, and on CPUs a rough time."""
    speed = None
    if not hardware.gpu_bytes and source.train_images and source.image_size:
        speed = reference_speed(plan, source.train_images, source.image_size, hardware.cpus)
    budget = expected_budget(plan, source.train_images or 0, speed)
    if budget is None:
        return "how many epochs the time buys is known after the first ones"
    text = f"about {budget.trials:.0f} trials, {budget.epochs:.0f} epochs ({budget.full_trainings:.1f} full trainings"
    text += f", {budget.images:,.0f} images)" if source.train_images else ")"
    if speed is None:
        return f"{text}; the time is known after the first epochs"
    return f"{text}, very roughly {clock(estimated_seconds(plan, budget, speed))} on {hardware.cpus} cores"
