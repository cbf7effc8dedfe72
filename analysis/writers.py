"""Writes the rows of a prediction as CSV, as JSON lines or as Parquet, without holding them."""

import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal

from analysis.outputs import STDOUT, is_special
from analysis.rows import Row
from trainable.errors import UsageError
from trainable.escape import write_csv
from trainable.predictions import as_text

Format = Literal["csv", "jsonl", "parquet"]

DIGITS = 6
"""Decimals of a number in JSON lines."""
ROW_GROUP = 4096
"""Rows that Parquet compresses together; so many are held."""


def choose_format(output: str, named: Format | None) -> Format:
    """The format that is named, else by the ending of the output, CSV for stdout and pipes. UsageError."""
    if named is not None:
        return named
    ending = Path(output).suffix.lower().removeprefix(".")
    for name in WRITERS:
        if ending == name:
            return name
    if output == STDOUT or is_special(output):
        return "csv"
    raise UsageError(f"-o {output}: must end in {', '.join(f'.{name}' for name in WRITERS)}; or give --format")


def write_csv_rows(file: BinaryIO, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """UTF-8; file names that aren't keep their bytes. Text that a spreadsheet would run gets an apostrophe in front."""
    text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
    try:
        write_csv(text, columns, ({column: as_text(value) for column, value in row.items()} for row in rows))
    finally:
        text.detach()  # `file` is its opener's


def write_jsonl(file: BinaryIO, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """One object a line with all columns, null where a row lacks one; all that isn't ASCII as escapes."""
    for row in rows:
        line = {column: _rounded(row.get(column)) for column in columns}
        file.write(json.dumps(line).encode() + b"\n")


def write_parquet(file: BinaryIO, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Numbers in single precision, lists as lists; bytes of file names that aren't UTF-8 as `\\xff`. UsageError."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    if file.isatty():
        raise UsageError("--format parquet: is nothing for a terminal; give a file with -o")
    kinds = {"confidence": pa.float32(), "disagreement": pa.float32(), "top5": pa.list_(pa.string()),
             "top5_confidence": pa.list_(pa.float32())}  # fmt: skip
    schema = pa.schema([(column, kinds.get(column, pa.string())) for column in columns])
    rows = iter(rows)
    with ParquetWriter(file, schema, compression="zstd") as writer:
        for group in iter(lambda: list(islice(rows, ROW_GROUP)), []):
            valid = [{column: _valid(value) for column, value in row.items()} for row in group]
            writer.write_table(pa.Table.from_pylist(valid, schema))


WRITERS: dict[Format, Callable[[BinaryIO, Sequence[str], Iterable[Row]], None]] = {
    "csv": write_csv_rows,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def _valid(value: Any) -> Any:
    """Text without the lone surrogates that stand for bytes of a file name."""
    return os.fsencode(value).decode("utf-8", "backslashreplace") if isinstance(value, str) else value
