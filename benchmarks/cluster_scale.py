"""Many slots and many trials: what the driver of a search needs, and whether it keeps the slots busy.

[bold]python -m benchmarks.cluster_scale[/]  measures in two halves, for 50 x 8 slots, 5,000 trials and epochs of 30 s:

1. Real: a Ray cluster of logical nodes on this machine, our search with its real driver and files, and trials that only
sleep. As many slots as the machine holds, with epochs so short that as many results a second arrive as from the whole
cluster (13.3 by default). It measures the driver's CPU time and memory, and how long results wait for it.

2. Simulated: the real engine decides for all slots on a virtual clock, where an epoch takes its 30 s, within 10 %.
The driver is one server: each result costs it what the real half measured, growing with the trials that are known, and
what the engine's answer really takes.

[bold]--json FILE[/]  also keeps the figures; [bold]--costs FILE[/]  simulates only, with what an earlier run measured:

    python -m benchmarks.cluster_scale --costs FILE --nodes 125 --slots 8      # 1,000 slots
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks._scale_clock import Costs, Simulated, Simulation, new_engine, quantile
from benchmarks._scale_search import Drive, Handled
from benchmarks.compare import JsonFile, Quick, report
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.errors import UserError
from tuning.plan import Scheduler

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
ON_THIS_MACHINE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # all of it on this machine's loopback
    "RAY_worker_niceness": "0",
    "RAY_raylet_start_wait_time_s": "300",
}


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    nodes: Annotated[int, typer.Option(min=1, help="Nodes that are simulated.")] = 50,
    slots: Annotated[int, typer.Option(min=1, help="Slots of each.")] = 8,
    trials: Annotated[int, typer.Option(min=1, help="Trials of the simulated search.")] = 5000,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of a full training.")] = 5,
    epoch_seconds: Annotated[float, typer.Option(min=0.01, help="Length of an epoch.")] = 30.0,
    scheduler: Annotated[Scheduler, typer.Option(help="freeze-thaw or asha (halving).")] = "freeze-thaw",
    real_nodes: Annotated[int, typer.Option(min=1, help="Logical nodes that really run.")] = 4,
    real_slots: Annotated[int, typer.Option(min=1, help="Slots of each of them.")] = 6,
    real_seconds: Annotated[float, typer.Option(min=1, help="How long they run.")] = 180.0,
    costs: Annotated[Path | None, typer.Option(metavar="FILE", help="Simulate only, with an earlier --json.")] = None,
    json_file: JsonFile = None,
    quick: Quick = False,
) -> None:
    """Measure the real driver, simulate the cluster, and report both."""
    rate = nodes * slots / epoch_seconds
    if quick:
        nodes, slots, trials, real_nodes, real_slots, real_seconds, rate = 2, 4, 40, 2, 1, 12.0, 2.0
    figures: dict[str, Any] = {}
    if costs is None:
        with tempfile.TemporaryDirectory(prefix="cluster-scale-") as folder:
            task = Drive(
                folder=Path(folder),
                nodes=real_nodes,
                slots_a_node=real_slots,
                epochs=epochs,
                epoch_s=real_nodes * real_slots / rate,
                seconds=real_seconds,
                scheduler=scheduler,
            )
            figures["real"] = summary(task, run(task))
    else:
        figures["real"] = read_costs(costs)
    real = figures["real"]
    report(f"real driver, {real['slots']} slots on {real['nodes']} nodes", real_rows(real), {}, None)
    engine = new_engine(scheduler, trials, epochs)
    simulation = Simulation(engine, nodes * slots, epoch_seconds, Costs(*(real[name] for name in Costs._fields)))
    simulated = simulation.run()
    figures["simulated"] = facts(simulated) | {"slots": nodes * slots, "scheduler": scheduler}
    title = f"simulated: {scheduler}, {nodes * slots:,} slots, epochs of {epoch_seconds:g} s"
    report(title, simulated_rows(simulated), figures, json_file)


def run(task: Drive) -> list[Handled]:
    """The real half, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks._scale_search", task.model_dump_json()]
    environment = os.environ | ONE_THREAD | ON_THIS_MACHINE
    patience_s = 2 * task.seconds + 20 * task.slots + 600
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=patience_s)
    told = re.findall("^handled (.*)$", done.stdout, re.M)
    if done.returncode or not told:
        raise UserError(f"the search ended with {done.returncode}: {done.stderr[-1500:]}")
    return [Handled(*each) for each in json.loads(told[-1])]


def summary(task: Drive, handled: Sequence[Handled]) -> dict[str, Any]:
    """The figures of the real half, from when every slot has had its first results until the time was up."""
    firsts = {each.worker: at for at, each in reversed(list(enumerate(handled)))}
    begins = sorted(firsts.values())[min(task.slots, len(firsts)) - 1] if firsts else 0
    warm = handled[begins : -task.slots]
    if len(warm) < 2:
        raise UserError(f"{len(handled)} results are too few to measure by; give it longer: --real-seconds")
    first, last = warm[0], warm[-1]
    wall_s, cpu_s = last.handled - first.handled, last.cpu_s - first.cpu_s
    lags = [each.handled - each.reported for each in warm]
    result_s, known_trial_s = cost_of_result(warm)
    memory = np.polyfit([each.trials for each in warm], [each.memory_bytes for each in warm], 1)[0]
    inside = [max(0.0, min(each.reported, last.handled) - max(each.begun, first.handled)) for each in handled]
    return {
        "nodes": task.nodes,
        "slots": task.slots,
        "scheduler": task.scheduler,
        "epoch_s": task.epoch_s,
        "results": len(handled),
        "trials": handled[-1].trials,
        "results_a_second": (len(warm) - 1) / wall_s,
        "driver_cpu_share": cpu_s / wall_s,
        "driver_cpu_s_a_result": cpu_s / (len(warm) - 1),
        "driver_cpu_s_a_thousand_trials": 1000 * cpu_s / max(1, last.trials - first.trials),
        "policy_cpu_s_a_result": (last.policy_s - first.policy_s) / (len(warm) - 1),
        "driver_memory_mb": last.memory_bytes / 1e6,
        "driver_memory_mb_a_thousand_trials": memory / 1e3,
        "lag_s_median": quantile(lags, 0.5),
        "lag_s_p95": quantile(lags, 0.95),
        "slots_busy": sum(inside) / (task.slots * wall_s),
        "result_s": result_s,
        "known_trial_s": known_trial_s,
        "handover_s": max(0.0, quantile(gaps(warm), 0.5) - quantile(lags, 0.5) - result_s),
        "load_average": os.getloadavg()[0],
    }


