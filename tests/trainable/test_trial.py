import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from ray.train._internal.storage import StorageContext

from trainable import metrics, time_split
from trainable import trial as trial_module
from trainable.checkpoint import MODEL, RECORD, STATE
from trainable.config import TrialConfig
from trainable.data.dataset import open_dataset
from trainable.files import wait_until_written
from trainable.training import Training, cpu_weights
from trainable.trial import Trial

TIMES = {
    metrics.IMAGES_PER_SECOND,
    metrics.PEAK_MEMORY,
    *time_split.PARTS,
    metrics.SECONDS_TRAIN,
    metrics.SECONDS_EVAL,
    metrics.SECONDS_CHECKPOINT,
}
KEYS = {value for name, value in vars(metrics).items() if name.isupper() and name != "SCORE_MODE"}


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    """Ray's results stay out of the home folder; torch's threads, which a trial sets, are set back."""
    monkeypatch.setenv("RAY_AIR_LOCAL_CACHE_DIR", str(tmp_path_factory.mktemp("ray")))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def config(colour_folder: Path) -> dict:
    """What Ray hands over: a flat dict of plain values."""
    return {
        "data": str(colour_folder),
        "arch": "test_resnet",
        "epochs": 3,
        "batch_size": 32,
        "lr": 1e-3,
        "drop_rate": 0.1,
        "mix_prob": 1.0,
    }


@pytest.fixture
def new_trial():
    """Builds trials as Ray's actor does, and stops them after the test."""
    trials = []

    def build(config: dict) -> Trial:
        trials.append(Trial(config))
        return trials[-1]

    yield build
    for trial in trials:
        trial.stop()


def record_of(result: dict) -> dict:
    """What of a result can be compared between runs."""
    return {key: result[key] for key in KEYS - TIMES}


def weights_of(trial: Trial) -> dict[str, torch.Tensor]:
    return cpu_weights(trial.training.machinery.model)


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def test_a_step_is_an_epoch_and_the_last_one_says_done(new_trial, config: dict) -> None:
    trial = new_trial(config)
    results = [trial.train() for _ in range(3)]
    assert [result["done"] for result in results] == [False, False, True]
    assert [result[metrics.EPOCH] for result in results] == [1, 2, 3]
    assert [result["training_iteration"] for result in results] == [1, 2, 3]
    assert set(results[0]) >= KEYS


def test_a_result_can_be_written_as_json(new_trial, config: dict) -> None:
    result = new_trial(config).train()
    assert {type(result[key]) for key in KEYS} <= {int, float, bool}
    json.dumps({key: result[key] for key in KEYS})


def test_a_trial_trains_on_train_and_is_scored_on_select(new_trial, config: dict) -> None:
    trial = new_trial(config)
    splits = trial.training.dataset.splits
    assert set(trial.training.order.rows) == set(splits.train)
    assert set(trial.training.held_out_rows) == set(splits.select)


def test_a_trial_does_what_a_training_without_ray_does(new_trial, config: dict) -> None:
    trial = new_trial(config)
    result = trial.train()
    validated = TrialConfig.model_validate(config)
    dataset = open_dataset(validated.data, progress=False)
    training = Training(validated, dataset, dataset.splits.train, dataset.splits.select, torch.device("cpu"))
    record = training.run_step()
    assert record_of(result) == record_of(record)
    assert_same(weights_of(trial), cpu_weights(training.machinery.model))


def test_a_trial_restored_in_another_process_goes_on_as_if_undisturbed(new_trial, config: dict, tmp_path: Path) -> None:
    undisturbed, paused, restored = new_trial(config), new_trial(config), new_trial(config)
    expected = [record_of(undisturbed.train()) for _ in range(3)]
    paused.train()
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    saved = paused.save(str(folder))
    assert {MODEL, STATE, RECORD} <= {file.name for file in folder.iterdir()}
    restored.restore(saved)
    results = [restored.train() for _ in range(2)]
    assert [record_of(result) for result in results] == expected[1:]
    assert results[-1]["done"]
    assert results[-1]["training_iteration"] == 3
    assert_same(weights_of(restored), weights_of(undisturbed))


