"""How long our search thinks: time to decide with many trials known, slots kept busy, and memory.

[bold]python -m benchmarks.decision_time[/]  fills an engine with 1,000 and then 10,000 trials of the space `all`, with
made-up scores, and goes on from there with 64 slots on a virtual clock, where an epoch takes ten seconds. One process
decides for all slots, one after the other, as the driver of a search does; a slot that asks waits for its answer, and
the time that this takes is the measured one.

[bold]--trials 1000 --slots 16 --epoch-seconds 2[/]  is another search.

Columns: trials known at the start; median and 95th percentile of the milliseconds from the end of an epoch that frees
a slot to the decision what it does next; the slowest, which is one that fits the model anew; the share of slot time
spent in epochs; and the peak memory of the process.

Result (2026-11-24, 2 cores of an AMD EPYC, another process busy, one thread, 300 decisions): 1,000 trials: median 46,
p95 51 ms, 99.0 % busy, 232 MB; 10,000 trials: 67 and 73 ms, 99.5 %, 258 MB.
"""

import heapq
import random
import resource
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from benchmarks.compare import report
from search_spaces import get_space, sample
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from tuning.engine import Action, Engine
from tuning.plan import Scheduler, SearchPlan, usual_first_rung
from tuning.policies import make_engine

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

EPOCHS = 50


class Measured(NamedTuple):
    """What one search took."""

    trials: int
    decision_ms: list[float]
    busy: float
    peak_mb: float


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    trials: Annotated[str, typer.Option(metavar="N,M", help="Trials known at the start.")] = "1000,10000",
    slots: Annotated[int, typer.Option(min=1, help="Trials at once.")] = 64,
    epoch_seconds: Annotated[float, typer.Option(min=0.01, help="Virtual seconds of an epoch.")] = 10.0,
    decisions: Annotated[int, typer.Option(min=1, help="Decisions that are measured.")] = 400,
    scheduler: Annotated[Scheduler, typer.Option(help="freeze-thaw or asha.")] = "freeze-thaw",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Also write the figures here.")
    ] = None,
) -> None:
    """Measure and print a row for each number of trials."""
    rows = []
    for number in sorted(int(part) for part in trials.split(",")):
        measured = measure(filled_engine(number, scheduler), number, slots, epoch_seconds, decisions)
        rows.append(row_of(measured))
    report(f"{scheduler}, {slots} slots, epochs of {epoch_seconds:g} s", rows, {"rows": rows}, json_file)


def filled_engine(trials: int, scheduler: Scheduler) -> Engine:
    """An engine that knows so many paused trials; each rung was reached by half of those at the one before."""
    plan = SearchPlan(
        space=get_space("all"),
        trial={},
        epochs=EPOCHS,
        time_budget_s=sys.maxsize,
        scheduler=scheduler,
        first_rung=usual_first_rung(EPOCHS),
        name="decisions",
        output=Path(),
    )
    engine, rng = make_engine(plan), random.Random(0)
    for number in range(trials):
        config = sample(plan.space, rng)
        reached = next((rung for rung in engine.rungs if rng.random() < 0.5), EPOCHS)
        key = f"known-{number}"
        engine.take_up(key, config)
        for epoch in range(1, reached + 1):
            engine.relearn(key, epoch, made_up_score(config, epoch))
        engine.settle(key, saved=reached)
    return engine


def made_up_score(config: dict[str, Any], epoch: int) -> float:
    """Rises with the epoch, best at a learning rate of 1e-3, and a little different for each configuration."""
    distance = abs(config["lr"] - 1e-3) / (config["lr"] + 1e-3)
    return (1 - 0.5 * distance - 0.3 * config["drop_rate"] - 0.01 * config["mix_prob"]) * (1 - 0.7**epoch)


def measure(engine: Engine, trials: int, slots: int, epoch_seconds: float, decisions: int) -> Measured:
    """Run on a virtual clock until so many decisions were made."""
    rng = random.Random(1)
    events: list[tuple[float, str]] = []
    took: list[float] = []
    waited, free_at, now, started = 0.0, 0.0, 0.0, 0
    while len(took) < slots + decisions:
        key, begun = None, time.perf_counter()
        if len(events) == slots:
            now, key = heapq.heappop(events)
            trial = engine.trials[key]
            epoch = int(trial.steps) + 1
            goes_on = engine.report(key, epoch, made_up_score(trial.config, epoch), epoch_seconds) is Action.CONTINUE
            key = key if goes_on else None
        if key is None:
            key, started = next_key(engine, started), started + 1
            took.append(time.perf_counter() - begun)
            free_at = max(now, free_at) + took[-1]
            waited += free_at - now
        heapq.heappush(events, (max(now, free_at) + epoch_seconds * rng.uniform(0.9, 1.1), key))
    milliseconds = [1000 * seconds for seconds in took[slots:]]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Measured(trials, milliseconds, 1 - waited / (slots * now), peak_mb)


def next_key(engine: Engine, started: int) -> str:
    """The trial that a free slot runs next."""
    move = engine.next_move()
    if move is not None and move.key is not None:
        engine.promote()
        return move.key
    engine.start(f"new-{started}")
    return f"new-{started}"


def row_of(measured: Measured) -> dict[str, str]:
    """For the table."""
    ordered = sorted(measured.decision_ms)
    return {
        "trials": f"{measured.trials:,}",
        "median ms": f"{ordered[len(ordered) // 2]:.0f}",
        "p95 ms": f"{ordered[int(0.95 * (len(ordered) - 1))]:.0f}",
        "slowest ms": f"{ordered[-1]:.0f}",
        "slots busy": f"{measured.busy:.1%}",
        "peak MB": f"{measured.peak_mb:,.0f}",
    }


if __name__ == "__main__":
    run_app(app)
