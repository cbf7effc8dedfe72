"""What a search found: read it, choose an ensemble, export it, report, predict with it. Only the server needs Ray.

    from analysis import load_ensemble
    probabilities = load_ensemble("runs/NAME/ensemble").predict(images)

Importing this package imports no torch: each name is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.ensemble import Ensemble, Votes, load_ensemble
    from analysis.experiment import load_experiment
    from analysis.report import write_report

__all__ = ["Ensemble", "Votes", "load_ensemble", "load_experiment", "write_report"]

_HOME = {
    "Ensemble": "analysis.ensemble",
    "Votes": "analysis.ensemble",
    "load_ensemble": "analysis.ensemble",
    "load_experiment": "analysis.experiment",
    "write_report": "analysis.report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
