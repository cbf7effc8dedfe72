"""The true classes of images: from a table, or from the names of their folders."""

import csv
import os
from collections.abc import Callable, Collection
from difflib import get_close_matches
from pathlib import Path

from trainable.errors import UsageError

FOLDER = "folder"
COLUMNS = ("file", "class")
SHOWN = 5
"""Classes that an error names."""

LabelOf = Callable[[str], str | None]
"""From an image's name, as its row has it, to its class id; None where it isn't known."""


def read_labels(named: str, classes: Collection[str]) -> LabelOf:
    """What `--labels` means for an ensemble of these class ids. UsageError."""
    if named == FOLDER:
        known = frozenset(classes)
        return lambda name: label if (label := folder_above(name)) in known else None
    return TableOfLabels(Path(named), classes)


def folder_above(name: str) -> str:
    """Name of the folder an image is in; above `images`, which Tiny ImageNet has in each class."""
    folder = Path(os.path.abspath(name)).parent
    return (folder.parent if folder.name == "images" else folder).name


class TableOfLabels:
    """Labels from a CSV file with the columns file and class (ids), held in memory, about 0.2 kB each."""

    def __init__(self, path: Path, classes: Collection[str]) -> None:
        self.folder = path.parent
        self.by_file = read_table(path, classes)

    def __call__(self, name: str) -> str | None:
        """The label of a file that the table names as its row does, from the table's own folder, or in full."""
        for spelling in (os.path.normpath(name), os.path.relpath(name, self.folder), os.path.abspath(name)):
            if (label := self.by_file.get(spelling)) is not None:
                return label
        return None


def read_table(path: Path, classes: Collection[str]) -> dict[str, str]:
    """Class ids by normalised file name. UsageError where the file isn't such a table."""
    ids = {each: each for each in classes}  # one string a class, not one a line
    found: dict[str, str] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            table = csv.DictReader(file)
            if missing := [column for column in COLUMNS if column not in (table.fieldnames or ())]:
                raise UsageError(f"--labels {path}: has no column {missing[0]!r}; its first line must be file,class")
            for row in table:
                name, label = os.path.normpath(row["file"] or ""), row["class"]
                if label not in ids:
                    raise UsageError(f"--labels {path}: line {table.line_num}: {unknown_class(label, classes)}")
                if found.setdefault(name, ids[label]) != label:
                    raise UsageError(
                        f"--labels {path}: line {table.line_num}: {name} is {found[name]!r} in an earlier line and "
                        f"{label!r} here; delete one"
                    )
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"--labels {path}: can't be read ({reason}); give a CSV file, or {FOLDER!r}") from None
    except csv.Error as error:
        raise UsageError(f"--labels {path}: isn't CSV ({error}); its first line must be file,class") from None
    return found


def unknown_class(label: str | None, classes: Collection[str]) -> str:
    """What is wrong with a class, and what it may have been meant to be."""
    near = get_close_matches(label or "", classes, n=1)
    known = ", ".join(list(classes)[:SHOWN]) + (", ..." if len(classes) > SHOWN else "")
    mend = f"did you mean {near[0]!r}?" if near else f"known are {known}"
    return f"class {label!r} is none of the ensemble's {len(classes)}; {mend}"
