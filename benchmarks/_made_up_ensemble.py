"""An exported ensemble whose members were never trained, and images of noise: they cost what real ones do."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from analysis.manifest import MANIFEST, MEMBERS, ClassEntry, Figures, Gain, Manifest, Member, Single
from trainable.architectures import build_model
from trainable.config import TrialConfig
from trainable.files import checksum
from trainable.versions import library_versions

NONE = Figures(loss=0, brier=0, ece=0, top1=0, top5=0, images=0, top1_low=0, top1_high=0)
GREY = (0.5, 0.5, 0.5)


def write_ensemble(folder: Path, arch: str, sizes: Sequence[int], classes: Sequence[str]) -> None:
    """As analysis.export writes it: for each size in pixels a member of random weights, seeded, all weighed alike."""
    (folder / MEMBERS).mkdir(parents=True)
    torch.manual_seed(0)
    members = [
        _write_member(folder, f"{number:04}-{arch}", arch, size, len(classes)) for number, size in enumerate(sizes)
    ]
    manifest = Manifest(
        experiment="made-up",
        classes=tuple(ClassEntry(id=each, words=each) for each in classes),
        members=tuple(members),
        weights=(1 / len(members),) * len(members),
        temperature=1.0,
        views=("whole",),
        select=NONE,
        holdout=NONE,
        uncalibrated=NONE,
        single=Single(trial=members[0].trial, select=NONE, holdout=NONE),
        gain=Gain(difference=0, low=0, high=0),
        front=(),
        dataset="",
        versions=library_versions(),
        created=datetime(2026, 1, 1, tzinfo=UTC),
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json())


def _write_member(folder: Path, trial: str, arch: str, size: int, classes: int) -> Member:
    file = f"{MEMBERS}/{trial}.safetensors"
    save_file(build_model(TrialConfig(data=folder, arch=arch), classes, size).state_dict(), folder / file)
    return Member(
        trial=trial, file=file, config={"arch": arch}, mean=GREY, std=GREY, image_size=size,
        crc32=checksum(folder / file), select=NONE, holdout=NONE,
    )  # fmt: skip


def write_jpegs(folder: Path, count: int, different: int, size: int) -> None:
    """JPEGs of noise, `size` pixels square: so many different ones, and links to them under other names."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number:07}.jpg"
        if number < different:
            coarse = Image.fromarray(generator.integers(256, size=(size // 4, size // 4, 3), dtype=np.uint8))
            coarse.resize((size, size)).save(path, quality=90)
        else:
            os.link(folder / f"{number % different:07}.jpg", path)
