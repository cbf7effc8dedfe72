"""Measurements that a person runs: `python -m benchmarks.NAME`."""

import os

os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # Ray of benchmarks listens on this machine alone