def test_a_trial_that_takes_over_another_configuration_equals_a_fresh_one(new_trial, config: dict) -> None:
    other = config | {"arch": "test_vit", "lr": 2e-3, "seed": 5, "ema_decay": 0.9}
    fresh, reused = new_trial(other), new_trial(config)
    reused.train()
    assert reused.reset(other)
    assert reused.config == other
    results = [[record_of(trial.train()) for _ in range(2)] for trial in (fresh, reused)]
    assert results[0] == results[1]
    assert_same(weights_of(fresh), weights_of(reused))


def test_a_trial_that_takes_over_can_go_on_from_a_checkpoint(new_trial, config: dict, tmp_path: Path) -> None:
    """What promotion does: an actor that trained another trial resumes a paused one."""
    undisturbed, actor = new_trial(config), new_trial(config)
    undisturbed.train()
    actor.train()
    saved = actor.save(str(tmp_path))
    actor.reset(config | {"arch": "test_vit"})
    actor.train()
    actor.reset(config)
    actor.restore(saved)
    assert record_of(actor.train()) == record_of(undisturbed.train())
    assert_same(weights_of(actor), weights_of(undisturbed))


@pytest.fixture
def stored(config: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Trial, threading.Event]]:
    """A trial whose checkpoints are kept in a folder and are written once the event is set, as on a slow disk."""
    work = property(lambda self: str(tmp_path / "work"))  # Ray's own is in its session, which there is none of here
    monkeypatch.setattr(StorageContext, "trial_working_directory", work)
    monkeypatch.setenv("RAY_CHDIR_TO_TRIAL_DIR", "0")
    place = StorageContext(str(tmp_path), "experiment", trial_dir_name="0001-trial")
    trial, may_write = Trial(config, storage=place), threading.Event()
    take, trial.snapshot = trial.snapshot, lambda: waiting(may_write, take())
    Path(place.trial_fs_path).mkdir(parents=True)
    place._create_validation_file()
    yield trial, may_write
    may_write.set()
    trial.stop()


def waiting(event: threading.Event, write):
    """`write`, once the event is set."""

    def later(folder: Path) -> None:
        event.wait(60)
        write(folder)

    return later


def train_to_its_end(trial: Trial) -> None:
    while not trial.train()["done"]:
        pass


def test_the_last_checkpoint_of_a_trial_is_written_while_the_next_trial_trains(stored, config: dict) -> None:
    trial, may_write = stored
    train_to_its_end(trial)
    expected, other = weights_of(trial), config | {"seed": 7}
    folder = Path(trial.save().checkpoint.path)
    trial.reset(other, storage=trial._storage)
    result = trial.train()
    assert result[metrics.SECONDS_CHECKPOINT] == 0
    assert not (folder / RECORD).exists()
    may_write.set()
    trial.reset(config, storage=trial._storage)
    trial.restore(str(folder))  # waits until it is written
    assert (folder / RECORD).exists()
    assert_same(weights_of(trial), expected)
    assert trial.training.epoch == 3


def test_an_epoch_waits_for_the_checkpoint_of_its_own_trial(stored) -> None:
    trial, may_write = stored
    trial.train()
    trial._is_due = False
    folder = Path(trial.save().checkpoint.path)
    threading.Timer(0.3, may_write.set).start()
    result = trial.train()
    assert json.loads((folder / RECORD).read_text())["best_epoch"] == 1
    assert result[metrics.SECONDS_CHECKPOINT] < 0.3


def test_a_checkpoint_that_an_epoch_asked_for_is_there_when_ray_hears_of_it(stored) -> None:
    trial, may_write = stored
    assert trial.train()["should_checkpoint"]
    threading.Timer(0.3, may_write.set).start()
    folder = Path(trial.save().checkpoint.path)
    assert (folder / RECORD).exists()
    assert trial.train()[metrics.SECONDS_CHECKPOINT] >= 0.3


def test_a_checkpoint_that_could_not_be_written_leaves_nothing_and_is_told_at_the_next(stored) -> None:
    trial, may_write = stored
    train_to_its_end(trial)

    def fail(folder: Path) -> None:
        (folder / MODEL).write_text("half")
        raise OSError("No space left on device")

    take, trial.snapshot = trial.snapshot, lambda: fail
    folder = Path(trial.save().checkpoint.path)
    trial.snapshot = take
    with pytest.raises(OSError, match="No space left"):
        trial.save()
    assert not folder.exists()
    may_write.set()
    again = Path(trial.save().checkpoint.path)
    wait_until_written(again)
    assert {MODEL, RECORD} < {path.name for path in again.iterdir()}


