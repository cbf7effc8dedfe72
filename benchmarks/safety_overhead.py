"""What it costs that nothing is lost: the time of checksums and of waiting for the disk, against that of the search.

[bold]python -m benchmarks.safety_overhead runs/NAME --slots 2[/]  does again, for an experiment that has ended, what
each of its checkpoints, records and decisions cost besides being written: checksums of a checkpoint's files, waiting
until they are on the disk (in a trial's slot), and waiting for each line of result.json and decisions.jsonl (in the
driver, beside the slots, but counted in full). The ratio is that sum, per slot, over the seconds from the start of the
search to its last epoch.

Hardware, result: docs/log.md.
"""

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks._slot_share import slot_share
from benchmarks.compare import JsonFile, report, spread
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.errors import UserError
from trainable.files import STATE, checksum, to_disk

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

ROUNDS = 5
LINES = ("*/result.json", "decisions.jsonl")


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    folder: Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="Folder of a search that has ended.")],
    slots: Annotated[int, typer.Option(min=1, help="Trials at once that it had.")] = 2,
    json_file: JsonFile = None,
) -> None:
    """Measure, and print the sum beside the wall time."""
    whole = [path.parent for path in folder.glob(f"*/checkpoint_*/{STATE}")]
    if not whole:
        raise UserError(f"{folder}: no checkpoint with its {STATE}; give the folder of a search: runs/NAME")
    largest = max(whole, key=folder_bytes)
    checkpoints = sum(1 + max(map(number_of, trial.glob("checkpoint_*")), default=-1) for trial in folder.glob("0*"))
    lines = sum(len(path.read_text().splitlines()) for pattern in LINES for path in folder.glob(pattern))
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        hashed, synced = zip(*(cost_of_checkpoint(largest, Path(scratch)) for _ in range(ROUNDS)), strict=True)
        line = spread(cost_of_line(Path(scratch)) for _ in range(10 * ROUNDS))
    safety = checkpoints * (spread(hashed).median + spread(synced).median) / slots + lines * line.median
    wall = slot_share(folder, slots).since_start_s
    row = {
        "checkpoints": f"{checkpoints} of up to {folder_bytes(largest) / 1e6:.0f} MB",
        "checksums, s": str(spread(hashed)),
        "wait for the disk, s": str(spread(synced)),
        "lines": str(lines),
        "wait for a line, s": str(line),
        "safety, s": f"{safety:.2f}",
        "search, s": f"{wall:.0f}",
        "ratio": f"{safety / wall:.2%}",
    }
    report(f"safety of {folder.name}", [row], {"safety_s": safety, "search_s": wall}, json_file)


def folder_bytes(folder: Path) -> int:
    """Size of a checkpoint's files."""
    return sum(path.stat().st_size for path in folder.iterdir())


def number_of(checkpoint: Path) -> int:
    """`checkpoint_000003` -> 3: so many were written before it."""
    return int(checkpoint.name.split("_")[-1])


def cost_of_checkpoint(folder: Path, scratch: Path) -> tuple[float, float]:
    """Seconds of hashing a checkpoint's files, and of waiting until a new copy of them is on the disk."""
    copy = Path(shutil.copytree(folder, scratch / f"copy{time.monotonic_ns()}"))
    started = time.perf_counter()
    for path in folder.iterdir():
        checksum(path)
    hashed = time.perf_counter()
    for path in (*copy.iterdir(), copy):
        to_disk(path)
    return hashed - started, time.perf_counter() - hashed


def cost_of_line(scratch: Path) -> float:
    """Seconds of waiting until one more line of a file is on the disk."""
    with (scratch / "lines.jsonl").open("a") as file:
        file.write("x" * 1000 + "\n")
        file.flush()
        started = time.perf_counter()
        os.fsync(file.fileno())
        return time.perf_counter() - started


if __name__ == "__main__":
    run_app(app)
