"""Kept predictions that aren't the logits they should be: refused in one line, and no pickle is read."""

import io
import json
import os
import pickle
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import candidates
from analysis.candidates import evaluation_seconds, find_candidates, read_logits
from analysis.experiment import load_experiment, read_facts
from trainable import metrics
from trainable.errors import UserError


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.made),)


def refused(path: Path) -> str:
    with pytest.raises(UserError, match=r"predictions\.npz: can't be read \(.*\); move this trial's folder") as caught:
        read_logits(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "predictions.npz"


def test_logits_are_read_as_they_were_written(file: Path) -> None:
    logits = np.arange(6, dtype=np.float16).reshape(2, 3)
    np.savez_compressed(file, logits=logits, epoch=1)
    np.testing.assert_array_equal(read_logits(file), logits)


def test_an_array_of_objects_runs_no_code(file: Path, tmp_path: Path) -> None:
    np.savez(file, logits=np.array([Evil(tmp_path / "made")], dtype=object))
    assert "allow_pickle=False" in refused(file)
    assert not (tmp_path / "made").exists()


def test_a_bare_pickle_runs_no_code(file: Path, tmp_path: Path) -> None:
    file.write_bytes(pickle.dumps(Evil(tmp_path / "made")))
    assert "not a zip file" in refused(file)
    assert not (tmp_path / "made").exists()


def member(file: Path, content: bytes) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("logits.npy", content)


def npy_header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f2", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no array",
        npy_header((10**7, 10**7)),
        npy_header((3, 3)),
        npy_header((2,)) + b"\0" * 4,
        b"\x93NUMPY\x01\0\xff",
    ],
)
def test_a_member_that_is_no_table_of_numbers_is_refused(file: Path, content: bytes) -> None:
    member(file, content)
    refused(file)


@pytest.mark.parametrize("values", [np.array([["a", "b"]]), np.zeros((2, 2), dtype=np.int64), np.zeros((2, 2, 2))])
def test_an_array_of_another_kind_is_refused(file: Path, values: np.ndarray) -> None:
    np.savez(file, logits=values)
    assert "its logits aren't numbers (images, classes)" in refused(file)


def test_a_single_array_instead_of_an_archive_is_refused(file: Path) -> None:
    with file.open("wb") as out:
        np.save(out, np.zeros((2, 2)))
    refused(file)


def test_a_bomb_is_refused_before_it_is_unpacked(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "LARGEST_LOGITS_BYTES", 2**20)
    member(file, npy_header((1000, 1000)) + bytes(2_000_000))
    assert file.stat().st_size < 10_000
    assert "its logits would take more than" in refused(file)


def test_damaged_archives_are_one_line_whatever_is_damaged(file: Path) -> None:
    np.savez_compressed(file, logits=np.random.default_rng(0).normal(size=(20, 10)).astype(np.float16), epoch=1)
    whole, generator = file.read_bytes(), np.random.default_rng(1)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[generator.integers(len(whole))] = generator.integers(256)
        file.write_bytes(damaged)
        with suppress(UserError):  # and nothing else
            read_logits(file)


def test_the_best_trials_come_first_and_those_without_weights_only_if_wanted(experiment: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(experiment, tmp_path / "tiny")
    trials, facts = load_experiment(folder), read_facts(folder)
    names = list(trials["trial"])
    assert [each.trial for each in find_candidates(folder, trials, facts)] == names
    for weights in (folder / names[0]).glob("checkpoint_*/*.safetensors"):
        weights.unlink()
    assert [each.trial for each in find_candidates(folder, trials, facts)] == names[1:]
    found = find_candidates(folder, trials, facts, without_weights=True)
    assert [(each.trial, each.weights is None) for each in found] == [(names[0], True), (names[1], False)]


def test_a_candidate_says_how_long_its_trial_was_trained_and_how_fast_it_was_scored(
    experiment: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(experiment, tmp_path / "tiny")
    for path in folder.glob("*/checkpoint_000001/trial.json"):
        content = json.loads(path.read_text())
        for record, seconds in zip(content["epochs"], (9.0, 3.0), strict=True):
            record[metrics.SECONDS_EVAL] = seconds
        content["epochs"][1][metrics.EPOCH] = 1.75
        content["best_epoch"] = 1.75
        path.write_text(json.dumps(content))
        best = path.with_name("best.safetensors")
        best.unlink(missing_ok=True)
    for candidate in find_candidates(folder, load_experiment(folder), read_facts(folder)):
        assert (candidate.trained, candidate.image_s) == (1.75, 0.5)  # six images
        assert candidate.weights is not None
        assert candidate.weights.name == "model.safetensors"  # of the best epoch, a fraction


def test_records_that_do_not_say_how_fast_they_were_scored_count_as_unknown() -> None:
    assert evaluation_seconds([{metrics.EPOCH: 1}]) == 0
    assert evaluation_seconds([]) == 0


@pytest.mark.parametrize("limit", ["LIBRARY", "LIBRARY_BYTES"])
def test_the_library_is_cut_to_the_best(experiment: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(candidates, limit, 1)
    trials = load_experiment(experiment)
    found = find_candidates(experiment, trials, read_facts(experiment))
    assert [each.trial for each in found] == list(trials["trial"][:1])
