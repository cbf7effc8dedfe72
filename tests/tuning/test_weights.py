"""Which weights stay: real files, made-up trials."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from trainable import metrics
from trainable.files import BEST, MODEL, PREDICTIONS, RECORD, STATE
from tuning.engine import Status
from tuning.executor import Executor
from tuning.first import read_configuration
from tuning.past import read_past
from tuning.plan import Limits
from tuning.storage import create_experiment, experiment_id
from tuning.weights import WeightKeeper

PLENTY = Limits(keep=2, most_bytes=10**9, free_bytes=0)


class FakeTrial(SimpleNamespace):
    """What Ray hands to a callback."""

    __hash__ = object.__hash__
    run_metadata = SimpleNamespace(checkpoint_manager=SimpleNamespace(_checkpoint_results=[]))

    def __str__(self) -> str:
        return self.name


@pytest.fixture
def finish(tmp_path, leave_checkpoint):
    """`finish(3, 0.7)`: a trial that has ended with this best top-1, and its checkpoint; `epochs` are the full length.

    The best epoch is the first, the newest the second.
    """

    def make(number: int, top1: float, arch: str = "vit", status: str = "TERMINATED", epochs: int = 4) -> FakeTrial:
        name = f"{number:04}-{arch}"
        (leave_checkpoint(tmp_path / name, 0, 2) / BEST).write_text("best")
        last = {metrics.BEST_TOP1: top1, metrics.EPOCH: 2, metrics.BEST_EPOCH: 1}
        return FakeTrial(name=name, status=status, config={"arch": arch, "epochs": epochs}, last_result=last)

    return make


def checkpoint_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*/checkpoint_*/*"))


def with_file(folder: Path, name: str) -> set[str]:
    return {path.parent.parent.name[:4] for path in folder.rglob(name)}


def test_only_the_best_ended_trials_and_one_of_each_architecture_keep_their_weights(tmp_path, finish):
    trials = [finish(1, 0.5), finish(2, 0.9), finish(3, 0.7), finish(4, 0.1, "swin")]
    finish(5, 0.0, status="RUNNING")
    keeper = WeightKeeper(tmp_path, PLENTY, print)
    for trial in trials:
        keeper.on_trial_complete(0, trials, trial)
    assert with_file(tmp_path, MODEL) == {"0002", "0003", "0004", "0005"}
    assert len(list(tmp_path.rglob("trial.json"))) == 5


def test_a_trial_of_full_length_keeps_what_can_become_a_member_and_nothing_to_go_on_from(tmp_path, finish):
    trial = finish(1, 0.5, epochs=2)
    WeightKeeper(tmp_path, PLENTY, print).on_trial_complete(0, [trial], trial)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {BEST, MODEL, "trial.json"}


def test_an_ended_or_paused_trial_keeps_its_newest_checkpoint_only(tmp_path, finish, leave_checkpoint, paused):
    ended, waiting, running = finish(1, 0.5), finish(2, 0.4, status="PAUSED"), finish(3, 0.3, status="RUNNING")
    trials = [ended, waiting, running]
    for trial in trials:
        leave_checkpoint(tmp_path / str(trial), 1, 3)
    keeper = WeightKeeper(tmp_path, PLENTY, print, paused)
    for trial in trials:
        keeper.on_trial_save(0, trials, trial)
    keeper.on_trial_complete(0, trials, ended)
    keeper.on_step_end(0, trials)
    left = {str(trial): sorted(path.name[-1] for path in (tmp_path / str(trial)).iterdir()) for trial in trials}
    assert left == {"0001-vit": ["1"], "0002-vit": ["1"], "0003-vit": ["0", "1"]}


def test_nothing_of_a_trial_is_deleted_before_its_last_checkpoint_is_written(
    tmp_path, finish, leave_checkpoint, paused
):
    ended, waiting = finish(1, 0.5, epochs=3), finish(2, 0.4, status="PAUSED")
    trials, records = [ended, waiting], {}
    for trial in trials:
        trial.last_result[metrics.EPOCH] = 3
        record = leave_checkpoint(tmp_path / str(trial), 1, 3) / RECORD
        records[record] = record.read_text()
        record.unlink()
    everything = set(tmp_path.rglob("*"))
    keeper = WeightKeeper(tmp_path, PLENTY, print, paused)
    for trial in trials:
        keeper.on_trial_save(0, trials, trial)
    keeper.on_trial_complete(0, trials, ended)
    keeper.on_step_end(0, trials)
    assert set(tmp_path.rglob("*")) == everything
    for record, text in records.items():
        record.write_text(text)
    keeper.on_step_end(0, trials)
    left = {str(trial): sorted(path.name[-1] for path in (tmp_path / str(trial)).iterdir()) for trial in trials}
    assert left == {"0001-vit": ["1"], "0002-vit": ["1"]}
    assert with_file(tmp_path, STATE) >= {"0002"}
    assert not (tmp_path / "0001-vit/checkpoint_000001" / STATE).exists()


def test_a_checkpoint_whose_process_ended_too_early_goes_at_the_end_and_the_one_before_it_stays(
    tmp_path, finish, leave_checkpoint
):
    trial, said = finish(1, 0.5), []
    (leave_checkpoint(tmp_path / str(trial), 1, 3) / RECORD).unlink()
    keeper = WeightKeeper(tmp_path, PLENTY, said.append)
    keeper.on_trial_save(0, [trial], trial)
    keeper.on_trial_complete(0, [trial], trial)
    keeper.on_experiment_end([trial])
    assert [path.name for path in (tmp_path / str(trial)).iterdir()] == ["checkpoint_000000"]
    assert said == ["0001-vit: its process ended while its last checkpoint was written; the one before it counts"]


@pytest.fixture
def paused(make_plan, tmp_path, leave_trial) -> Executor:
    """A resumed search with three trials that wait at the first rung."""
    plan = make_plan(output=tmp_path, scheduler="asha", trials=3)
    create_experiment(plan, {})
    for number, score in enumerate((0.5, 0.1, 0.9), 1):
        leave_trial(plan.folder, number, read_configuration(plan.space, f"lr={number}e-4"), [score])
    return Executor(plan, 1, read_past(plan.folder, experiment_id(plan.folder)))


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (lambda size: Limits(2, most_bytes=size - 1, free_bytes=0), "--max-size"),
        (lambda size: Limits(2, most_bytes=10**9, free_bytes=10**18), "no trial begins until there is more"),
    ],
)
def test_where_room_is_short_the_least_promising_paused_trial_gives_its_weights_up(paused, limits, told):
    said: list[str] = []
    keeper = WeightKeeper(paused.plan.folder, limits(checkpoint_bytes(paused.plan.folder)), said.append, paused)
    keeper.on_step_end(0, [])
    assert with_file(paused.plan.folder, STATE) == {"0001", "0003"}
    assert [trial.status for trial in paused.engine.trials.values()] == [Status.PAUSED, Status.ENDED, Status.PAUSED]
    assert any(told in text for text in said)
    keeper.on_step_end(0, [])
    assert with_file(paused.plan.folder, STATE) == {"0001", "0003"}, "looked at again only after a while"


def test_no_trial_begins_on_a_full_disk_until_there_is_room(tmp_path):
    said: list[str] = []
    keeper = WeightKeeper(tmp_path, Limits(2, 10**9, free_bytes=10**18), said.append)
    keeper.on_step_end(0, [])
    assert keeper.is_full
    keeper.limits = PLENTY
    keeper.on_step_end(0, [])
    assert not keeper.is_full
    assert [text.rpartition(": ")[2] for text in said] == [
        "no trial begins until there is more; running ones go on",
        "trials begin again",
    ]


def test_a_resumed_search_ranks_the_trials_that_ended_before(paused):
    folder = paused.plan.folder
    WeightKeeper(folder, Limits(1, 10**9, 0), print, paused, read_past(folder, experiment_id(folder)))
    assert with_file(folder, STATE) == {"0003"}


def test_as_many_paused_trials_end_at_once_as_it_takes_and_keep_predictions_and_record(paused):
    folder = paused.plan.folder
    for path in folder.glob("*/checkpoint_*"):
        (path / PREDICTIONS).write_text("logits")
        (path / STATE).write_text("x" * 10_000)
    said: list[str] = []
    most = checkpoint_bytes(folder) - 11_000
    keeper = WeightKeeper(folder, Limits(2, most, 0), said.append, paused)
    keeper.on_step_end(0, [])
    assert with_file(folder, STATE) == with_file(folder, MODEL) == {"0003"}
    assert with_file(folder, PREDICTIONS) == with_file(folder, RECORD) == {"0001", "0002", "0003"}
    assert checkpoint_bytes(folder) <= most
    assert [text.split(" ")[0][:4] for text in said] == ["0002", "0001"]


def test_it_looks_again_after_a_save_and_leaves_running_trials_alone(paused, leave_checkpoint):
    folder, said = paused.plan.folder, []
    for path in folder.glob("*/checkpoint_*"):
        (path / STATE).write_text("x" * 10_000)
    keeper = WeightKeeper(folder, Limits(2, checkpoint_bytes(folder), 0), said.append, paused)
    keeper.on_step_end(0, [])
    assert said == []
    leave_checkpoint(folder / "0004-vit", 0, 1)
    running = FakeTrial(name="0004-vit", status="RUNNING")
    keeper.on_trial_save(0, [running], running)
    keeper.on_step_end(0, [running])
    assert with_file(folder, STATE) == {"0001", "0003", "0004"}


def test_a_full_disk_costs_one_paused_trial_in_a_while(paused):
    """What fills it may be another program's, and gone in a minute."""
    keeper = WeightKeeper(paused.plan.folder, Limits(2, 10**9, free_bytes=10**18), print, paused)
    for _ in range(3):
        assert keeper.is_held()
    assert [trial.status for trial in paused.engine.trials.values()].count(Status.ENDED) == 1


def test_where_ray_decides_older_checkpoints_of_paused_trials_stay(tmp_path, finish, leave_checkpoint):
    """Population-based training copies the one that a trial had when it was measured."""
    trial = finish(1, 0.5, status="PAUSED")
    leave_checkpoint(tmp_path / str(trial), 1, 3)
    keeper = WeightKeeper(tmp_path, PLENTY, print)
    keeper.on_trial_save(0, [trial], trial)
    keeper.on_step_end(0, [trial])
    assert len(list((tmp_path / str(trial)).iterdir())) == 2
