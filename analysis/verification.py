"""Whether the files of an experiment are what the search wrote, and agree with each other and with experiment.json."""

import json
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
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
from trainable.ranking import TIE

NAMED = ("plan", "versions", "git_commit", "command", "dataset")
"""What experiment.json has to tell, so that the search can be repeated."""
LINES = ("decisions.jsonl", "study.journal")

Objects = list[dict[str, Any]]
Records = dict[float, dict[str, Any]]
"""Of a trial, by step."""


def verify(folder: Path) -> tuple[dict[str, int], list[str]]:
    """Look through all files of the experiment in `folder`.

    Returns:
        How many trials, steps, checkpoints and exports were looked at; and what is wrong, a line each.
    """
    facts = read_facts(folder)
    wrong = [f"{EXPERIMENT}: doesn't name {name}" for name in NAMED if name not in facts]
    trials = [path for path in sorted(folder.iterdir()) if (path / PARAMS).exists() or (path / RESULTS).exists()]
    checkpoints = [path for trial in trials for path in sorted(trial.glob("checkpoint_*"))]
    records: dict[str, Records] = {}
    for trial in trials:
        lines, broken = read_objects(trial / RESULTS)
        wrong += [*broken, *check_trial(trial, lines, facts)]
        steps = {metrics.step_of(line): line for line in lines if metrics.EPOCH in line}
        records[str(lines[0].get("trial_id")) if lines else trial.name] = steps
        for checkpoint in sorted(trial.glob("checkpoint_*")):
            wrong += check_checkpoint(checkpoint, facts, steps)
    wrong += [*check_decisions(folder, records), *check_ensemble(folder / ENSEMBLE, facts)]
    counts = {"trials": len(trials), "steps": sum(map(len, records.values())), "checkpoints": len(checkpoints)}
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
    """A trial's configuration against the plan, and its steps: each once, without a gap."""
    plan = facts.get("plan", {})
    length = {"epochs": plan.get("epochs")} | ({"steps": plan["steps"]} if plan.get("steps") else {})
    wanted = plan.get("trial", {}) | plan.get("space", {}).get("fixed", {}) | length
    config = read_object(trial / PARAMS)
    if config is None:
        yield f"{_short(trial / PARAMS)}: is broken"
    else:
        for name in (name for name, value in wanted.items() if config.get(name) != value):
            yield f"{_short(trial / PARAMS)}: {name} is {config.get(name)!r}, but {EXPERIMENT} says {wanted[name]!r}"
    steps = [metrics.step_of(record) if metrics.EPOCH in record else math.nan for record in records]
    if not are_in_order(steps):
        yield f"{_short(trial / RESULTS)}: steps {steps}"


def are_in_order(steps: Sequence[float]) -> bool:
    """Whether whole steps are 1, 2, 3 ... without a gap, and fractions, which a deadline left, lie between them."""
    return all(before < after <= math.floor(before) + 1 for before, after in pairwise([0, *steps]))


def check_checkpoint(folder: Path, facts: dict[str, Any], records: Records) -> Iterator[str]:
    """A checkpoint's files against their checksums, its images and steps against what else tells of them."""
    record = read_record(folder)
    if record is None:
        yield f"{_short(folder)}: is unfinished, or its trial.json is broken"
        return
    yield from (f"{_short(folder)}: {name} isn't what was written" for name in broken_files(folder, record))
    if record.get("dataset") != facts.get("dataset"):
        yield f"{_short(folder)}: was trained on other images than {EXPERIMENT} names"
    for each in record.get("epochs", []):
        step, score = metrics.step_of(each), each[metrics.SCORE]
        known = records.get(step, {}).get(metrics.SCORE)
        if known != score:
            yield f"{_short(folder)}: top-1 at step {step:g} is {score}, in {RESULTS} {known}"
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


def check_decisions(folder: Path, records: dict[str, Records]) -> Iterator[str]:
    """Each line can be read, and each decision's score is that of the trial's record, but for what breaks ties."""
    for name in LINES:
        decisions, wrong = read_objects(folder / name)
        yield from wrong
        for each in decisions if name == LINES[0] else []:
            step, score = each.get("step", each.get("epochs")), each.get("score")  # earlier versions counted epochs
            known = records.get(str(each.get("trial")), {}).get(step or 0, {}).get(metrics.SCORE)
            if score is not None and not is_score_of(score, known):
                yield f"{name}: {each.get('trial')} at step {step} had {score}, in {RESULTS} {known}"


def is_score_of(score: float, top1: float | None) -> bool:
    """Whether a decision had this score of a record with that top-1; None: the trial diverged and left no record."""
    return score == 0 if top1 is None else abs(score - top1) <= TIE * (1 + 1e-6)


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
