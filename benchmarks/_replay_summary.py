"""From the regrets of many searches to means with confidence bands, a table and a picture."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks._replay_clock import GRID
from trainable.errors import UserError

RESAMPLES = 2000
SHARES = (0.25, 0.5, 1.0)
"""Of the budget, in the table."""
STROKES = ("-", "--", ":")
"""Of the first ten methods in the picture, the next ten, and so on."""


class Group(NamedTuple):
    """Searches that are averaged."""

    protocol: str
    slots: int
    method: str


class Band(NamedTuple):
    """Mean regret at each share of the budget, with its 95 % confidence interval."""

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def at(self, share: float) -> str:
        """`0.123 ±0.010` at a share of the budget."""
        index = GRID.index(share)
        return f"{self.mean[index]:.3f} ±{(self.high[index] - self.low[index]) / 2:.3f}"


def grouped(records: Iterable[dict[str, Any]]) -> dict[Group, list[dict[str, Any]]]:
    """The records of each method, protocol and number of slots, in the order in which they come."""
    groups: dict[Group, list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault(Group(record["protocol"], record["slots"], record["method"]), []).append(record)
    return groups


def band_of(records: list[dict[str, Any]]) -> Band:
    """Mean over tables and seeds; the interval comes from drawing the seeds of each table anew (bootstrap).

    The tables are kept: the interval speaks of these tables, not of tasks at large.
    """
    rng = np.random.default_rng(0)
    tables: dict[str, list[list[float]]] = {}
    for record in records:
        tables.setdefault(record["table"], []).append(record["regret"])
    means = [np.mean(regrets, axis=0) for regrets in tables.values()]
    draws = [
        np.array(regrets)[rng.integers(len(regrets), size=(RESAMPLES, len(regrets)))].mean(axis=1)
        for regrets in tables.values()
    ]
    low, high = np.quantile(np.mean(draws, axis=0), [0.025, 0.975], axis=0)
    return Band(np.mean(means, axis=0), low, high)


def table_rows(groups: Mapping[Group, list[dict[str, Any]]]) -> list[dict[str, str]]:
    """One line a method, for `compare.report`; then one for each name with several settings."""
    bands = {group: band_of(members) for group, members in groups.items()}
    rows = [
        {"method": group.method}
        | {f"{share:.0%}": bands[group].at(share) for share in SHARES}
        | {"trials": f"{np.mean([each['trials'] for each in members]):.0f}"}
        | {"ask ms": f"{np.mean([each['ask_ms'][-1] for each in members]):.1f}"}
        for group, members in groups.items()
    ]
    return rows + best_setting_rows({group.method: band for group, band in bands.items()})


def best_setting_rows(bands: Mapping[str, Band]) -> list[dict[str, str]]:
    """The best that a name reached at each share with any of its settings, NAME or NAME:FIRST_RUNG:FACTOR.

    That is hindsight: nobody knows the best setting beforehand.
    """
    names: dict[str, list[Band]] = {}
    for method, band in bands.items():
        names.setdefault(method.split(":")[0], []).append(band)
    return [
        {"method": f"{name}, best setting"}
        | {f"{share:.0%}": min(settings, key=lambda band: band.mean[GRID.index(share)]).at(share) for share in SHARES}
        | {"trials": "", "ask ms": ""}
        for name, settings in names.items()
        if len(settings) > 1
    ]


def draw(records: Iterable[dict[str, Any]], file: Path) -> None:
    """Regret against budget, a panel for each protocol and number of slots.

    Raises:
        UserError: There is no matplotlib.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        raise UserError("--plot needs matplotlib; pip install matplotlib, or leave --plot out") from None
    mpl.use("Agg")
    from matplotlib import pyplot

    bands = {group: band_of(members) for group, members in grouped(records).items()}
    panels = sorted({group[:2] for group in bands})
    methods = list(dict.fromkeys(group.method for group in bands))
    styles = {name: {"color": f"C{at % 10}", "linestyle": STROKES[at // 10 % 3]} for at, name in enumerate(methods)}
    figure, axes = pyplot.subplots(1, len(panels), figsize=(6 * len(panels), 4.5), sharey=True, squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=True):
        for group, band in bands.items():
            if group[:2] == panel:
                style = styles[group.method]
                axis.plot(GRID, band.mean, **style, label=group.method)
                axis.fill_between(GRID, band.low, band.high, color=style["color"], alpha=0.12, linewidth=0)
        axis.set(title=f"{panel[0]}, {panel[1]} slots", xlabel="share of the budget", yscale="log")
        axis.grid(alpha=0.3, which="both")
    axes[0][0].set_ylabel("mean normalised regret, 95 % band over seeds")
    axes[0][-1].legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    figure.savefig(file, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
