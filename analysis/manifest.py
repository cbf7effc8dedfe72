"""`ensemble.json`: what an exported ensemble is made of. It is written last, so that its presence means complete."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from trainable.errors import UsageError, UserError

MANIFEST, CARD, MEMBERS = "ensemble.json", "README.md", "members"
SCHEMA_VERSION: Final = 1
"""Raise it when an older program would read a new ensemble.json wrongly."""

EXPORT_AGAIN = "export it again: python -m analysis.export runs/NAME"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Figures(_Part):
    """Mean cross-entropy in nats, accuracies in 0..1, and over how many images."""

    loss: float
    top1: float
    top5: float
    images: int


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
    """Fields of TrialConfig that decide the shape of the model."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Normalisation of pixels in 0..1, one value a channel."""
    image_size: int
    """Side of its square images in pixels."""


class Member(MemberModel):
    """A member with what it scores alone."""

    select: Figures
    holdout: Figures


class Manifest(_Part):
    """The content of ensemble.json."""

    schema_version: Literal[1] = SCHEMA_VERSION
    experiment: str
    classes: tuple[ClassEntry, ...]
    members: tuple[Member, ...]
    """Best first."""
    weights: tuple[float, ...]
    """Share of each member in the mean of the logits; they add up to 1."""
    temperature: float
    """What the mean of the logits is divided by before the softmax."""
    select: Figures
    """On the images that chose the members."""
    holdout: Figures
    """On images that decided nothing."""
    dataset: str
    """Fingerprint of the data that the members were trained on."""
    versions: dict[str, str]
    created: datetime


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a complete export whose member files are there; each failure is a one-line error."""
    path = folder / MANIFEST
    try:
        values = json.loads(path.read_text())
        version = values["schema_version"]
    except OSError:
        raise _no_export(folder) from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: can't be read ({type(error).__name__}: {error}); {EXPORT_AGAIN}") from None
    if version != SCHEMA_VERSION:
        raise UserError(f"{path}: schema version {version!r}, but this program reads {SCHEMA_VERSION}; update it")
    try:
        manifest = Manifest.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {field}: {first['msg']}; {EXPORT_AGAIN}") from None
    missing = [member.file for member in manifest.members if not (folder / member.file).is_file()]
    if missing:
        raise UserError(f"{folder}: {missing[0]} is missing ({len(missing)} in all); {EXPORT_AGAIN}")
    return manifest


def _no_export(folder: Path) -> UserError:
    if not folder.exists():
        return UsageError(f"{folder}: no such folder; give that of an exported ensemble: runs/NAME/ensemble")
    inner = folder / "ensemble"
    if (inner / MANIFEST).is_file():
        return UsageError(f"{folder}: holds no {MANIFEST}; did you mean {inner}?")
    return UserError(f"{folder}: not a complete export (no {MANIFEST}); {EXPORT_AGAIN}")
