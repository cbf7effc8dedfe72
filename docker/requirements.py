"""What the image installs before the code is there: the dependencies in pyproject.toml.

python requirements.py --extras serve,onnx --packages boto3     prints them, a line each, for pip install -r
python requirements.py --check-cuda 13.0                        fails where torch was built for another CUDA

Runs with the standard library alone, beside a pyproject.toml.
"""

import argparse
import sys
import tomllib
from pathlib import Path
from typing import Any


def main() -> None:
    """Do what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", default="", help="names of optional dependencies, between commas")
    parser.add_argument("--packages", default="", help="further requirements, between commas")
    parser.add_argument("--check-cuda", metavar="VERSION", help="check what torch was built for, and print nothing")
    options = parser.parse_args()
    if options.check_cuda:
        check_cuda(options.check_cuda)
        return
    project = tomllib.loads((Path(__file__).parent / "pyproject.toml").read_text())["project"]
    print(*requirements(project, names(options.extras)), *names(options.packages), sep="\n")


def requirements(project: dict[str, Any], extras: list[str]) -> list[str]:
    """The project's dependencies, then those of `extras`; SystemExit with one line for an extra that it hasn't."""
    known = project["optional-dependencies"]
    if unknown := sorted(set(extras) - set(known)):
        sys.exit(f"EXTRAS: pyproject.toml has no extra {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    return [*project["dependencies"], *(line for extra in extras for line in known[extra])]


def check_cuda(asked: str) -> None:
    """SystemExit with one line unless torch was built for the same major version of CUDA."""
    import torch

    found = torch.version.cuda or "none"
    if found.partition(".")[0] != asked.partition(".")[0]:
        sys.exit(f"CUDA={asked}, but this torch was built for {found}: give TORCH_INDEX, or CUDA={found}")


def names(text: str) -> list[str]:
    """The parts of a list between commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


if __name__ == "__main__":
    main()
