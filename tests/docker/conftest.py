"""A PATH that holds what the scripts need and nothing else, and a `docker` on it that writes down its arguments."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

TOOLS = ("awk", "bash", "cat", "dirname", "env", "git", "id", "mkdir", "rm", "sed")
RECORDER = """#!{bash}
if [ "${{1:-}}" = info ]; then
  {info}
fi
printf '%s\\0' "$@" > {record}
"""


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder for PATH with the usual commands, without docker and nvidia-smi."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found, f"{name} isn't installed"
        (folder / name).symlink_to(found)
    return folder


@pytest.fixture
def stub(tools: Path, tmp_path: Path) -> Callable[..., Callable[[], list[str]]]:
    """Put a command on the PATH that writes down its arguments; returns what reads them."""

    def make(name: str, info: str = "exit 0") -> Callable[[], list[str]]:
        record = tmp_path / f"{name}.arguments"
        script = tools / name
        script.write_text(RECORDER.format(bash=shutil.which("bash"), record=record, info=info))
        script.chmod(0o755)
        return lambda: record.read_text().split("\0")[:-1]

    return make


@pytest.fixture
def docker(stub: Callable[..., Callable[[], list[str]]]) -> Callable[..., Callable[[], list[str]]]:
    """Put a `docker` on the PATH whose machine has 8 GiB, with these runtimes; returns what reads its arguments."""

    def make(runtimes: str = "runc", security: str = "[name=seccomp]") -> Callable[[], list[str]]:
        return stub("docker", f"echo '8589934592|{runtimes} |{security}'; exit 0")

    return make
