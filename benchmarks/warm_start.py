"""What a warm start is worth: our search on one task after an earlier search on another.

[bold]python -m benchmarks.warm_start --earlier A.npz --new B.npz[/]  replays a search on table A, then three searches
on B: cold; warm, which knows the trials of A as those of another data set; and misled, which knows the same trials with
their scores dealt out to other configurations, so that they say nothing. Tables are those of search_quality.

It prints the mean normalised regret (0 is the best of table B, 1 the median configuration) at shares of the budget, and
the differences to the cold search in pairs of equal seeds with their standard errors: below 0 the warm start helps.

Result: docs/log.md, "Warm start".
"""

import random
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import track

from benchmarks.compare import report
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from tuning.warm_start import Earlier

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

SHARES = (0.1, 0.25, 0.5, 1.0)
TableFile = typer.Option(exists=True, metavar="TABLE")


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    earlier: Annotated[Path, TableFile],
    new: Annotated[Path, TableFile],
    seeds: Annotated[int, typer.Option(min=2, help="Searches of each kind.")] = 10,
    slots: Annotated[int, typer.Option(min=1, help="Trials at once.")] = 4,
    budget: Annotated[float, typer.Option(min=0.1, help="Slot time of a search, in full trainings.")] = 20.0,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Also write the figures here.")
    ] = None,
) -> None:
    """Replay, and print a row for each kind of start."""
    kinds = ("cold", "warm", "misled")
    regrets = {kind: np.zeros((seeds, len(SHARES))) for kind in kinds}
    for seed in track(range(seeds), "searches"):
        known = earlier_trials(earlier, seed, slots, budget)
        starts = {"cold": [], "warm": known, "misled": misleading(known, seed)}
        for kind in kinds:
            regrets[kind][seed] = search(new, seed, slots, budget, starts[kind])
    rows = [row_of(kind, regrets[kind], regrets["cold"]) for kind in kinds]
    figures = {kind: values.tolist() for kind, values in regrets.items()}
    report(f"{new.stem} after {earlier.stem}", rows, {"regret": figures}, json_file)


def earlier_trials(file: Path, seed: int, slots: int, budget: float) -> list[Earlier]:
    """What a search of the table left."""
    from benchmarks._replay_clock import Clock
    from benchmarks._replay_curves import Lookup
    from benchmarks._replay_methods import ours, setting_of
    from benchmarks._replay_tables import load_table

    table = load_table(file)
    method = ours(setting_of(table, seed), "freeze-thaw")
    Clock(method, Lookup(table), slots).run(budget * table.steps)
    trials = method.engine.trials.values()
    return [Earlier(f"earlier/{each.key}", each.config, each.curve, compares=False) for each in trials if each.curve]


def misleading(earlier: list[Earlier], seed: int) -> list[Earlier]:
    """The same configurations and the same curves, but not together."""
    curves = [trial.curve for trial in earlier]
    random.Random(seed).shuffle(curves)
    return [trial._replace(curve=curve) for trial, curve in zip(earlier, curves, strict=True)]


def search(file: Path, seed: int, slots: int, budget: float, earlier: list[Earlier]) -> list[float]:
    """Regret at `SHARES` of the budget; the first configuration is the policy's own choice."""
    from benchmarks._replay_clock import GRID, Clock
    from benchmarks._replay_curves import Lookup
    from benchmarks._replay_methods import ours, setting_of
    from benchmarks._replay_tables import load_table

    table = load_table(file)
    method = ours(setting_of(table, seed), "freeze-thaw", earlier=earlier)
    regrets = Clock(method, Lookup(table), slots).run(budget * table.steps).regrets(budget * table.steps)
    return [regrets[GRID.index(share)] for share in SHARES]


def row_of(kind: str, regrets: "np.ndarray", cold: "np.ndarray") -> dict[str, str]:
    """Means, and the differences to the cold search with their standard errors."""
    difference = regrets - cold
    errors = difference.std(axis=0, ddof=1) / np.sqrt(len(difference))
    cells = {
        f"{share:.0%}": f"{mean:.3f}" if kind == "cold" else f"{mean:.3f} ({change:+.3f} ±{error:.3f})"
        for share, mean, change, error in zip(
            SHARES, regrets.mean(axis=0), difference.mean(axis=0), errors, strict=True
        )
    }
    return {"start": kind} | cells


if __name__ == "__main__":
    run_app(app)