def test_a_restored_trial_is_never_given_initial_weights(new_trial, config: dict, tmp_path: Path) -> None:
    saved = new_trial(config)
    saved.train()
    result = saved.save(str(tmp_path))
    (tmp_path / STATE).unlink()
    trial = new_trial(config)
    with pytest.raises(FileNotFoundError):
        trial.restore(result)
    assert "training" not in vars(trial), "one without weights"


def test_trials_of_one_actor_share_the_open_data_set(new_trial, config: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = new_trial(config)
    opened = trial.training.dataset

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("opened again")

    monkeypatch.setattr(trial_module, "open_images_of", refuse)
    trial.reset(config | {"lr": 0.1, "arch": "test_vit"})
    assert trial.training.dataset is opened
    with pytest.raises(AssertionError, match="opened again"):
        trial.reset(config | {"image_size": 64})


def test_a_diverged_trial_is_done_at_once_with_score_0(new_trial, config: dict, tmp_path: Path) -> None:
    trial = new_trial(config | {"lr": 1e30, "clip_grad": None, "warmup_epochs": 0})
    result = trial.train()
    assert result["done"]
    assert result[metrics.DIVERGED] is True
    assert result[metrics.SCORE] == 0
    trial.save(str(tmp_path))  # its predictions and record are kept like any other's
    assert (tmp_path / RECORD).exists()


def test_an_actor_uses_as_many_threads_as_its_slot_has_cores(new_trial, config: dict, monkeypatch) -> None:
    monkeypatch.setattr(Trial, "_slot", lambda self: {"CPU": 2.0})
    new_trial(config)
    assert torch.get_num_threads() == 2
    monkeypatch.setattr(Trial, "_slot", lambda self: {})
    new_trial(config)
    assert torch.get_num_threads() == 1


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_memory_does_not_grow_from_trial_to_trial(new_trial, config: dict) -> None:
    resnet = config | {"arch": "resnet18", "batch_size": 8, "image_size": 32, "augment": "none"}
    weights_bytes = 11e6 * 4
    trial = new_trial(resnet)
    trial.training.machinery.optimizer.step()
    sizes = []
    for seed in range(6):
        trial.reset(resnet | {"seed": seed % 2})
        images = torch.zeros(2, 3, 32, 32)
        trial.training.machinery.model(images).sum().backward()
        trial.training.machinery.optimizer.step()  # now it holds gradients and two moments as well
        trial.training.best_weights = cpu_weights(trial.training.machinery.model)
        sizes.append(resident_bytes())
    # a trial holds five copies of the weights; keeping one copy of each would add four over the last four
    assert sizes[-1] - sizes[1] < 2 * weights_bytes


IN_A_FRESH_PROCESS = """
import json, pickle, sys
from pathlib import Path
from trainable.training import cpu_weights
from trainable.trial import Trial

config, output = json.loads(sys.argv[1]), Path(sys.argv[2])
trial = Trial(config)
records = [trial.train() for _ in range(2)]
output.write_bytes(pickle.dumps((records, cpu_weights(trial.training.machinery.model))))
"""


def test_the_fourth_trial_of_an_actor_equals_the_same_one_in_a_fresh_process(
    new_trial, config: dict, tmp_path: Path
) -> None:
    last = config | {"arch": "test_resnet", "lr": 2e-3, "seed": 9, "drop_rate": 0.3, "augment": "full"}
    reused = new_trial(config | {"arch": "test_vit", "ema_decay": 0.9})
    reused.train()
    for other in ({"seed": 4, "mix_prob": 0.0}, {"arch": "test_vit", "batch_size": 16, "augment": "none"}):
        assert reused.reset(config | other)
        reused.train()
    assert reused.reset(last)
    results = [record_of(reused.train()) for _ in range(2)]
    command = [sys.executable, "-c", IN_A_FRESH_PROCESS, json.dumps(last), str(tmp_path / "fresh")]
    subprocess.run(command, check=True, timeout=120)
    fresh_records, fresh_weights = pickle.loads((tmp_path / "fresh").read_bytes())
    assert results == [record_of(record) for record in fresh_records]
    assert_same(weights_of(reused), fresh_weights)
