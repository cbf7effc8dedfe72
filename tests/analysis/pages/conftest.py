"""A made-up search with all files but weights."""

from pathlib import Path

import pytest

from benchmarks.analysis_speed import write_experiment


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 trials of at most 8 epochs by halving; tests only read it."""
    return write_experiment(tmp_path_factory.mktemp("runs") / "made-up", trials=120, epochs=8)
