"""The plan as a person reads it before the search starts, and all that `--dry-run` prints."""

from rich.console import Console
from rich.table import Table

from search_spaces import Space, describe
from tuning.data import Source
from tuning.plan import SearchPlan, clock, estimated_seconds, expected_budget
from tuning.resources import Hardware, Slots


def space_table(space: Space) -> Table:
    """One row a dimension, then the fixed values."""
    table = Table(title=f"space {space.name}", title_justify="left", box=None, pad_edge=False, header_style="dim")
    rows = describe(space)
    for column in rows[0] if rows else ("name",):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    return table


def print_overview(console: Console, plan: SearchPlan, source: Source, hardware: Hardware, slots: Slots | None) -> None:
    """Data, space, plan, resources and the estimated budget."""
    console.print(f"[bold]data[/] {source.note}, at {source.image_size} px", highlight=False, soft_wrap=True)
    console.print(space_table(plan.space))
    if plan.space.fixed:
        console.print("fixed: " + ", ".join(f"{name} = {value}" for name, value in plan.space.fixed.items()))
    halving = f", rungs at {plan.rungs} epochs, top 1/{plan.reduction_factor:g} go on" if plan.rungs else ""
    limit = f", at most {clock(plan.time_budget_s)}" if plan.time_budget_s else ""
    console.print(
        f"[bold]plan[/] {plan.trials} trials of up to {plan.epochs} epochs, {plan.sampler} sampler, "
        f"{plan.scheduler} scheduler{halving}{limit}, seed {plan.seed}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"[bold]resources[/] {resources_line(hardware, slots)}", highlight=False, soft_wrap=True)
    console.print(f"[bold]budget[/] {budget_line(plan, source, hardware)}", highlight=False, soft_wrap=True)
    console.print(f"[bold]folder[/] {plan.folder}", highlight=False, soft_wrap=True)


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


def budget_line(plan: SearchPlan, source: Source, hardware: Hardware) -> str:
    """Epochs, full trainings and images, and on CPUs a rough time."""
    budget = expected_budget(plan, source.train_images)
    text = f"about {budget.epochs:.0f} epochs ({budget.full_trainings:.1f} full trainings, {budget.images:,.0f} images)"
    if hardware.gpu_bytes:
        return f"{text}; the time is known after the first epochs"
    seconds = estimated_seconds(plan, budget, source.image_size, hardware.cpus)
    return f"{text}, very roughly {clock(seconds)} on {hardware.cpus} cores"
