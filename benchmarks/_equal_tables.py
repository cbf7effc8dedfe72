"""From the runs of `benchmarks.equal_seconds` to means with standard errors, a table and a picture."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from benchmarks._equal_sides import OURS

Record = dict[str, Any]
POINTS = 100
"""Percentage points in a share of 1."""


class Group(NamedTuple):
    """Runs that are compared with each other."""

    data: str
    image_size: int
    space: str
    seconds: float


class Mean(NamedTuple):
    """Over seeds."""

    mean: float
    error: float | None
    """The mean's standard error; None of a single value."""

    def text(self, digits: int) -> str:
        """`61.2 ± 0.8`."""
        error = "" if self.error is None else f" ± {self.error:.{digits}f}"
        return f"{self.mean:.{digits}f}{error}"


Runs = dict[str, dict[int, Record]]
"""The runs of a group by side and seed."""


def mean_of(values: Sequence[float]) -> Mean:
    """Of at least one value."""
    error = float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
    return Mean(float(np.mean(values)), error)


def grouped(records: Iterable[Record]) -> dict[Group, Runs]:
    """The runs that ended well, in the order in which they come."""
    groups: dict[Group, Runs] = {}
    for record in records:
        if "failed" not in record:
            sides = groups.setdefault(Group(*(record[name] for name in Group._fields)), {})
            sides.setdefault(record["side"], {})[record["seed"]] = record
    return groups


def top1_points(record: Record) -> float:
    """Top-1 on holdout in percentage points."""
    return POINTS * record["top1"]


def optimism_points(record: Record) -> float | None:
    """How much higher the images that chose put top-1; None if nothing was chosen."""
    return None if record["select_top1"] is None else POINTS * (record["select_top1"] - record["top1"])


COLUMNS: dict[str, tuple[Callable[[Record], float | None], int]] = {
    "top-1 %": (top1_points, 1),
    "balanced %": (lambda record: POINTS * record["balanced"] if record.get("balanced") is not None else None, 1),
    "log loss": (lambda record: record["loss"], 3),
    "wall s": (lambda record: record["wall_s"], 0),
    "trials": (lambda record: record["trials"], 0),
    "epochs": (lambda record: record["epochs"], 1),
    "busy %": (lambda record: POINTS * record["inside"], 0),
    "optimism": (optimism_points, 1),
}
"""Of the table: what it shows of a run, and with how many digits."""
WITH_ERROR = ("top-1 %", "balanced %", "log loss", "optimism")


def table_rows(groups: Mapping[Group, Runs]) -> list[dict[str, str]]:
    """A line for each side of each group, and one for each difference of ours to another; see `compare.report`."""
    rows = []
    for group, sides in groups.items():
        named = {"space": f"{Path(group.space).stem}, {group.seconds:g} s"}
        rows += [named | side_row(side, list(runs.values())) for side, runs in sides.items()]
        rows += [
            named | difference_row(side, sides[OURS], runs)
            for side, runs in sides.items()
            if side != OURS and sides.get(OURS, {}).keys() & runs.keys()
        ]
    return rows


def side_row(side: str, runs: Sequence[Record]) -> dict[str, str]:
    """The means of a side."""
    cells = {"side": side, "runs": str(len(runs))}
    for column, (value_of, digits) in COLUMNS.items():
        values = [value for run in runs if (value := value_of(run)) is not None]
        mean = mean_of(values) if values else None
        if mean is not None and column not in WITH_ERROR:
            mean = mean._replace(error=None)
        cells[column] = "" if mean is None else mean.text(digits)
    return cells


def difference_row(side: str, ours: Mapping[int, Record], theirs: Mapping[int, Record]) -> dict[str, str]:
    """Ours minus another side, seed by seed: in points and in nats."""
    cells = {"side": f"{OURS} - {side}", "runs": str(len(ours.keys() & theirs.keys()))} | dict.fromkeys(COLUMNS, "")
    for column in ("top-1 %", "log loss"):
        value_of, digits = COLUMNS[column]
        cells[column] = f"{difference(ours, theirs, value_of).text(digits)}"
    return cells


def difference(
    ours: Mapping[int, Record], theirs: Mapping[int, Record], value_of: Callable[[Record], float | None]
) -> Mean:
    """The mean of the differences over the seeds that both have."""
    pairs = [(value_of(ours[seed]), value_of(theirs[seed])) for seed in ours if seed in theirs]
    return mean_of([mine - other for mine, other in pairs if mine is not None and other is not None])


def draw(groups: Mapping[Group, Runs]) -> Figure:
    """Top-1 against seconds: a panel for each data set and space, a line a side with the mean's standard errors."""
    panels = list(dict.fromkeys(group[:3] for group in groups))
    names = list(dict.fromkeys(side for sides in groups.values() for side in sides))
    figure = Figure(figsize=(1 + 4 * len(panels), 4), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        own = {group.seconds: sides for group, sides in sorted(groups.items()) if group[:3] == panel}
        for number, name in enumerate(names):
            runs = {seconds: sides[name].values() for seconds, sides in own.items() if name in sides}
            means = [mean_of([top1_points(run) for run in those]) for those in runs.values()]
            heights, errors = [mean.mean for mean in means], [mean.error or 0.0 for mean in means]
            axis.errorbar(list(runs), heights, errors, label=name, color=f"C{number}", marker="o", capsize=3)
        data, image_size, space = panel
        axis.set(title=f"{data}, {image_size} px, {Path(space).stem}", xlabel="seconds", xscale="log")
        axis.set_xticks(list(own), [f"{seconds:g}" for seconds in own])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("top-1 on holdout, %, and its standard error")
    axes[-1].legend()
    return figure


def save(groups: Mapping[Group, Runs], file: Path) -> None:
    """Write the picture as a PNG."""
    draw(groups).savefig(file, format="png", dpi=120)
