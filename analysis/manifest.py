"""`ensemble.json`: what an exported ensemble is made of. It is written last, so that its presence means complete."""

import json
import math
import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from trainable.config import LARGEST_IMAGE, SMALLEST_IMAGE
from trainable.errors import UsageError, UserError
from trainable.files import checksum

ENSEMBLE = "ensemble"
"""The export's usual folder, in the experiment's."""
MANIFEST, CARD, MEMBERS = "ensemble.json", "README.md", "members"
SCHEMA_VERSION: Final = 2
"""Raise it when an older program would read a new ensemble.json wrongly."""

EXPORT_AGAIN = "export it again: python -m analysis.export runs/NAME"

REBUILD: Final = {"arch", "stem", "patch_size", "window_size"}
"""Fields of TrialConfig that decide the shape of a model; its rates do nothing in prediction."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
View = Literal["whole", "mirrored", "crops"]
"""See analysis.views."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Figures(_Part):
    """How good probabilities are, and over how many images."""

    loss: float
    """Mean negative log likelihood of the true class, in nats."""
    brier: float
    """Mean squared distance of the probabilities from the truth (Brier 1950), 0 to 2."""
    ece: float
    """Expected calibration error of the first guess in 15 bins of equal width (Guo et al. 2017), 0 to 1."""
    top1: float
    top5: float
    """Share of images whose class is the first guess, or among the first five."""
    images: int
    top1_low: float
    top1_high: float
    """95 % bootstrap interval of top-1."""


class Gain(_Part):
    """Top-1 on holdout of the ensemble minus that of the best single trial, with its paired 95 % bootstrap interval."""

    difference: float
    low: float
    high: float


class Single(_Part):
    """The trial with the best score on `select`: what the search would have given without an ensemble."""

    trial: str
    select: Figures
    holdout: Figures


class FrontPoint(_Part):
    """The best ensemble of so many members, by what it costs."""

    members: tuple[str, ...]
    weights: tuple[float, ...]
    parameters: int
    latency_ms: float | None
    """Of one image through all members, one after the other, on the exporting machine; None where not measured."""
    out_of_bag: float
    """What the selection lowers, of as many members chosen on halves of select, on the other halves: the log loss, or
    with `--metric top1` the share of wrong first guesses."""
    select: Figures
    """Of whole images, also where the ensemble looks at other views."""


class ClassEntry(_Part):
    """A class, in the order of the logits."""

    id: str
    words: str


class MemberModel(_Part):
    """What predicting with a member needs."""

    trial: str
    file: str
    """Its weights, relative to the ensemble's folder."""
    config: dict[str, Any]
    """The fields of `REBUILD`. Others may not come from a file: `pretrained` would read another one, or the network."""
    mean: tuple[Finite, ...] = Field(min_length=3, max_length=3)
    std: tuple[Positive, ...] = Field(min_length=3, max_length=3)
    """Normalisation of pixels in 0..1, one value a channel."""
    image_size: int = Field(ge=SMALLEST_IMAGE, le=LARGEST_IMAGE)
    """Side of its square images in pixels."""
    temperature: Positive = 1.0
    """What its logits are divided by before the softmax."""
    parameters: int = 0
    """How many numbers it was trained to have."""
    crc32: str = ""
    """Checksum of its file."""
    source: str = "best epoch"
    """Which weights of the trial these are, or what they were averaged from."""

    @field_validator("config")
    @classmethod
    def _check_config(cls, config: dict[str, Any]) -> dict[str, Any]:
        if other := sorted(config.keys() - REBUILD):
            raise ValueError(f"{other[0]!r} must not be here; known are {', '.join(sorted(REBUILD))}")
        return config


class Member(MemberModel):
    """A member with what it scores alone."""

    select: Figures
    holdout: Figures


class Manifest(_Part):
    """The content of ensemble.json."""

    schema_version: Literal[2] = SCHEMA_VERSION
    experiment: str
    classes: tuple[ClassEntry, ...] = Field(min_length=2)
    members: tuple[Member, ...] = Field(min_length=1)
    """Best first."""
    weights: tuple[Share, ...]
    """Share of each member in the mean of the probabilities; they add up to 1."""
    temperature: Positive
    """What the logarithm of that mean is divided by before the softmax."""
    views: tuple[View, ...] = Field(min_length=1)
    """Over which views of an image each member's logits are averaged."""
    select: Figures
    """On the images that chose the members."""
    holdout: Figures
    """On images that decided nothing."""
    uncalibrated: Figures
    """The same on holdout with all temperatures at 1."""
    single: Single
    gain: Gain
    front: tuple[FrontPoint, ...]
    """By number of members, from the best single one."""
    refit: bool = False
    """Whether the members were trained again on train and select: the figures are those of the members before that."""
    notes: tuple[str, ...] = ()
    """What was tried beside single trials, and why it was kept or not."""
    dataset: str
    """Fingerprint of the data that the members were trained on."""
    versions: dict[str, str]
    created: datetime

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if len(self.weights) != len(self.members) or not math.isclose(sum(self.weights), 1, abs_tol=1e-3):
            raise ValueError(
                f"weights {self.weights} must be one for each of {len(self.members)} members and add up to 1"
            )
        return self


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a complete export whose member files are there; each failure is a one-line error."""
    path = folder / MANIFEST
    try:
        values = json.loads(path.read_text())
        version = values["schema_version"]
    except OSError:
        raise _no_export(folder) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: can't be read ({type(error).__name__}: {error}); {EXPORT_AGAIN}") from None
    if version != SCHEMA_VERSION:
        older = isinstance(version, int) and version < SCHEMA_VERSION
        mend = EXPORT_AGAIN if older else "update it"
        raise UserError(f"{path}: schema version {version!r}, but this program reads {SCHEMA_VERSION}; {mend}")
    try:
        manifest = Manifest.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = "".join(f"{part}: " for part in (".".join(str(part) for part in first["loc"]),) if part)
        raise UserError(f"{path}: {field}{first['msg']}; {EXPORT_AGAIN}") from None
    if outside := [member.file for member in manifest.members if not _is_inside(folder, member.file)]:
        raise UserError(f"{path}: member file {outside[0]!r} leads outside of {folder}; do not use this ensemble")
    missing = [member.file for member in manifest.members if not os.path.isfile(folder / member.file)]
    if missing:
        raise UserError(f"{folder}: {missing[0]} is missing ({len(missing)} in all); {EXPORT_AGAIN}")
    return manifest


def check_members(folder: Path, manifest: Manifest) -> None:
    """UserError where a member's file isn't the one that was exported."""
    for member in manifest.members:
        if checksum(folder / member.file) != member.crc32:
            raise UserError(f"{folder / member.file}: isn't the file that was exported; {EXPORT_AGAIN}")


def _is_inside(folder: Path, file: str) -> bool:
    """Whether a member's file lies in the folder itself: not behind `..`, another root or a link."""
    try:
        return (folder / file).resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError):  # no path at all: too long, or with a zero byte
        return False


def _no_export(folder: Path) -> UserError:
    if not folder.exists():
        return UsageError(f"{folder}: no such folder; give that of an exported ensemble: runs/NAME/ensemble")
    inner = folder / ENSEMBLE
    if (inner / MANIFEST).is_file():
        return UsageError(f"{folder}: holds no {MANIFEST}; did you mean {inner}?")
    return UserError(f"{folder}: not a complete export (no {MANIFEST}); {EXPORT_AGAIN}")