def cost_of_result(handled: Sequence[Handled]) -> tuple[float, float]:
    """Driver's CPU time a result without the policy's: with no trial known, and for each that is known; by a line."""
    rest = np.array([each.cpu_s - each.policy_s for each in handled])
    known = np.array([each.trials for each in handled], dtype=float)
    if len(handled) < 100:
        return float((rest[-1] - rest[0]) / (len(handled) - 1)), 0.0
    step = len(handled) // 20
    costs = (rest[step:] - rest[:-step])[::step] / step
    slope, base = np.polyfit(((known[step:] + known[:-step]) / 2)[::step], costs, 1)
    return (float(base), float(slope)) if slope > 0 else (float(costs.mean()), 0.0)


def gaps(handled: Sequence[Handled]) -> list[float]:
    """Seconds from each report to the begin of the next epoch in the same process."""
    latest: dict[int, float] = {}
    found = []
    for each in sorted(handled, key=lambda each: each.begun):
        if each.worker in latest:
            found.append(each.begun - latest[each.worker])
        latest[each.worker] = each.reported
    return found


def facts(simulated: Simulated) -> dict[str, Any]:
    """The figures of the simulated half."""
    return {
        "results": simulated.results,
        "trials": simulated.trials,
        "hours": simulated.hours,
        "slots_busy": simulated.busy,
        "driver_busy": simulated.driver,
        "lag_s_median": quantile(simulated.lag_s, 0.5),
        "lag_s_p95": quantile(simulated.lag_s, 0.95),
        "policy_s_median": quantile(simulated.policy_s, 0.5),
        "policy_s_mean": float(np.mean(simulated.policy_s)),
    }


def real_rows(real: dict[str, Any]) -> list[dict[str, str]]:
    """The table of the real half."""
    shown = {
        "results, trials": f"{real['results']:,}, {real['trials']:,}",
        "results a second": f"{real['results_a_second']:.1f}",
        f"slots busy, epochs of {real['epoch_s']:.2g} s": f"{real['slots_busy']:.1%}",
        "driver's CPU": f"{real['driver_cpu_share']:.0%} of a core",
        "driver's CPU a result": f"{1e3 * real['driver_cpu_s_a_result']:.1f} ms",
        "of that, the policy": f"{1e3 * real['policy_cpu_s_a_result']:.1f} ms",
        "the rest, with N trials known": f"{1e3 * real['result_s']:.1f} ms + N x {1e6 * real['known_trial_s']:.2f} us",
        "driver's CPU a 1,000 trials": f"{real['driver_cpu_s_a_thousand_trials']:.0f} s",
        "driver's memory": f"{real['driver_memory_mb']:.0f} MB",
        "driver's memory a 1,000 trials": f"{real['driver_memory_mb_a_thousand_trials']:.0f} MB",
        "result lag, median": f"{1e3 * real['lag_s_median']:.0f} ms",
        "result lag, p95": f"{1e3 * real['lag_s_p95']:.0f} ms",
        "from report to next epoch, besides": f"{1e3 * real['handover_s']:.0f} ms",
    }
    return [{"measured": name, "": value} for name, value in shown.items()]


def simulated_rows(simulated: Simulated) -> list[dict[str, str]]:
    """A row for each fifth of the search, and one for the whole."""
    rows, known = [], np.array(simulated.known)
    parts = np.array_split(np.arange(len(known)), 5) if len(known) >= 5 else []
    for part in [*parts, np.arange(len(known))]:
        lags, thoughts = ([values[at] for at in part] for values in (simulated.lag_s, simulated.policy_s))
        whole = len(part) == len(known)
        rows.append(
            {
                "trials known": "all" if whole else f"{known[part[0]]:,} to {known[part[-1]]:,}",
                "results": f"{len(part):,}",
                "decision ms": f"{1e3 * quantile(thoughts, 0.5):.1f}",
                "lag p50 s": f"{quantile(lags, 0.5):.2f}",
                "lag p95 s": f"{quantile(lags, 0.95):.2f}",
                "driver busy": f"{simulated.driver:.0%}" if whole else "",
                "slots busy": f"{simulated.busy:.1%}" if whole else "",
            }
        )
    return rows


def read_costs(file: Path) -> dict[str, Any]:
    """The real half of an earlier run."""
    try:
        real = json.loads(file.read_text())["real"]
        return {**real, **{name: float(real[name]) for name in Costs._fields}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--costs {file}: holds no figures of this benchmark ({error}); write some by --json") from None


if __name__ == "__main__":
    run_app(app)
