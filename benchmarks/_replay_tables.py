"""Tables of learning curves from files: `.npz` arrays, what `record_curves` wrote, and experiments of `tuning.run`."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks._curve_files import CONFIGURATION, SECONDS, read_curves
from benchmarks._replay_curves import Floats, Table, scores_of
from search_spaces import Float, Space, encode
from trainable import metrics
from trainable.errors import UserError
from tuning.storage import EXPERIMENT, RESULTS, read_experiment, read_records

SUFFIXES = (".npz", ".parquet")


class Trained(NamedTuple):
    """A configuration that was trained, in full or not."""

    config: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]
    """Of its epochs, with the keys of `trainable.metrics`."""
    seconds: float
    """Of an epoch, in the mean."""


def find_tables(paths: Iterable[Path]) -> dict[str, Path]:
    """Name and place of every table: files, folders of files, and folders of experiments.

    Raises:
        UserError: There is none in one of them, or two have the same name.
    """
    found: dict[str, Path] = {}
    for path in (each for given in paths for each in tables_at(given)):
        name = path.name if path.is_dir() else path.stem
        if found.setdefault(name, path) != path:
            raise UserError(f"{path} and {found[name]} have the same name; rename one, or name one alone")
    return found


def tables_at(path: Path) -> list[Path]:
    """The tables in a folder, or the one that the path is.

    Raises:
        UserError: There is none.
    """
    if (path / EXPERIMENT).is_file():
        return [path.resolve()]
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    tables = [file.resolve() for file in files if file.suffix in SUFFIXES]
    if not tables and path.is_dir():
        raise UserError(f"{path} holds no .npz or .parquet file and no {EXPERIMENT}; see --help for what is in one")
    if not tables:
        raise UserError(f"{path}: not a .npz or .parquet file; see --help for what is in one")
    return tables


@lru_cache
def load_table(path: Path) -> Table:
    """Read a file, or an experiment from its folder.

    Raises:
        UserError: Something is missing in it, or it has too few curves.
    """
    if path.is_dir():
        return table_of_experiment(path)
    return table_of_arrays(path) if path.suffix == ".npz" else table_of_recording(path)


def table_of_arrays(file: Path) -> Table:
    """A `.npz`: each hyper-parameter is a real number on a log scale, between its least and greatest value."""
    content = np.load(file, allow_pickle=False)
    for name in ("hp", "hp_names", "valid_loss"):
        if name not in content:
            raise UserError(f"{file.name} has no array {name!r}; it has {', '.join(content)}")
    hp, names = content["hp"].astype(float), [str(name) for name in content["hp_names"]]
    if not (hp > 0).all():
        raise UserError(f"{file.name}: hp has values that aren't positive, and they are searched on a log scale")
    lows, highs = (np.exp(ends).tolist() for ends in (np.log(hp).min(axis=0), np.log(hp).max(axis=0)))
    ranges = zip(names, lows, highs, strict=True)
    dimensions = [Float(name=name, low=low, high=high, log=True) for name, low, high in ranges]
    space = Space(name=file.stem, dimensions=tuple(dimensions))
    configs = [dict(zip(names, row, strict=True)) for row in hp.tolist()]
    seconds = content["seconds"].astype(float) if "seconds" in content else np.ones(len(hp))
    return make_table(file.stem, [file], space, configs, content["valid_loss"].astype(float), seconds)


def table_of_recording(file: Path) -> Table:
    """A `.parquet` of `record_curves`, as far as it was recorded."""
    recording = read_curves(file)
    rows: dict[int, list[dict[str, Any]]] = {}
    for row in recording.rows:
        rows.setdefault(row[CONFIGURATION], []).append(row)
    trained = [Trained(each[0], each, float(np.mean([row[SECONDS] for row in each]))) for each in rows.values()]
    return table_of_trained(file.stem, [file], recording.space, recording.facts["epochs"], trained)


def table_of_experiment(folder: Path) -> Table:
    """An experiment of `tuning.run`."""
    plan = read_experiment(folder)
    trials: dict[str, list[dict[str, Any]]] = {}
    for record in read_records(folder):
        trials.setdefault(record["trial_name"], []).append(record)
    trained = [
        Trained(
            records[0]["config"],
            records,
            float(np.mean([metrics.epoch_seconds(each) for each in records])),
        )
        for records in trials.values()
    ]
    files = [folder / EXPERIMENT, *sorted(folder.glob(f"*/{RESULTS}"))]
    return table_of_trained(folder.name, files, plan.space, plan.length, trained)


def table_of_trained(name: str, files: list[Path], space: Space, steps: int, trained: Sequence[Trained]) -> Table:
    """The loss is 1 - top-1; see `held_losses` for trainings that ended early."""
    configs = [each.config for each in trained]
    losses = np.array([held_losses(each.records, steps) for each in trained]).reshape(len(trained), steps)
    return make_table(name, files, space, configs, losses, np.array([each.seconds for each in trained]))


def held_losses(records: Iterable[Mapping[str, Any]], steps: int) -> list[float]:
    """1 - top-1 after each step; after the last one it stays as it was, and NaN after the one that diverged.

    A training that ended early may thus be worth less here than it would have been.
    """
    known = {metrics.step_of(each): each for each in records}
    losses, loss = [], math.nan
    for step in range(1, steps + 1):
        if (record := known.get(step)) is not None:
            loss = math.nan if record[metrics.DIVERGED] else 1 - record[metrics.SELECT_TOP1]
        losses.append(loss)
    return losses


def make_table(
    name: str, files: list[Path], space: Space, configs: Sequence[Mapping[str, Any]], losses: Floats, seconds: Floats
) -> Table:
    """The table of configurations of a space, their losses (configurations, steps) and seconds of a step."""
    if len(configs) < 2:
        raise UserError(f"{name}: {len(configs)} configurations were trained; a table needs at least 2")
    try:
        scores = scores_of(losses)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    points = np.array([encode(space, config) for config in configs])
    return Table(name, digest, space, points, scores, seconds)
