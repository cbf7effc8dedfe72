"""What the page reads of experiment.json, looked at once, so that a file of another version fails in one line."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from analysis.experiment import EXPERIMENT, read_facts
from trainable.errors import UserError


class Space(BaseModel):
    """The space that was searched."""

    name: str = ""


class Trial(BaseModel):
    """What all trials share."""

    data: str = ""
    seed: int = 0


class Plan(BaseModel):
    """What was asked for."""

    space: Space = Space()
    trial: Trial = Trial()
    epochs: float = 1
    steps: int | None = None
    seed: int = 0
    scheduler: str = ""
    sampler: str = ""
    first_rung: int = 1
    reduction_factor: float = 2.0


class Run(BaseModel):
    """A start of the search, the first or a resumption."""

    command: list[str] = []
    git_commit: str | None = None
    versions: dict[str, str] = {}


class Facts(Run):
    """The whole file."""

    plan: Plan = Plan()
    dataset: str = ""
    classes: int = 0
    images: dict[str, int] = {}
    resumed: list[Run] = []


def checked_facts(folder: Path) -> dict[str, Any]:
    """The content of experiment.json, whose values are what their names promise, but any may be missing.

    The same errors as `read_facts`; UserError where a value is something else.
    """
    facts = read_facts(folder)
    try:
        Facts.model_validate(facts)
    except ValidationError as error:
        first = error.errors()[0]
        field = "".join(f"{part}: " for part in (".".join(map(str, first["loc"])),) if part)
        raise UserError(f"{folder / EXPERIMENT}: {field}{first['msg']}; it isn't of this version") from None
    return facts
