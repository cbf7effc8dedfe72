"""The same rows in each format, read back by other programs; nothing in them is obeyed."""

import csv
import io
import json
import os
import pty
from collections.abc import Iterator
from pathlib import Path

import pandas
import pyarrow.parquet
import pytest

from analysis import writers
from analysis.rows import COLUMNS, Row
from analysis.writers import WRITERS, Format, choose_format
from trainable.errors import UsageError

GOOD: Row = {
    "file": "=cmd.png", "class_id": "a", "words": "-x \x1b", "confidence": 0.123456789, "top5": ["a", "b"],
    "top5_confidence": [0.123456789, 0.1], "disagreement": 0.25,
}  # fmt: skip
BROKEN: Row = {"file": os.fsdecode(b"odd\xff\n.png"), "error": "not an image"}


def written(name: Format, rows: list[Row]) -> bytes:
    file = io.BytesIO()
    WRITERS[name](file, COLUMNS, iter(rows))
    return file.getvalue()


def test_csv_keeps_bytes_of_names_and_makes_formulas_harmless() -> None:
    text = io.StringIO(written("csv", [GOOD, BROKEN]).decode("utf-8", "surrogateescape"), newline="")
    first, second = csv.DictReader(text)
    assert tuple(first) == COLUMNS
    assert (first["file"], first["words"], first["confidence"]) == ("'=cmd.png", "'-x \x1b", "0.1235")
    assert (first["top5"], first["top5_confidence"], first["error"]) == ("a b", "0.1235 0.1000", "")
    assert os.fsencode(second["file"]) == b"odd\xff\n.png"
    assert (second["confidence"], second["disagreement"], second["error"]) == ("", "", "not an image")


def test_json_lines_have_lists_and_nulls_and_nothing_that_a_terminal_obeys() -> None:
    content = written("jsonl", [GOOD, BROKEN])
    assert content.isascii()
    assert b"\x1b" not in content
    first, second = (json.loads(line) for line in content.splitlines())
    assert tuple(first) == COLUMNS
    assert first == GOOD | {"confidence": 0.123457, "top5_confidence": [0.123457, 0.1], "error": None}
    assert second == dict.fromkeys(COLUMNS) | BROKEN


def test_parquet_has_types_and_reads_back_in_pandas() -> None:
    table = pandas.read_parquet(io.BytesIO(written("parquet", [GOOD, BROKEN])))
    assert tuple(table.columns) == COLUMNS
    assert table["confidence"].dtype == "float32"
    assert table["top5"][0].tolist() == ["a", "b"]
    assert table["file"].tolist() == ["=cmd.png", "odd\\xff\n.png"]
    assert table["error"].isna().tolist() == [True, False]


def test_parquet_rows_are_written_in_groups_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "ROW_GROUP", 2)
    file, sizes = io.BytesIO(), []

    def rows() -> Iterator[Row]:
        for _ in range(5):
            sizes.append(file.tell())
            yield GOOD

    WRITERS["parquet"](file, COLUMNS, rows())
    assert sizes[0] == sizes[1] < sizes[2] == sizes[3] < sizes[4]
    assert pyarrow.parquet.ParquetFile(file).metadata.num_row_groups == 3


def test_a_terminal_gets_escapes_and_no_parquet() -> None:
    reader, terminal = pty.openpty()
    with open(reader, "rb", buffering=0) as shown, open(terminal, "wb") as file:
        WRITERS["csv"](file, COLUMNS, iter([GOOD]))
        file.flush()
        assert b"'-x \\x1b" in shown.read(1000)
        with pytest.raises(UsageError, match=r"^--format parquet: is nothing for a terminal"):
            WRITERS["parquet"](file, COLUMNS, iter([GOOD]))


def test_the_ending_decides_the_format_where_none_is_named(tmp_path: Path) -> None:
    endings = {"x.csv": "csv", "x.JSONL": "jsonl", "a.csv/x.parquet": "parquet", "-": "csv", "/dev/null": "csv"}
    assert {output: choose_format(output, None) for output in endings} == endings
    assert choose_format("x.txt", "jsonl") == "jsonl"
    for odd in ("x.txt", "x", str(tmp_path)):
        with pytest.raises(UsageError, match=rf"^-o {odd}: must end in \.csv, \.jsonl, \.parquet; or give --format"):
            choose_format(odd, None)
