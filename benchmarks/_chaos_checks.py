"""What must hold of an experiment's folder whatever was killed: each function returns what doesn't, in words."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import optuna

from analysis.experiment import load_experiment
from benchmarks._chaos_search import BEGUN, NAME
from trainable import metrics
from trainable.files import RECORD, broken_files, read_record
from tuning.decisions import DecisionLog
from tuning.past import PARAMS, PastTrial, checkpoint_step, read_past, whole_checkpoints
from tuning.storage import EXPERIMENT, RESULTS, experiment_id
from tuning.study import TRIAL, journal_storage

LINES = (RESULTS, "decisions.jsonl")


def broken(folder: Path) -> list[str]:
    """Files that a kill left half written: whole ones, lines but the last, and checkpoints that have their record."""
    experiment = folder / NAME
    found = []
    for path in [experiment / EXPERIMENT, *experiment.glob(f"*/{PARAMS}"), *experiment.glob(f"*/*/{RECORD}")]:
        if path.parent.name.startswith("checkpoint_") and read_record(path.parent) is None:
            continue  # unfinished: without its record it doesn't count as a checkpoint
        found += [] if _is_json(path.read_text()) else [f"{path}: not JSON"]
    for path in (path for name in LINES for path in experiment.rglob(name)):
        found += [f"{path}: broken line" for line in path.read_text().split("\n")[:-1] if not _is_json(line)]
    for path in experiment.glob("*/checkpoint_*"):
        found += [f"{path / name}: not what was written" for name in broken_files(path, read_record(path) or {})]
    return found


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def wrong(folder: Path, trials: int) -> list[str]:
    """Trials lost or there twice, gaps in epochs, and what disagrees, in a search that has ended."""
    experiment = folder / NAME
    past = read_past(experiment, experiment_id(experiment))
    numbers = [trial.number for trial in past]
    found = [] if numbers == list(range(1, trials + 1)) else [f"trials {numbers} instead of 1 to {trials}"]
    lost = {key for key, _ in epochs_begun(folder)} - {trial.key for trial in past}
    found += [f"trial {key} had begun and is gone" for key in lost]
    for trial in past:
        found += [f"{trial.folder.name}: {text}" for text in _wrong_with(trial)]
    return [
        *found,
        *_wrong_decisions(experiment, past),
        *_wrong_study(experiment, past),
        *_wrong_table(experiment, past),
    ]


class Begun(NamedTuple):
    """An epoch that was begun, and by which process."""

    trial: str
    epoch: int
    process: int


def read_begun(folder: Path) -> list[Begun]:
    """All of a search and its resumptions, in their order."""
    path = folder / BEGUN
    lines = path.read_text().splitlines() if path.exists() else []
    return [Begun(key, int(epoch), int(process)) for key, epoch, process in (line.split() for line in lines)]


def epochs_begun(folder: Path) -> Counter[tuple[str, int]]:
    """How often each (trial, epoch) was begun."""
    return Counter((each.trial, each.epoch) for each in read_begun(folder))


def _wrong_with(trial: PastTrial) -> Iterator[str]:
    lines = [json.loads(line) for line in (trial.folder / RESULTS).read_text().splitlines()]
    epochs = [line[metrics.EPOCH] for line in lines]
    if epochs != list(range(1, len(epochs) + 1)):
        yield f"epochs {epochs}"
    checkpoints = whole_checkpoints(trial.folder)
    if not checkpoints or checkpoint_step(checkpoints[-1]) != len(epochs):
        yield f"its checkpoint isn't of epoch {len(epochs)}"


def _wrong_decisions(experiment: Path, past: list[PastTrial]) -> Iterator[str]:
    curves = {trial.key: trial.curve for trial in past}
    decisions = DecisionLog(experiment).read_new()
    for each in decisions:
        if each.trial not in curves or (each.step and each.step not in curves[each.trial]):
            yield f"a decision on {each.trial} at epoch {each.step}, which has no record"
        elif each.score is not None and each.score != curves[each.trial][each.step]:
            yield f"a decision on {each.trial} at epoch {each.step} by another score than the record's"
    started = {each.trial for each in decisions if each.kind == "start"}
    yield from (f"no decision started {key}" for key in curves if key not in started)


def _wrong_study(experiment: Path, past: list[PastTrial]) -> Iterator[str]:
    study = optuna.load_study(study_name=NAME, storage=journal_storage(experiment))
    kept = {trial.user_attrs[TRIAL]: trial for trial in study.trials}
    if sorted(kept) != sorted(trial.key for trial in past) or len(kept) != len(study.trials):
        yield f"the study has {len(study.trials)} trials, {len(kept)} different ones, not {len(past)}"
    for trial in past:
        if trial.key in kept and kept[trial.key].intermediate_values != trial.curve:
            yield f"{trial.folder.name}: the study has other scores"
        if trial.key in kept and not kept[trial.key].state.is_finished():
            yield f"{trial.folder.name}: still open in the study"


def _wrong_table(experiment: Path, past: list[PastTrial]) -> Iterator[str]:
    table = load_experiment(experiment).set_index("trial")
    for trial in past:
        if trial.folder.name not in table.index or table.epochs[trial.folder.name] != len(trial.records):
            yield f"{trial.folder.name}: the table of trials says otherwise"
