"""What earlier experiments found, as knowledge for a new search: their trials and what these scored at each epoch."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from search_spaces import Dimension, Space, SpaceError, contains, usual_geometry
from search_spaces.space import admits, applies
from trainable import metrics
from trainable.errors import UsageError, UserError
from trainable.experiment_lock import is_running
from trainable.ranking import rank_score
from tuning.plan import SearchPlan
from tuning.storage import EXPERIMENT, find_experiment, read_experiment, read_records

OWN_BUSINESS = ("data", "cache_dir", "cache_bytes", "skip_bad_images", "data_on", "precision", "seed")
"""What trials may have otherwise and still compare; the images are told by their fingerprint."""
MOST_PROMISING = 5
"""Earlier trials with other images that are tried again first."""


class Earlier(NamedTuple):
    """A trial of an earlier experiment."""

    name: str
    config: dict[str, Any]
    """The values that the new space also has."""
    curve: dict[float, float]
    """Score after each step."""
    compares: bool
    """Whether it had the same images, size and length, so that its scores stand beside those of the new search."""


def find_earlier(names: Iterable[str], output: Path, space: Space) -> list[Path]:
    """The folders of the experiments to start from.

    Raises:
        UsageError: One is not there, still runs, or shares no dimension with the space.
        UserError: One can't be read.
    """
    folders = []
    for name in names:
        try:
            folder = find_experiment(name, output)
        except UsageError as error:
            raise UsageError(str(error).replace("--resume", "--warm-start", 1)) from None
        old = read_experiment(folder)
        if is_running(folder):
            raise UsageError(f"--warm-start {name}: still runs; wait until it has ended, or stop it")
        shared = {each.name for each in old.space.dimensions} & {each.name for each in space.dimensions}
        if not shared:
            raise UsageError(f"--warm-start {name}: its space {old.space.name} shares no dimension with {space.name}")
        folders.append(folder)
    return folders


def read_earlier(plan: SearchPlan, dataset: str) -> list[Earlier]:
    """The trials of the plan's earlier experiments whose values lie in its space.

    Args:
        plan: Names the experiments.
        dataset: Fingerprint of the images of the new search.
    """
    return [trial for folder in plan.warm_start for trial in _trials(folder, plan, dataset)]


def describe_earlier(earlier: Sequence[Earlier]) -> str:
    """`12 earlier trials, 4 of them on other images or another length and only a prior`."""
    others = sum(not trial.compares for trial in earlier)
    text = f"{len(earlier)} earlier trials"
    return f"{text}, {others} of them with other images or another length: only a prior" if others else text


def whole_configurations(space: Space, earlier: Iterable[Earlier]) -> list[Earlier]:
    """The trials that have a value for every dimension, as a sampler needs it."""
    return [trial for trial in earlier if _is_whole(space, trial.config)]


def promising(earlier: Sequence[Earlier], trials: int | None = None) -> list[dict[str, Any]]:
    """The configurations of the best `MOST_PROMISING` trials, by their highest score; at most a quarter of `trials`."""
    ranked = sorted(earlier, key=lambda trial: -max(trial.curve.values()))
    most = MOST_PROMISING if trials is None else min(MOST_PROMISING, trials // 4)
    return [trial.config for trial in ranked[:most]]


def _is_whole(space: Space, config: dict[str, Any]) -> bool:
    try:
        contains(space, config)
    except SpaceError:
        return False
    return True


def _trials(folder: Path, plan: SearchPlan, dataset: str) -> list[Earlier]:
    old = read_experiment(folder)
    compares = _fingerprint(folder) == dataset and _shared(old) == _shared(plan)
    curves: dict[str, dict[float, float]] = {}
    configs: dict[str, dict[str, Any]] = {}
    for record in read_records(folder):
        if metrics.SCORE in record and metrics.EPOCH in record and "config" in record:
            curves.setdefault(record["trial_name"], {})[metrics.step_of(record)] = rank_score(record)
            configs[record["trial_name"]] = record["config"]
    side = old.work.image_size if old.work else old.trial.get("image_size")
    fitting = {name: _fitting(_with_geometry(config, side), plan.space) for name, config in configs.items()}
    return [
        Earlier(f"{folder.name}/{name}", config, curves[name], compares)
        for name, config in fitting.items()
        if config is not None
    ]


def _with_geometry(config: dict[str, Any], image_size: int | None) -> dict[str, Any]:
    """The configuration with the geometry that it had without naming it, if the images' side is known."""
    return config if image_size is None else usual_geometry(str(config.get("arch")), image_size) | config


def _shared(plan: SearchPlan) -> dict[str, Any]:
    kept = {name: value for name, value in plan.trial.items() if name not in OWN_BUSINESS}
    return kept | {"epochs": plan.epochs, "steps": plan.length}


def _fingerprint(folder: Path) -> str:
    try:
        return str(json.loads((folder / EXPERIMENT).read_text())["dataset"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder / EXPERIMENT}: names no data set ({error}); leave it out of --warm-start") from None


def _fitting(config: dict[str, Any], space: Space) -> dict[str, Any] | None:
    """The values of the space's dimensions; None where one lies outside, or a fixed value differs."""
    if any(config.get(name, value) != value for name, value in space.fixed.items()):
        return None
    values = {each.name: config[each.name] for each in space.dimensions if config.get(each.name) is not None}
    inside = all(admits(each, values[each.name]) for each in space.dimensions if each.name in values)
    return _applying(values, space.dimensions, space.fixed) if values and inside else None


def _applying(values: dict[str, Any], dimensions: Sequence[Dimension], fixed: dict[str, Any]) -> dict[str, Any]:
    """Without the values of dimensions whose condition doesn't hold."""
    seen = dict(fixed)
    for each in dimensions:
        if each.name in values and applies(each, seen):
            seen[each.name] = values[each.name]
    return {name: value for name, value in seen.items() if name in values}
