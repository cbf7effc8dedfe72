"""decisions.jsonl: each decision of a search with its reason, and the rungs as they follow from it."""

import json
import os
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trainable.files import write_text
from tuning.engine import Decision
from tuning.storage import read_lines

DECISIONS = "decisions.jsonl"
"""One line a decision, in the experiment's folder."""


class DecisionLog:
    """Appends decisions to an experiment's file, and reads what is new in it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / DECISIONS
        self.offset = 0

    def add(self, decision: Decision) -> None:
        """Append a line, on the disk before anything follows from the decision."""
        with self.path.open("a") as file:
            file.write(json.dumps(decision._asdict()) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def keep(self, steps: Mapping[str, Container[float]]) -> dict[tuple[str, float], int]:
        """Leave out what a killed search decided before the trial's folder or the step's record was written.

        Args:
            steps: The finished steps of each trial.

        Returns:
            Of each (trial, steps done) at which something was decided, the place of the first such decision.
        """
        lines = [line for line in map(in_steps, read_lines(self.path)) if _is_known(line, steps)]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write_text(self.path, text)
        places: dict[tuple[str, float], int] = {}
        for place, line in enumerate(lines):
            places.setdefault((line["trial"], line["step"]), place)
        return places

    def read_new(self) -> list[Decision]:
        """The decisions since the last call, also of an interrupted search; a half-written line waits."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self.offset)
            whole, _, _ = file.read().rpartition(b"\n")
        self.offset += len(whole) + 1 if whole else 0
        return [Decision(**in_steps(json.loads(line))) for line in whole.splitlines()]


def in_steps(line: dict[str, Any]) -> dict[str, Any]:
    """A decision as it is written now: earlier versions counted epochs, each of them a step."""
    return {"step" if name == "epochs" else name: value for name, value in line.items()}


def _is_known(line: Mapping[str, Any], steps: Mapping[str, Container[float]]) -> bool:
    done = line.get("step")
    return line.get("trial") in steps and (done == 0 or done in steps[line["trial"]])


class RungRow(NamedTuple):
    """One rung: trials that reached it, those that went on, the best top-1 there, and the worst that went on."""

    step: int
    reached: int
    went_on: int
    best: float
    worst_on: float | None


def rung_table(decisions: Iterable[Decision], rungs: Iterable[int]) -> list[RungRow]:
    """The rungs that any trial has reached, lowest first."""
    decisions = list(decisions)
    return [row for rung in rungs for row in _rung_rows(decisions, rung)]


def _rung_rows(decisions: list[Decision], rung: int) -> list[RungRow]:
    scores = {each.trial: each.score for each in decisions if each.step == rung and each.score is not None}
    if not scores:
        return []
    went_on = {each.trial for each in decisions if each.kind == "promote" and each.step == rung}
    worst_on = min((scores[trial] for trial in went_on), default=None)
    return [RungRow(rung, len(scores), len(went_on), max(scores.values()), worst_on)]
