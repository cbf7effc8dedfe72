"""`benchmarks.ensemble_gain` on the tiny experiment, which lives with these tests."""

import json
from pathlib import Path

import pytest

from benchmarks.ensemble_gain import main


def test_the_ensemble_is_compared_with_the_best_trial_as_it_was_and_calibrated(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    main(experiment, members=2, device="cpu", json_file=tmp_path / "figures.json")
    out = capsys.readouterr().out
    for name in ("best trial, 000", "the same, calibrated", "trials alone: ", "with extras: ", "18 images of holdout"):
        assert name in out
    figures = json.loads((tmp_path / "figures.json").read_text())
    for way in ("trials alone", "with extras"):
        gain = figures[way]["gain"]
        assert gain["low"] <= gain["difference"] <= gain["high"]
        assert figures[way]["holdout"]["images"] == 18
