"""Weights and checkpoints that try to run code, or to be what they aren't: refused in one line, and nothing runs."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainable.architectures import build_model
from trainable.checkpoint import load_checkpoint, read_single_run, save_checkpoint
from trainable.config import TrialConfig
from trainable.data.dataset import open_dataset
from trainable.errors import UserError
from trainable.files import CHECKSUMS, PREDICTIONS, STATE
from trainable.train import continue_run
from trainable.training import Training


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.made),)


def write_raw_pickle(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def write_legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return tmp_path / "made-by-the-pickle"


Write = Callable[[Any, Path], None]
WRITERS = pytest.mark.parametrize("write", [torch.save, write_legacy, write_raw_pickle])


def test_the_pickle_of_these_tests_does_run_code_where_it_is_trusted(made: Path) -> None:
    pickle.loads(pickle.dumps(Evil(made)))
    assert made.is_dir()


@WRITERS
def test_resuming_a_single_run_runs_no_code(write: Write, made: Path, tmp_path: Path) -> None:
    file = tmp_path / "latest.pth.tar"
    write({"config": {"data": "x"}, "state_dict": Evil(made)}, file)
    for resume in (lambda: read_single_run(file), lambda: continue_run(tmp_path, "cpu", None)):
        with pytest.raises(UserError, match=r"latest\.pth\.tar: ") as caught:
            resume()
        assert "\n" not in str(caught.value)
    assert not made.exists()


@WRITERS
def test_pretrained_weights_run_no_code(write: Write, made: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth.tar"
    write({"state_dict": {"x": Evil(made)}}, file)
    config = TrialConfig(data=tmp_path, arch="test_resnet", pretrained=file)
    with pytest.raises(UserError, match=r"weights\.pth\.tar\) .*a pickle of more than tensors .* give a \.safeten"):
        build_model(config, 2, 32)
    assert not made.exists()


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth", "weights.npz"])
def test_pretrained_weights_that_are_something_else_are_named(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(os.urandom(100))
    with pytest.raises(UserError, match=name):
        build_model(TrialConfig(data=tmp_path, arch="test_resnet", pretrained=file), 2, 32)


@pytest.fixture
def checkpoint(colour_folder: Path, tmp_path: Path) -> tuple[Training, Path]:
    """A training with one epoch behind it, and its checkpoint."""
    config = TrialConfig(data=colour_folder, arch="test_resnet", epochs=2, batch_size=32)
    dataset = open_dataset(colour_folder, progress=False)
    training = Training(config, dataset, dataset.splits.train, dataset.splits.select, torch.device("cpu"))
    training.run_step()
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    save_checkpoint(training, folder)
    return training, folder


def without_checksums(folder: Path) -> None:
    """As whoever writes a malicious checkpoint would: the record says nothing of the files."""
    record = folder / "trial.json"
    record.write_text(record.read_text().replace(f'"{CHECKSUMS}"', '"none"'))


def test_a_trials_state_runs_no_code(checkpoint: tuple[Training, Path], made: Path) -> None:
    training, folder = checkpoint
    torch.save({"epoch": Evil(made)}, folder / STATE)
    without_checksums(folder)
    with pytest.raises((UserError, pickle.UnpicklingError)):  # noqa: PT011, RUF100
        load_checkpoint(training, folder)
    assert not made.exists()


def test_a_trials_predictions_run_no_code(checkpoint: tuple[Training, Path], made: Path) -> None:
    training, folder = checkpoint
    np.savez(folder / PREDICTIONS, logits=np.array([Evil(made)], dtype=object), epoch=1)
    without_checksums(folder)
    with pytest.raises((UserError, ValueError), match=r"allow_pickle=False|predictions"):
        load_checkpoint(training, folder)
    assert not made.exists()
