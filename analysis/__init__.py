"""What a search found: read it, choose an ensemble, export it, predict with it. Needs no Ray.

    from analysis import load_ensemble
    probabilities = load_ensemble("runs/NAME/ensemble").predict(images)

Importing this package imports no torch: each name is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.ensemble import Ensemble, load_ensemble
    from analysis.experiment import load_experiment
    from analysis.select import Members, choose_members

__all__ = ["Ensemble", "Members", "choose_members", "load_ensemble", "load_experiment"]

_HOME = {
    "Ensemble": "analysis.ensemble",
    "Members": "analysis.select",
    "choose_members": "analysis.select",
    "load_ensemble": "analysis.ensemble",
    "load_experiment": "analysis.experiment",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
