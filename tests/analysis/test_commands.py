"""The commands as a user starts them, in processes of their own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.export import Export

COMMANDS = (
    "analysis.compare", "analysis.dataset", "analysis.experiment", "analysis.export", "analysis.predict",
    "analysis.report", "analysis.select", "analysis.serve",
)  # fmt: skip
HEAVY = ("torch", "timm", "ray", "pandas", "albumentations", "optuna", "plotly", "matplotlib", "scipy", "fastapi")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str) -> None:
    done = run("-m", command, "--help")
    assert done.returncode == 0
    assert re.search(rf"python -m {command} (runs/|DATA)", done.stdout)


def test_importing_the_commands_imports_nothing_heavy() -> None:
    done = run("-c", f"import sys, {', '.join(COMMANDS)}; print(sorted({set(HEAVY)} & set(sys.modules)))")
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("analysis.experiment", "/none"), 2, "error: /none: no such folder; "),
        (("analysis.export", "/none"), 2, "error: /none: no such folder; "),
        (("analysis.export", "/none", "--members", "0"), 2, "error: Invalid value for '--members'"),
        (("analysis.export", "/none", "--format", "gguf"), 2, "error: Invalid value for '--format'"),
        (("analysis.export", "/none", "--refit", "soon"), 2, "error: Invalid value for '--refit'"),
        (("analysis.export", "/none", "--refit"), 2, "error: Option '--refit' requires an argument"),
        (("analysis.export", "/none", "--time-budget", "0s"), 2, "error: --time-budget 0s: give more than 0 seconds"),
        (("analysis.select", "/none"), 2, "error: /none: no such folder; "),
        (("analysis.report", "/none"), 2, "error: /none: no such folder; "),
        (("analysis.compare", "/none", "/"), 2, "error: "),
        (("analysis.dataset", "/none"), 2, "error: "),
        (("analysis.serve", "/none"), 2, "error: /none: no such folder; "),
        (("analysis.predict", "/none", "/"), 2, "error: /none: no such folder; "),
        (("analysis.predict", "/", "/"), 1, "error: /: not a complete export (no ensemble.json); "),
    ],
)
def test_a_mistake_is_told_in_one_line(arguments: tuple[str, ...], code: int, error: str) -> None:
    done = run("-m", *arguments)
    assert done.returncode == code
    assert done.stderr.startswith(error)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_predicting_needs_no_ray_and_gives_its_exit_code(exported: Export, images: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.touch()
    without_ray = (
        "import runpy, sys; sys.modules['ray'] = None; runpy.run_module('analysis.predict', run_name='__main__')"
    )
    done = run("-c", without_ray, exported.folder, images / "test", broken, "--batch_size", 2, "--device", "cpu")
    assert done.returncode == 3, done.stderr
    assert len(done.stdout.splitlines()) == 6
    assert done.stderr == "1 of 5 images can't be decoded; see the column error\n"
