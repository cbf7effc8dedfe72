"""The plan as a person reads it before the search starts, and all that `--dry-run` prints."""

import itertools
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from search_spaces import Choice, Space, describe, is_probe
from search_spaces.geometry import FAMILIES, GROWING
from search_spaces.space import applies
from tuning.arithmetic import usual_images_per_second
from tuning.budget import estimated_seconds, expected_budget, reference_speed
from tuning.data import Source, apart_text
from tuning.plan import SearchPlan, architectures_of, clock
from tuning.resources import Hardware, Slots

SHOWN_FIRST = 4
"""So many of the first configurations are told."""
SHOWN_COSTS = 10
"""So many of the architectures and geometries."""
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
    if plan.weights:
        console.print(f"[bold]weights[/] {escape(plan.weights)}", highlight=False, soft_wrap=True)
    console.print(space_table(plan.space))
    if plan.space.fixed:
        console.print("fixed: " + ", ".join(f"{name} = {value}" for name, value in plan.space.fixed.items()))
    console.print(f"[bold]plan[/] {plan_line(plan)}", highlight=False, soft_wrap=True)
    if source.image_size and source.train_images and not hardware.gpu_bytes:
        costs = costs_line(plan, source.image_size, source.train_images, slots)
        console.print(f"[bold]a step[/] {costs}", highlight=False, soft_wrap=True)
    if source.select_images:
        decides = f"{source.select_images:,} images decide: {apart_text(source.select_images)}"
        console.print(f"[bold]select[/] {decides}", highlight=False, soft_wrap=True)
    if note:
        console.print(f"[bold]note[/] {note}", highlight=False, soft_wrap=True)
    if text := first_text(plan):
        console.print(f"[bold]first[/] {text}", highlight=False, soft_wrap=True)
    console.print(f"[bold]resources[/] {resources_line(hardware, slots)}", highlight=False, soft_wrap=True)
    console.print(f"[bold]disk[/] {disk}", highlight=False, soft_wrap=True)
    console.print(f"[bold]budget[/] {budget_line(plan, source, hardware)}", highlight=False, soft_wrap=True)
    console.print(f"[bold]folder[/] {plan.folder}", highlight=False, soft_wrap=True)


def plan_line(plan: SearchPlan) -> str:
    """Trials, what decides, and where the search ends."""
    trials = "trials" if plan.trials is None else f"{plan.trials} trials"
    parts = [f"{trials} of up to {length_text(plan)}"]
    parts += ["the first one in full"] if plan.first_in_full else []
    rungs = f"rungs at {', '.join(f'{plan.epochs_of(rung):.3g}' for rung in plan.rungs)} epochs"
    if plan.scheduler == "freeze-thaw":
        parts.append(f"freeze-thaw search, {rungs}")
    else:
        share = f"top 1/{plan.reduction_factor:g}"
        parts += [f"{plan.sampler} sampler", f"{plan.scheduler} scheduler"]
        parts += [rungs, f"{share} continue"] if plan.rungs else []
        parts += [f"{share} of a bracket continue"] if plan.scheduler == "hyperband" else []
    parts += [f"at most {plan.epochs_of(plan.step_limit):.0f} epochs"] if plan.step_limit else []
    parts += [time_text(plan)] if plan.time_budget_s else []
    parts += [f"warm start from {', '.join(folder.name for folder in plan.warm_start)}"] if plan.warm_start else []
    return ", ".join([*parts, f"seed {plan.seed}"])


def length_text(plan: SearchPlan) -> str:
    """`12 epochs`, or `1.5 epochs in 8 steps`."""
    epochs = f"{plan.epochs:.3g} epoch{'s' * (plan.epochs != 1)}"
    return epochs if plan.length == plan.epochs else f"{epochs} in {plan.length} steps"


def time_text(plan: SearchPlan) -> str:
    """The deadline, and what of it is kept back."""
    kept = f", of which {clock(plan.reserve_s)} are kept for export and report" if plan.reserve_s else ""
    return f"all done within {clock(plan.time_budget_s or 0)}{kept}"


def costs_line(plan: SearchPlan, image_size: int, train_images: int, slots: Slots | None) -> str:
    """Seconds of a step of each architecture and geometry in a slot, roughly, the cheapest first."""
    cores, images = (slots.cpus_per_trial if slots else 1), plan.epochs_of(1) * train_images
    costs = {text: images / (usual_images_per_second(config, image_size) * cores) for text, config in geometries(plan)}
    told = [f"{text} {seconds:.2g} s" for text, seconds in sorted(costs.items(), key=lambda each: each[1])]
    return f"roughly {'; '.join(told[:SHOWN_COSTS])}{'; ...' if len(told) > SHOWN_COSTS else ''}"


def geometries(plan: SearchPlan) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each architecture of the space with each geometry that it may have, in words, and as a configuration."""
    dimensions = [each for each in plan.space.dimensions if each.name in FAMILIES and isinstance(each, Choice)]
    for arch in architectures_of(plan.space):
        config = plan.trial_settings | {"arch": arch}
        there = [each for each in dimensions if applies(each, config)]
        for values in itertools.product(*(each.values for each in there)):
            own = dict(zip((each.name for each in there), values, strict=True))
            yield " ".join([arch, *(geometry_text(name, value) for name, value in own.items())]).strip(), config | own


def geometry_text(name: str, value: Any) -> str:
    """`stem full`, `growing`."""
    if name == GROWING:
        return "growing" if value else "whole"
    return f"{name.removesuffix('_size')} {value}"


def first_text(plan: SearchPlan) -> str:
    """Probes, the configurations that come first, and fine-tuning from the best probes."""
    own = [str(config.get("arch", plan.space.fixed.get("arch"))) for config in plan.first if is_probe(config)]
    parts = [f"{len(own)} probe{'s' * (len(own) > 1)} on frozen features: {', '.join(own)}"] if own else []
    others = [config for config in plan.first if not is_probe(config)]
    parts += [first_line(others)] if others else []
    parts += ["fine-tuning of the best ones"] if plan.starts else []
    return "; then ".join(parts)


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
    at_once = f"{slots.concurrent} trial{'s' * (slots.concurrent > 1)} at once ({slots.reason})"
    share = f" and {slots.gpus_per_trial:.3g} GPU" if slots.gpus_per_trial else ""
    return f"{there}; {at_once}, each with {slots.cpus_per_trial:g} of the cores{share}"


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
