"""hadolint and shellcheck on all that docker/ holds for them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "docker").glob("*.sh"))


def tool(name: str) -> str:
    """The program of that name, beside this Python or on the PATH."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} isn't installed: pip install -e '.[dev]'")
    return found


def test_hadolint_finds_nothing():
    answer = subprocess.run(
        [tool("hadolint"), str(ROOT / "docker/Dockerfile")], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    answer = subprocess.run([tool("shellcheck"), str(script)], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_stop_at_the_first_error(script):
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text
    assert script.stat().st_mode & 0o111, "can't be run"
