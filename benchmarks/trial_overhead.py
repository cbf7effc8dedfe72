"""What starting a trial costs: our search against stock Ray Tune as one writes it by hand.

[bold]python -m benchmarks.trial_overhead[/]  runs 24 trials of 4 epochs on 2 slots through both.

[bold]python -m benchmarks.trial_overhead --share runs/NAME --slots 2[/]  measures nothing, and says which share of an
experiment's slot time was spent inside training and evaluation.

An epoch of either side takes one second in which nothing is computed, so that what differs is everything around it:
imports, data, model, checkpoint, results, and the choice of the next trial. Both train swin_tiny at 32 px on the
embedded digits, keep one checkpoint a trial, propose by Optuna's TPE and stop no trial early. Stock: a function that
imports torch, timm and albumentations, loads by ImageFolder and writes model and optimiser at each epoch; no actor is
re-used. Ours: the search of `tuning.run`, and its Trainable with only the passes through the model replaced; it writes
where checkpoints stay below a fiftieth of the time, and at the end of a trial.

Each side is a process of its own with a Ray of its own, and the wall time is that process's, from start to exit.
Ray's worker processes get the usual priority on both sides, since its lower one lets other programs starve them.
Lost a trial: (wall seconds x slots - trials x epochs x seconds) / trials. The least possible wall time is 48 s.

--share: inside = the sum of seconds_train + seconds_eval over all epochs. The first share divides it by slots x (last
result - start of the search), the second by slots x (last result - begin of the first epoch of any trial). The pause
before a --resume counts as lost. Between two trials of a process: from a trial's last result, with what Ray, the
scheduler and the checkpoint take, to the begin of the next one's first epoch; median, lowest and highest.

Hardware: 2 cores of an AMD EPYC with AVX512-BF16, 24 GiB, no GPU; nothing else ran.

Time: 4.5 minutes (2026-11-24).

Result, one pair: wall 165 s (stock) and 86 s (ours), ratio 1.92; lost a trial 9.7 s and 3.2 s, ratio 3.08. A wall ratio
of 3 is out of reach here: 48 s are the epochs themselves, and `ray.init` takes 6.5 s on either side.
"""

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks._overhead_side import EXPERIMENT, SIDES, Task
from benchmarks._slot_share import pauses, slot_share
from benchmarks.compare import JsonFile, Quick, ratio_of_pairs, report, spread
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.data.digits import write_digits
from trainable.errors import UserError

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

STOCK, OURS = SIDES
POLL_S = 0.2


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    trials: Annotated[int, typer.Option(min=1, help="Trials of a search.")] = 24,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of a trial.")] = 4,
    seconds: Annotated[float, typer.Option(min=0, help="Length of an epoch.")] = 1.0,
    slots: Annotated[int, typer.Option(min=1, help="Trials at once, one core each.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Times that each side runs.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of Optuna's sampler.")] = 0,
    share: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Only look at this experiment.")] = None,
    json_file: JsonFile = None,
    quick: Quick = False,
) -> None:
    """Run both searches in turn, or look at an experiment."""
    if share is not None:
        show_share(share, slots, json_file)
        return
    if quick:
        trials, epochs, seconds, rounds = 1, 1, 0.0, 1
    with tempfile.TemporaryDirectory(prefix="trial-overhead-") as scratch:
        task = Task(
            data=write_digits(Path(scratch) / "digits"),
            output=Path(scratch),
            trials=trials,
            epochs=epochs,
            seconds=seconds,
            slots=slots,
            seed=seed,
        )
        walls = run_in_turn(task, rounds)
    lost = {name: [lost_per_trial(task, wall) for wall in values] for name, values in walls.items()}
    ratios = {"wall": ratio_of_pairs(walls[STOCK], walls[OURS]), "lost": ratio_of_pairs(lost[STOCK], lost[OURS])}
    rows = [row(name, str(spread(walls[name])), str(spread(lost[name]))) for name in SIDES]
    rows.append(row("stock ÷ ours", str(ratios["wall"]), str(ratios["lost"])))
    figures: dict[str, Any] = {
        **task.model_dump(mode="json", exclude={"data", "output"}),
        "wall_s": walls,
        "lost_s_per_trial": lost,
        "ratio": {name: ratio._asdict() for name, ratio in ratios.items()},
    }
    report(f"{trials} trials x {epochs} epochs x {seconds:g} s on {slots} slots", rows, figures, json_file)


