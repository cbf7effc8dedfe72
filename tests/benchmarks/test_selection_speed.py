"""The benchmark of selection runs small; how fast it is isn't tested."""

import json
from pathlib import Path

import pytest

from benchmarks.selection_speed import main


def test_both_metrics_are_timed_step_by_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(trials=30, images=60, classes=4, json_file=tmp_path / "figures.json")
    assert "selection from 30 trials, 60 images of 4 classes" in " ".join(capsys.readouterr().out.split())
    figures = json.loads((tmp_path / "figures.json").read_text())
    for metric in ("log-loss", "top1"):
        steps = [figures[metric][name] for name in ("read s", "library s", "selection s")]
        assert sum(steps) == pytest.approx(figures[metric]["whole s"])
        assert figures[metric]["members"] > 1
