"""How long the analysis of a large experiment takes: reading it, its tables, its plots, and the page.

[bold]python -m benchmarks.analysis_speed --trials 10000[/]  makes up an experiment of so many trials with all its
files (also checkpoints without weights, and Optuna's journal), and writes its report once.

[bold]--keep FOLDER[/]  leaves the experiment there, to look at its page.

Columns: seconds of reading all files, of each section's table, plots and PNG together with the page's HTML, and of the
whole; the page's size in MB, and the peak memory of the process.
"""

import json
import math
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import optuna
import typer
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from benchmarks.compare import report
from trainable import metrics
from trainable.console import UNDERSCORES_ARE_DASHES, run_app

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

ARCHITECTURES = {"resnet18": (0.62, 20), "resnet34": (0.65, 34), "resnet50": (0.66, 60), "vit_small": (0.52, 30),
                 "deit_small": (0.55, 31), "swin_tiny": (0.68, 48)}  # fmt: skip
"""Top-1 that a good trial reaches in the end, and seconds an epoch."""
DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "arch": CategoricalDistribution(list(ARCHITECTURES)),
    "lr": FloatDistribution(1e-4, 1e-2, log=True),
    "weight_decay": FloatDistribution(1e-3, 0.3, log=True),
    "drop_rate": FloatDistribution(0.0, 0.5),
    "drop_path_rate": FloatDistribution(0.0, 0.3),
    "label_smoothing": FloatDistribution(0.0, 0.2),
    "mix_prob": FloatDistribution(0.0, 1.0),
    "batch_size": CategoricalDistribution([32, 64, 128, 256]),
}
RUNGS = (2, 4, 8, 16, 32)
SLOTS, BEGIN = 8, 1_790_000_000