def row(side: str, wall: str, lost: str) -> dict[str, str]:
    """One line of the table."""
    return {"side": side, "wall seconds": wall, "seconds lost a trial": lost}


def lost_per_trial(task: Task, wall_s: float) -> float:
    """Slot seconds a trial that were not its epochs."""
    return (wall_s * task.slots - task.trials * task.epochs * task.seconds) / task.trials


def run_in_turn(task: Task, rounds: int) -> dict[str, list[float]]:
    """Wall seconds of each side's searches; the side that begins changes from round to round."""
    walls: dict[str, list[float]] = {name: [] for name in SIDES}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for number in range(rounds):
            for name in list(SIDES) if number % 2 == 0 else reversed(list(SIDES)):
                title = f"{name}, round {number + 1} of {rounds}"
                bar = progress.add_task(title, total=task.trials * task.epochs)
                walls[name].append(run_side(name, task, partial(progress.update, bar)))
                progress.remove_task(bar)
    return walls


def run_side(name: str, task: Task, update: partial) -> float:
    """Run one side's whole search in a process of its own; returns its wall seconds, start to exit."""
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=task.output) as output:
        own = task.model_copy(update={"output": Path(output)})
        log = Path(output) / "log.txt"
        command = [sys.executable, "-m", "benchmarks._overhead_side", name, own.model_dump_json()]
        started = time.perf_counter()
        environment = os.environ | {
            "RAY_worker_niceness": "0"
        }  # Ray's 15 would let any other program starve the trials
        streams: dict[str, Any] = {"stdout": log.open("w"), "stderr": subprocess.STDOUT}
        with streams["stdout"], subprocess.Popen(command, env=environment, **streams) as process:
            try:
                while process.poll() is None:
                    time.sleep(POLL_S)
                    update(completed=epochs_done(own.output / EXPERIMENT))
            finally:
                process.terminate()
        wall_s = time.perf_counter() - started
        if process.returncode != 0:
            raise UserError(f"the search by {name} failed: {log.read_text()[-600:]}")
        if (done := epochs_done(own.output / EXPERIMENT)) != task.trials * task.epochs:
            raise UserError(f"the search by {name} ran {done} epochs, not {task.trials} x {task.epochs}")
    return wall_s


def epochs_done(experiment: Path) -> int:
    """Results that the trials of an experiment have left."""
    return sum(path.read_text().count("\n") for path in experiment.glob("*/result.json"))


def show_share(folder: Path, slots: int, json_file: Path | None) -> None:
    """The two shares of an experiment, with what they divide by."""
    share = slot_share(folder, slots)
    since = {
        "start of the search": (share.since_start_s, share.since_start),
        "first epoch": (share.since_first_step_s, share.since_first_step),
    }
    rows = [
        {"from": name, "seconds to the last result": f"{length:.0f}", "share in train and eval": f"{part:.1%}"}
        for name, (length, part) in since.items()
    ]
    between = pauses(folder)
    figures = {
        **share._asdict(),
        "since_start": share.since_start,
        "since_first_step": share.since_first_step,
        "between_trials_s": between,
    }
    text = f"; between two trials of a process {spread(between)} s" if between else ""
    report(f"{folder.name}: {share.inside_s:.1f} s in train and eval, {slots} slots{text}", rows, figures, json_file)


if __name__ == "__main__":
    run_app(app)
