"""What the trials of a search reached, best first.

[bold]python -m analysis.experiment runs/NAME[/]  prints a table, also while the search runs.

[bold]python -m analysis.experiment runs/NAME --verify[/]  checks all files against each other and experiment.json.

[bold]python -m analysis.experiment runs/NAME --csv trials.csv[/]  writes it as CSV; [bold]--csv -[/] to stdout.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from analysis._checkpoints import Checkpoint, newest_checkpoint
from analysis.home import ExperimentFolder
from trainable import metrics
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.errors import UsageError, UserError
from trainable.escape import csv_cell, printable
from trainable.files import read_object

if TYPE_CHECKING:
    from pandas import DataFrame

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

EXPERIMENT = "experiment.json"
PARAMS, RESULTS, ERROR = "params.json", "result.json", "failure.txt"
"""A trial's files: its configuration, one record a step, and why it failed for good, written by the search."""

State = Literal["finished", "stopped", "diverged", "failed", "unfinished"]
"""`stopped` ended before its full length; `unfinished` runs, waits to be promoted, or was interrupted."""

ALWAYS_SHOWN = ("arch", "lr")
"""Configuration values that have a column even where all trials share them."""

SHOWN_FIRST = ("trial", "state", "epochs", metrics.BEST_TOP1, metrics.SELECT_LOSS, *ALWAYS_SHOWN)
"""Columns of the table that a narrow terminal shows too."""


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    folder: ExperimentFolder,
    csv: Annotated[str | None, typer.Option(metavar="FILE|-", help="Write CSV instead of the table.")] = None,
    top: Annotated[int | None, typer.Option(min=1, help="Only the best N trials.", show_default="all")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check all files of the experiment instead.")] = False,
) -> int:
    """Load the experiment and show it, or look through its files."""
    if verify:
        return show_verification(folder)
    trials = load_experiment(folder)
    shown = trials.head(top) if top else trials
    if csv is not None:
        write_csv(shown, csv)
        return 0
    from analysis.tables import fitting_columns, trials_table, wide_console

    console = wide_console()
    others = [name for name in shown.columns if name not in (*SHOWN_FIRST, "checkpoint")]
    columns = fitting_columns(shown, [*SHOWN_FIRST, *others], console.width)
    console.print(trials_table(shown, columns))
    if len(columns) < len(SHOWN_FIRST) + len(others):
        left_out = printable(", ".join([*SHOWN_FIRST, *others][len(columns) :]))
        print(f"without {left_out}: for these use a wider window, or --csv")
    if len(shown) < len(trials):
        print(f"the best {len(shown)} of {len(trials)} trials")
    return 0


def show_verification(folder: Path) -> int:
    """Print what is wrong with the experiment's files; returns 1 if anything is."""
    from analysis.verification import verify

    counts, wrong = verify(folder)
    for line in wrong:
        print(printable(line))
    seen = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"{folder}: {seen}: " + (f"{len(wrong)} things are wrong" if wrong else "all is as it was written"))
    return 1 if wrong else 0


def write_csv(trials: "DataFrame", csv: str) -> None:
    """Write the trials to the file `csv`, or to stdout where it is `-`."""
    trials = trials.rename(columns=csv_cell).map(csv_cell)
    if csv == "-":
        print(trials.to_csv(index=False), end="")
        return
    try:
        trials.to_csv(csv, index=False)
    except OSError as error:
        raise UsageError(f"--csv {csv}: can't be written ({error.strerror or error}); give another file") from None


class TrialFiles(NamedTuple):
    """What one trial's folder holds."""

    path: Path
    config: dict[str, Any]
    """Empty where a kill came before it was written."""
    checkpoint: Checkpoint | None
    records: list[dict[str, Any]]
    """See `read_epochs`."""
    failed: bool


def load_experiment(folder: Path | str) -> "DataFrame":
    """One row a trial, best first: by best_select_top1, then the lower select_loss, then the name.

    Columns: trial, state (see `State`), epochs (done, maybe a fraction), best_epoch, and best_select_top1, select_top5,
    select_loss at that epoch (NaN where none was scored), seconds (training and evaluation), has_weights (those of the
    best epoch exist), checkpoint (the newest complete one, or None), and one for each configuration value that varies.
    UsageError where `folder` is no experiment, UserError where it has no trial yet.
    """
    return trials_frame(read_trials(Path(folder)))


