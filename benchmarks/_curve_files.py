"""Parquet files of learning curves: a row an epoch, and what the curves hang on in the schema's metadata."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from search_spaces import Space, SpaceError
from trainable import metrics
from trainable.errors import UserError
from trainable.files import write_atomically

FACTS = b"curves"
"""Key of the metadata: a JSON with the space and the rest."""
CONFIGURATION = "configuration"
"""Number of the configuration, from 0."""
SECONDS, WALL_SECONDS = "seconds", "wall_seconds"
"""Of an epoch's training and scoring: of the processor for each thread, and by the clock on the wall."""
SCORED = (metrics.EPOCH, metrics.SELECT_TOP1, metrics.SELECT_LOSS, metrics.TRAIN_LOSS, metrics.DIVERGED)
"""What is kept of an epoch's record."""


class Recording(NamedTuple):
    """A file's content."""

    space: Space
    facts: dict[str, Any]
    """What the curves hang on, the space among them, as JSON values."""
    rows: list[dict[str, Any]]
    """In the order of configurations and epochs; a hyper-parameter that doesn't apply is absent."""


def write_curves(file: Path, recording: Recording) -> None:
    """Write or replace a file."""
    hyperparameters = [*recording.space.fixed, *(dimension.name for dimension in recording.space.dimensions)]
    names = (CONFIGURATION, *hyperparameters, *SCORED, SECONDS, WALL_SECONDS)
    columns = {name: [row.get(name) for row in recording.rows] for name in names}
    table = pa.table(columns).replace_schema_metadata({FACTS: json.dumps(recording.facts)})
    write_atomically(file, lambda path: pq.write_table(table, path))


def read_curves(file: Path) -> Recording:
    """Read a file.

    Raises:
        UserError: It isn't a parquet file, or not one of ours.
    """
    try:
        table = pq.read_table(file)
        facts = json.loads((table.schema.metadata or {})[FACTS])
        space = Space.model_validate(facts["space"])
    except KeyError:
        raise UserError(f"{file}: not a file of benchmarks.record_curves (its metadata has no space)") from None
    except (OSError, pa.ArrowException, ValueError, SpaceError) as error:
        raise UserError(f"{file}: can't be read ({' '.join(str(error).split())[:200]})") from None
    for name in (CONFIGURATION, *SCORED, SECONDS):
        if name not in table.column_names:
            raise UserError(f"{file}: has no column {name!r}; it has {', '.join(table.column_names)}")
    rows = [{name: value for name, value in row.items() if value is not None} for row in table.to_pylist()]
    return Recording(space, facts, rows)
