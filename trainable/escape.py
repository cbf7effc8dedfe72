"""Text that comes from data (class names, file names, messages of libraries), made harmless where it is written."""

import csv
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that begins so for a formula, and formulas can start programs."""


def printable(text: str) -> str:
    """The text with what a terminal would obey, or what can't be seen, as escapes: ESC becomes `\\x1b`."""
    return "".join(
        character
        if character.isprintable() or unicodedata.category(character) == "Zs"
        else character.encode("unicode_escape").decode()
        for character in text
    )


def csv_cell(value: Any) -> Any:
    """The value for a CSV file: text that a spreadsheet would run gets an apostrophe in front, numbers stay numbers."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def write_csv(file: TextIO, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """A header and a line for each row, empty where a row lacks a column. On a terminal everything is printable."""
    writer = csv.DictWriter(file, columns)
    writer.writeheader()
    shown = _terminal_cell if file.isatty() else csv_cell
    for row in rows:
        writer.writerow({column: shown(value) for column, value in row.items()})


def _terminal_cell(value: Any) -> Any:
    return printable(csv_cell(value)) if isinstance(value, str) else value
