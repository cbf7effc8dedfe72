"""How long greedy selection takes where a search had many trials, and how much memory.

[bold]python -m benchmarks.selection_speed[/]  makes up 1,000 trials with logits for 5,000 images of 200 classes, writes
them as an experiment, and selects from it as [bold]analysis.export[/] does, without models or images.

The files take 0.1 GB, in a temporary folder that is deleted at the end. Columns: seconds of reading the logits of the
best trials (pruning), of their temperatures and probabilities, of votes and front; the peak memory of the process.
"""

import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from analysis.candidates import find_candidates
from analysis.cost import Cost
from analysis.front import Limits, make_front
from analysis.greedy import Metric
from analysis.library import make_library
from benchmarks.compare import JsonFile, Quick, in_progress, report
from trainable import metrics
from trainable.config import TrialConfig
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.files import PREDICTIONS, RECORD

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

DISTINCT = 40
"""Different logits that are made up; trials beyond share their files, which are read all the same."""


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    trials: Annotated[int, typer.Option(min=1, help="Trials of the search.")] = 1000,
    images: Annotated[int, typer.Option(min=10, help="Images of select.")] = 5000,
    classes: Annotated[int, typer.Option(min=2, help="Classes.")] = 200,
    members: Annotated[int, typer.Option(min=1, help="Most members.")] = 5,
    quick: Quick = False,
    json_file: JsonFile = None,
) -> None:
    """Measure both metrics, and report."""
    if quick:
        trials, images, classes = min(trials, 20), min(images, 100), min(classes, 5)
    with tempfile.TemporaryDirectory() as folder:
        table, labels = make_up(Path(folder), trials, images, classes)
        found = {metric: measure(Path(folder), table, labels, members, metric) for metric in ("log-loss", "top1")}
    title = f"selection from {trials:,} trials, {images:,} images of {classes} classes"
    rows = [{"metric": name, **{what: f"{value:.3g}" for what, value in each.items()}} for name, each in found.items()]
    report(title, rows, found, json_file)


def make_up(folder: Path, trials: int, images: int, classes: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Write the experiment; returns its trials as `load_experiment` gives them, and the labels."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, images)
    files = [folder / f"logits-{number}.npz" for number in range(min(trials, DISTINCT))]
    for number, path in enumerate(in_progress(files, "logits")):
        logits = generator.normal(0, 1, (images, classes)).astype(np.float32)
        logits[np.arange(images), labels] += 2 + generator.random() + number / DISTINCT
        np.savez_compressed(path, logits=logits.astype(np.float16), epoch=1)
    names = [f"{number:04}-resnet18" for number in range(1, trials + 1)]
    for number, name in enumerate(in_progress(names, "trials")):
        write_trial(folder / name, files[-1 - number % len(files)])
    columns = {"trial": names, metrics.BEST_EPOCH: 1, "has_weights": True, "state": "finished"}
    return pd.DataFrame(columns), labels


def write_trial(folder: Path, logits: Path) -> None:
    """A finished trial's checkpoint, whose predictions are a hard link."""
    checkpoint = folder / "checkpoint_000000"
    checkpoint.mkdir(parents=True)
    (checkpoint / PREDICTIONS).hardlink_to(logits)
    (checkpoint / "model.safetensors").touch()
    config = TrialConfig(data=Path("images"), arch="resnet18").model_dump(mode="json")
    epochs = [{metrics.EPOCH: 1}]
    record = {"dataset": "made up", "config": config, "epochs": epochs, "best_epoch": 1, "image_size": 64}
    (checkpoint / RECORD).write_text(json.dumps(record))


def measure(folder: Path, table: pd.DataFrame, labels: np.ndarray, members: int, metric: Metric) -> dict[str, float]:
    """Seconds of each step, and the peak memory so far."""
    marks = [time.perf_counter()]
    candidates = find_candidates(folder, table, {"dataset": "made up"})
    marks.append(time.perf_counter())
    library = make_library(candidates, labels)
    marks.append(time.perf_counter())
    front = make_front(library, metric, Limits(members), lambda _: Cost(1, 1.0), seed=0)
    marks.append(time.perf_counter())
    names = ("read s", "library s", "selection s")
    seconds = {name: after - before for name, before, after in zip(names, marks, marks[1:], strict=False)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return seconds | {"whole s": marks[-1] - marks[0], "members": len(front[-1].members), "peak GiB": peak}


if __name__ == "__main__":
    run_app(app)
