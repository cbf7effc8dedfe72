"""Whether the files of an experiment are what the search wrote, and agree with each other and with experiment.json."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from analysis.candidates import read_logits
from analysis.evidence import read_evidence
from analysis.experiment import EXPERIMENT, PARAMS, RESULTS, read_facts
from analysis.manifest import ENSEMBLE, MANIFEST, read_manifest
from trainable import metrics
from trainable.errors import UserError
from trainable.files import PREDICTIONS, broken_files, checksum, read_object, read_record

NAMED = ("plan", "versions", "git_commit", "command", "dataset")
"""What experiment.json has to tell, so that the search can be repeated."""
LINES = ("decisions.jsonl", "study.journal")

Objects = list[dict[str, Any]]


def verify(folder: Path) -> tuple[dict[str, int], list[str]]:
    """Look through all files of the experiment in `folder`.

    Returns:
        How many trials, epochs, checkpoints and exports were looked at; and what is wrong, a line each.
    """
    facts = read_facts(folder)
    wrong = [f"{EXPERIMENT}: doesn't name {name}" for name in NAMED if name not in facts]
    trials = [path for path in sorted(folder.iterdir()) if (path / PARAMS).exists() or (path / RESULTS).exists()]
    checkpoints = [path for trial in trials for path in sorted(trial.glob("checkpoint_*"))]
    records: dict[str, dict[int, dict[str, Any]]] = {}
    for trial in trials:
        lines, broken = read_objects(trial / RESULTS)
        wrong += [*broken, *check_trial(trial, lines, facts)]
        epochs = {line[metrics.EPOCH]: line for line in lines if metrics.EPOCH in line}
        records[str(lines[0].get("trial_id")) if lines else trial.name] = epochs
        for checkpoint in sorted(trial.glob("checkpoint_*")):
            wrong += check_checkpoint(checkpoint, facts, epochs)
    wrong += [*check_decisions(folder, records), *check_ensemble(folder / ENSEMBLE, facts)]
    counts = {"trials": len(trials), "epochs": sum(map(len, records.values())), "checkpoints": len(checkpoints)}
    return counts | {"exports": int((folder / ENSEMBLE).exists())}, wrong


def read_objects(path: Path) -> tuple[Objects, list[str]]:
    """The JSON objects in a file, one a line; and what is wrong with its lines."""
    objects: Objects = []
    wrong: list[str] = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines() if path.exists() else [], start=1):
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            objects.append(value)
        else:
            wrong.append(f"{_short(path)}: line {number} is broken")
    return objects, wrong


def check_trial(trial: Path, records: Objects, facts: dict[str, Any]) -> Iterator[str]:
    """A trial's configuration against the plan, and its epochs: each once, without a gap."""
    plan = facts.get("plan", {})
    wanted = plan.get("trial", {}) | plan.get("space", {}).get("fixed", {}) | {"epochs": plan.get("epochs")}
    config = read_object(trial / PARAMS)
    if config is None:
        yield f"{_short(trial / PARAMS)}: is broken"
    else:
        for name in (name for name, value in wanted.items() if config.get(name) != value):
            yield f"{_short(trial / PARAMS)}: {name} is {config.get(name)!r}, but {EXPERIMENT} says {wanted[name]!r}"
    epochs = [record.get(metrics.EPOCH) for record in records]
    if epochs != list(range(1, len(epochs) + 1)):
        yield f"{_short(trial / RESULTS)}: epochs {epochs}"


def check_checkpoint(folder: Path, facts: dict[str, Any], records: dict[int, dict[str, Any]]) -> Iterator[str]:
    """A checkpoint's files against their checksums, its images and epochs against what else tells of them."""
    record = read_record(folder)
    if record is None:
        yield f"{_short(folder)}: is unfinished, or its trial.json is broken"
        return
    yield from (f"{_short(folder)}: {name} isn't what was written" for name in broken_files(folder, record))
    if record.get("dataset") != facts.get("dataset"):
        yield f"{_short(folder)}: was trained on other images than {EXPERIMENT} names"
    for epoch in record.get("epochs", []):
        number, score = epoch[metrics.EPOCH], epoch[metrics.SCORE]
        known = records.get(number, {}).get(metrics.SCORE)
        if known != score:
            yield f"{_short(folder)}: top-1 at epoch {number} is {score}, in {RESULTS} {known}"
    if record.get("best_epoch"):
        yield from check_predictions(folder / PREDICTIONS, record)


def check_predictions(path: Path, record: dict[str, Any]) -> Iterator[str]:
    """The logits that a checkpoint keeps: one column a class, all of them numbers."""
    try:
        logits = read_logits(path)
    except UserError as error:
        yield str(error)
        return
    if logits.shape[1] != record.get("classes") or not np.isfinite(logits).all():
        yield f"{_short(path)}: isn't (images, {record.get('classes')}) of numbers"


def check_decisions(folder: Path, records: dict[str, dict[int, dict[str, Any]]]) -> Iterator[str]:
    """Each line can be read, and each decision's score is that of the trial's record."""
    for name in LINES:
        decisions, wrong = read_objects(folder / name)
        yield from wrong
        for each in decisions if name == LINES[0] else []:
            epoch, score = each.get("epochs"), each.get("score")
            known = records.get(str(each.get("trial")), {}).get(int(epoch or 0), {}).get(metrics.SCORE)
            if score is not None and score != known and not (score == 0 and known is None):
                yield f"{name}: {each.get('trial')} at epoch {epoch} had {score}, in {RESULTS} {known}"


def check_ensemble(folder: Path, facts: dict[str, Any]) -> Iterator[str]:
    """The export can be read, its members are what was written, and it comes from the experiment's data."""
    if not (folder / MANIFEST).exists():
        return
    try:
        manifest = read_manifest(folder)
        read_evidence(folder)
    except UserError as error:
        yield str(error)
        return
    for member in manifest.members:
        if checksum(folder / member.file) != member.crc32:
            yield f"{_short(folder / member.file)}: isn't what was written"
    if manifest.dataset != facts.get("dataset"):
        yield f"{_short(folder)}: was made from other images than {EXPERIMENT} names"


def _short(path: Path) -> str:
    return "/".join(path.parts[-2:])