def read_trials(folder: Path) -> list[TrialFiles]:
    """All trials of an experiment by name; the same errors as `load_experiment`."""
    read_facts(folder)
    paths = [path for path in sorted(folder.iterdir()) if (path / PARAMS).is_file() or (path / RESULTS).is_file()]
    if not paths:
        raise UserError(f"{folder}: no trial has started yet; wait, or go on with the search: tuning.run --resume")
    return [read_trial(path) for path in paths]


def read_trial(path: Path) -> TrialFiles:
    """What the trial's folder holds, whatever a crash left of it."""
    checkpoint = newest_checkpoint(path)
    config = read_object(path / PARAMS) or {}
    return TrialFiles(path, config, checkpoint, read_epochs(path, checkpoint), (path / ERROR).exists())


def trials_frame(trials: Sequence[TrialFiles]) -> "DataFrame":
    """The table that `load_experiment` describes."""
    import pandas as pd

    varying = varying_values([trial.config for trial in trials])
    frame = pd.DataFrame([trial_row(trial) | values for trial, values in zip(trials, varying, strict=True)])
    order = [metrics.BEST_TOP1, metrics.SELECT_LOSS, "trial"]
    return frame.sort_values(order, ascending=[False, True, True], na_position="last", ignore_index=True)


def read_facts(folder: Path) -> dict[str, Any]:
    """The content of experiment.json: plan, dataset fingerprint, versions. UsageError where there is none."""
    try:
        return json.loads((folder / EXPERIMENT).read_text())
    except OSError:
        what = "no such folder" if not folder.exists() else f"is no experiment (no {EXPERIMENT} in it)"
        there = sorted(str(path.parent) for root in (folder, folder.parent) for path in root.glob(f"*/{EXPERIMENT}"))
        hint = f"there are {', '.join(there[-5:])}" if there else "give the folder of a search: runs/NAME"
        raise UsageError(f"{folder}: {what}; {hint}") from None
    except ValueError as error:
        raise UserError(f"{folder / EXPERIMENT}: not JSON ({error}); start a new search") from None


def trial_row(trial: TrialFiles) -> dict[str, Any]:
    """What one trial's folder says, without its configuration."""
    records, checkpoint = trial.records, trial.checkpoint
    scored = [record for record in records if not record[metrics.DIVERGED]]
    best = max(scored, key=lambda record: (record[metrics.SCORE], -record[metrics.SELECT_LOSS]), default={})
    return {
        "trial": trial.path.name,
        "state": state_of(records, trial.config, trial.failed),
        "epochs": records[-1][metrics.EPOCH] if records else 0,
        metrics.BEST_EPOCH: best.get(metrics.EPOCH, 0),
        metrics.BEST_TOP1: best.get(metrics.SELECT_TOP1, math.nan),
        metrics.SELECT_TOP5: best.get(metrics.SELECT_TOP5, math.nan),
        metrics.SELECT_LOSS: best.get(metrics.SELECT_LOSS, math.nan),
        "seconds": sum(metrics.epoch_seconds(record) for record in records),
        "has_weights": checkpoint is not None and checkpoint.best_weights is not None,
        "checkpoint": str(checkpoint.folder) if checkpoint else None,
    }


def state_of(records: list[dict[str, Any]], config: dict[str, Any], failed: bool) -> State:
    """How a trial with these records stands."""
    if failed:
        return "failed"
    if not records:
        return "unfinished"
    last = records[-1]
    if last[metrics.DIVERGED]:
        return "diverged"
    if metrics.is_complete(last, config):
        return "finished"
    return "stopped" if last.get("done") else "unfinished"


def read_epochs(path: Path, checkpoint: Checkpoint | None) -> list[dict[str, Any]]:
    """The trial's records in order, one a step; of a step that was run again after a crash, the last.

    A crash may have left half a line with the next record behind it: the checkpoint has such steps too.
    """
    records = {record[metrics.EPOCH]: record for record in (checkpoint.record["epochs"] if checkpoint else [])}
    try:
        lines = (path / RESULTS).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and metrics.EPOCH in record:
            records[record[metrics.EPOCH]] = record
    return [records[epoch] for epoch in sorted(records)]


def varying_values(configs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each configuration the values that aren't the same in all, by name; `epochs` is called full_epochs."""
    names = sorted({name for config in configs for name in config})
    differing = [name for name in names if len({json.dumps(config.get(name)) for config in configs}) > 1]
    shown = [*ALWAYS_SHOWN, *(name for name in differing if name not in ALWAYS_SHOWN)]
    return [{"full_epochs" if name == "epochs" else name: config.get(name) for name in shown} for config in configs]


if __name__ == "__main__":
    run_app(app)
