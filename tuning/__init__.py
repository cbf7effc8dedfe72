"""The search: which trial next, on which fraction of which device. `python -m tuning.run --help` is the way in."""