class MadeUp(NamedTuple):
    """One made-up trial."""

    name: str
    config: dict[str, Any]
    records: list[dict[str, Any]]
    state: str


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    trials: Annotated[int, typer.Option(min=10, help="Trials of the experiment.")] = 10_000,
    epochs: Annotated[int, typer.Option(min=2, help="Length of a full training.")] = 30,
    keep: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Make the experiment here, and keep it.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Also write the figures here.")
    ] = None,
) -> None:
    """Make the experiment up, write its report, and print a row."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = (keep or Path(temporary)) / f"made-up-{trials}"
        write_experiment(folder, trials, epochs)
        row = measure(folder)
    report(f"{trials:,} trials of at most {epochs} epochs", [row], {"rows": [row]}, json_file)


def measure(folder: Path) -> dict[str, str]:
    """Write the report part by part; seconds of each, the page's size and the peak memory."""
    started = time.perf_counter()
    from analysis.pages.answer import answer
    from analysis.pages.page import render_page
    from analysis.pages.records import read_search
    from analysis.report import REPORT, all_sections, write_pngs

    marks = [("import", time.perf_counter())]
    search = read_search(folder)
    marks.append(("read", time.perf_counter()))
    sections = all_sections(search)
    marks.append(("tables and plots", time.perf_counter()))
    (folder / REPORT).mkdir(exist_ok=True)
    write_pngs(sections, folder / REPORT)
    marks.append(("PNGs", time.perf_counter()))
    page = render_page(folder.name, sections, "analysis.report", answer(search))
    (folder / REPORT / "index.html").write_text(page)
    marks.append(("page", time.perf_counter()))
    ends = [started, *(at for _, at in marks)]
    seconds = {name: f"{at - before:.1f} s" for (name, at), before in zip(marks, ends, strict=False)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    whole = f"{marks[-1][1] - started:.1f} s"
    return seconds | {"whole": whole, "page size": f"{len(page) / 1e6:.1f} MB", "peak memory": f"{peak:.0f} MB"}


def write_experiment(folder: Path, trials: int, epochs: int = 30, halving: bool = True, journal: bool = True) -> Path:
    """An experiment of made-up trials with all files but weights; without `halving` all train to the full length."""
    folder.mkdir(parents=True)
    plan = {"space": {"name": "made-up"}, "epochs": epochs, "scheduler": "asha" if halving else "none",
            "sampler": "tpe", "seed": 0, "first_rung": 2, "reduction_factor": 2.0}  # fmt: skip
    facts = {"id": "made", "plan": plan, "dataset": "abc", "command": ["run.py", "--space", "made-up"]}
    (folder / "experiment.json").write_text(json.dumps(facts))
    made = list(made_up(trials, epochs, halving))
    for trial in made:
        write_trial(folder / trial.name, trial)
    with (folder / "decisions.jsonl").open("w") as file:
        for trial in made:
            decision = {"kind": "pause" if trial.state == "paused" else "end", "trial": f"made-{trial.name[:5]}"}
            file.write(json.dumps(decision) + "\n")
    if journal:
        write_journal(folder / "study.journal", folder.name, made)
    return folder


def made_up(trials: int, epochs: int, halving: bool) -> Iterator[MadeUp]:
    """Trials of `SLOTS` slots: curves that rise to what architecture and learning rate allow, some that break."""
    generator = np.random.default_rng(0)
    free_at = np.full(SLOTS, float(BEGIN))
    for number in range(1, trials + 1):
        config = {name: draw(distribution, generator) for name, distribution in DISTRIBUTIONS.items()}
        arch, rate = config["arch"], config["lr"]
        top, seconds = ARCHITECTURES[arch]
        quality = top - 0.08 * (math.log10(rate) + 3) ** 2 - 0.1 * config["drop_rate"] ** 2 + generator.normal(0, 0.02)
        chance = generator.uniform()
        length = reached(quality + generator.normal(0, 0.03), epochs, chance) if halving else epochs
        state = "diverged" if chance < 0.01 else "failed" if chance < 0.02 else "paused" if length < epochs else "end"
        slot = int(free_at.argmin())
        records = list(curve(config, quality, length, seconds, free_at, slot, generator))
        records[-1] |= {"diverged": state == "diverged", "done": state in ("diverged", "end")}
        yield MadeUp(f"{number:05}-{arch}", config | {"epochs": epochs}, records, state)


def draw(distribution: BaseDistribution, generator: np.random.Generator) -> Any:
    """A value of the distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(generator.integers(len(distribution.choices)))]
    assert isinstance(distribution, FloatDistribution)
    if distribution.log:
        return float(np.exp(generator.uniform(math.log(distribution.low), math.log(distribution.high))))
    return float(generator.uniform(distribution.low, distribution.high))


def reached(quality: float, epochs: int, chance: float) -> int:
    """The rung at which halving leaves a trial of this quality: the better, the further."""
    rung = sum(quality > bar for bar in (0.5, 0.56, 0.61, 0.645)) if chance > 0.02 else int(chance * 200) % 3
    return min(RUNGS[rung], epochs)


def curve(
    config: dict[str, Any], quality: float, length: int, seconds: float, free_at: np.ndarray, slot: int,
    generator: np.random.Generator,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """The epoch records of one trial, as Ray writes them."""
    best, best_epoch = 0.0, 0
    free_at[slot] += generator.uniform(0.5, 3)
    for epoch in range(1, length + 1):
        top1 = max(0.01, quality * (1 - math.exp(-epoch / 5)) + generator.normal(0, 0.008))
        best, best_epoch = max((best, best_epoch), (top1, epoch))
        train, evaluate, checkpoint = seconds * generator.uniform(0.9, 1.1), seconds * 0.06, 0.4
        free_at[slot] += train + evaluate + checkpoint + generator.uniform(0.1, 0.6)
        yield {
            metrics.EPOCH: epoch, metrics.TRAIN_LOSS: 1.2 / epoch, metrics.TRAIN_TOP1: top1, metrics.TRAIN_TOP5: 0.9,
            metrics.SELECT_LOSS: 2 - 2 * top1, metrics.SELECT_TOP1: top1, metrics.SELECT_TOP5: min(1.0, top1 + 0.2),
            metrics.BEST_TOP1: best, metrics.BEST_EPOCH: best_epoch, metrics.SECONDS_TRAIN: train,
            metrics.SECONDS_EVAL: evaluate, metrics.SECONDS_CHECKPOINT: checkpoint, metrics.DIVERGED: False,
            "done": False, "timestamp": int(free_at[slot]), "pid": 100 + slot, "hostname": "made-up", "config": config,
        }  # fmt: skip


def write_trial(folder: Path, trial: MadeUp) -> None:
    """The trial's files, with a checkpoint that lost its weights."""
    folder.mkdir()
    (folder / "params.json").write_text(json.dumps(trial.config))
    (folder / "result.json").write_text("".join(json.dumps(record) + "\n" for record in trial.records))
    checkpoint = folder / f"checkpoint_{len(trial.records) - 1:06}"
    checkpoint.mkdir()
    epochs = [{key: value for key, value in record.items() if key != "config"} for record in trial.records]
    best = trial.records[-1][metrics.BEST_EPOCH]
    (checkpoint / "trial.json").write_text(json.dumps({"epochs": epochs, "best_epoch": best, "config": trial.config}))
    if trial.state == "failed":
        (folder / "failure.txt").write_text("OutOfMemoryError: no room for a single image\nthe log's end\n")


def write_journal(path: Path, name: str, trials: list[MadeUp]) -> None:
    """Optuna's journal with all scores."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=JournalStorage(JournalFileBackend(str(path))), study_name=name,
                                direction="maximize")  # fmt: skip
    study.add_trials(frozen(trial) for trial in trials)


def frozen(trial: MadeUp) -> FrozenTrial:
    """The trial as the study knows it."""
    scores = {record[metrics.EPOCH]: record[metrics.SELECT_TOP1] for record in trial.records}
    ended = trial.state == "end"
    return create_trial(
        state=TrialState.COMPLETE if ended else TrialState.PRUNED,
        value=scores[max(scores)] if ended else None,
        params={name: trial.config[name] for name in DISTRIBUTIONS},
        distributions=DISTRIBUTIONS,
        intermediate_values=scores,
    )


if __name__ == "__main__":
    run_app(app)
