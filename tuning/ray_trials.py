"""Ray's trial objects: of new trials, and of those that go on from what is in their folders."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ray.train._internal.session import _TrainingResult
from ray.tune import Checkpoint
from ray.tune.experiment import Trial
from ray.tune.experiment.config_parser import _create_trial_from_spec
from ray.tune.search.variant_generator import format_vars

from trainable.address import patiently
from trainable.files import write_text
from tuning.past import PARAMS, PastTrial, checkpoint_step, configuration_text, drop_broken, whole_checkpoints


class NewTrial(NamedTuple):
    """A trial to be made: Ray's id of it, its place in the order of proposals, and the values of its space."""

    key: str
    number: int
    config: dict[str, Any]


def make_trial(spec: dict[str, Any], parser: Any, new: NewTrial) -> Trial:
    """As Ray makes one from the experiment's `spec`, but with an id of ours."""
    trial = _create_trial_from_spec(
        spec | {"config": spec["config"] | new.config},
        parser,
        evaluated_params=new.config,
        experiment_tag=f"{new.number}_{format_vars(new.config)}",
        trial_id=new.key,
    )
    storage: Any = trial.storage
    trial.relative_logdir = storage.trial_dir_name = str(trial)  # else a trial that is tried again gets another folder
    return trial


def trial_from_files(spec: dict[str, Any], parser: Any, past: PastTrial) -> Trial:
    """The trial of that folder, which goes on from its newest good checkpoint, or from the start if it has none."""
    trial = make_trial(spec, parser, NewTrial(past.key, past.number, past.config))
    checkpoints: Any = trial.run_metadata.checkpoint_manager
    storage: Any = trial.storage
    patiently(partial(drop_broken, past.kept))
    steps = patiently(lambda: [(folder, checkpoint_step(folder)) for folder in whole_checkpoints(past.kept)])
    for folder, step in steps:
        record = dict(past.records.get(step, {}))
        checkpoint = Checkpoint(str(folder) if isinstance(folder, Path) else folder.path, storage.storage_filesystem)
        checkpoints.register_checkpoint(_TrainingResult(checkpoint, record))
        trial.run_metadata.last_result = record
        storage.current_checkpoint_index = int(folder.name.split("_")[-1])
    return trial


def write_configuration(trial: Trial, experiment: Path) -> Path:
    """Make the trial's folder below `experiment`, with its params.json: from then on it has started."""
    folder = experiment / str(trial)
    folder.mkdir(exist_ok=True)
    write_text(folder / PARAMS, configuration_text(trial.config))
    return folder
