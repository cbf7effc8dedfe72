"""What the command costs beside its models: that it runs, and that its sides are what they say."""

import json
import subprocess
import sys
from pathlib import Path

import torch

from analysis import load_ensemble
from benchmarks._made_up_ensemble import write_ensemble, write_jpegs
from benchmarks.prediction_speed import forward_s


def test_the_command_writes_a_ratio_and_peaks_of_memory(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.prediction_speed", "--quick", "--device", "cpu", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "predict ÷ forward" in done.stdout
    figures = json.loads(file.read_text())
    assert {name: len(values) for name, values in figures["seconds"].items()} == {"predict": 1, "forward": 1}
    assert figures["ratio"]["median"] == figures["seconds"]["predict"][0] / figures["seconds"]["forward"][0]
    assert list(figures["peak_bytes"]) == ["4", "40"]
    assert all(2e7 < peak < 1e10 for peak in figures["peak_bytes"].values())


def test_all_images_go_through_all_members(tmp_path: Path) -> None:
    write_ensemble(tmp_path / "ensemble", "test_resnet", [32, 48], ["a", "b"])
    ensemble = load_ensemble(tmp_path / "ensemble", "cpu")
    seen: list[tuple[int, ...]] = []
    for member in ensemble.module.members:
        member.register_forward_hook(lambda _, inputs, logits: seen.append((*inputs[0].shape, *logits.shape)))
    assert forward_s(ensemble, 300) > 0
    assert seen == [(count, size, size, 3, count, 2) for size in (32, 48) for count in (256, 44)]
    assert not torch.is_inference_mode_enabled()


def test_files_are_jpegs_of_which_many_are_the_same(tmp_path: Path) -> None:
    write_jpegs(tmp_path / "images", 25, different=10, size=32)
    files = sorted((tmp_path / "images").iterdir())
    assert len(files) == 25
    assert len({path.stat().st_ino for path in files}) == 10
    assert files[3].read_bytes() == files[13].read_bytes() != files[4].read_bytes()
