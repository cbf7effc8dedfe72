"""How much longer `analysis.predict` takes than its models alone: decoding, preprocessing, writing, starting.

[bold]python -m benchmarks.prediction_speed[/]  predicts 10,000 JPEGs of 64 px with three resnet18, for a GPU.

[bold]python -m benchmarks.prediction_speed --images 256 --members 1[/]  is enough for two cores.

Both sides run in one process, in turn: `predict` is the command from a folder of JPEGs to a CSV file, loading the
ensemble included; `forward` is the sum over the members of their forward passes alone, from batches of bytes that lie
on the device to logits. Weights are random and the images noise, which costs the same; a tenth of the files are
different ones, the others links to them. The ratio is the median over the rounds of (predict / forward) within a
round. Peak memory is that of a process of its own for a tenth of the images, and for all.

Result so far (2026-11-27), on 2 cores that a dozen other processes used too, so that nothing here is precise: one
resnet18 on 256 images, 1.02 and 1.06 in two rounds; two test_resnet, peak memory 973 MB of 1,000 images and 981 MB of
10,000. Decoding took 0.29 ms of one core an image, its row 0.02 ms, one resnet18 35 ms.
"""

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.compare import JsonFile, Quick, measure_in_turn, ratio_of_pairs, report, spread
from trainable.console import UNDERSCORES_ARE_DASHES, run_app

if TYPE_CHECKING:
    from analysis.ensemble import Ensemble

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

BATCH = 256
NAMES_A_FILE = 10


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    images: Annotated[int, typer.Option(min=10, help="Files to predict.")] = 10_000,
    members: Annotated[int, typer.Option(min=1, help="Models in the ensemble.")] = 3,
    arch: Annotated[str, typer.Option(help="timm's name of their architecture.")] = "resnet18",
    image_size: Annotated[int, typer.Option(min=8, help="Side of the images and of the models' input in pixels.")] = 64,
    classes: Annotated[int, typer.Option(min=2, help="Classes.")] = 200,
    rounds: Annotated[int, typer.Option(min=1, help="Times that each side is measured.")] = 3,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    json_file: JsonFile = None,
    quick: Quick = False,
) -> None:
    """Measure time and memory."""
    from benchmarks._made_up_ensemble import write_ensemble, write_jpegs

    if quick:
        images, members, arch, image_size, rounds = 40, 2, "test_resnet", 32, 1
    with tempfile.TemporaryDirectory() as temporary:
        folder, files = Path(temporary, "ensemble"), Path(temporary, "images")
        write_ensemble(folder, arch, [image_size] * members, [f"class{number}" for number in range(classes)])
        write_jpegs(files, images, images // NAMES_A_FILE, image_size)
        seconds = measure(folder, files, images, rounds, device)
        memory = {count: peak_bytes(folder, files, count, device) for count in (images // 10, images)}
    ratio = ratio_of_pairs(seconds["predict"], seconds["forward"])
    rows = [
        {"side": name, "seconds": str(spread(values)), "images/s": f"{images / spread(values).median:,.0f}"}
        for name, values in seconds.items()
    ]
    title = f"{images:,} images: predict ÷ forward {ratio}; peak memory "
    title += ", ".join(f"{peak / 1e6:,.0f} MB of {count:,}" for count, peak in memory.items())
    figures = {"images": images, "seconds": seconds, "ratio": ratio._asdict(), "peak_bytes": memory}
    report(title, rows, figures, json_file)


def measure(folder: Path, files: Path, images: int, rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of both sides in each round."""
    from analysis.ensemble import load_ensemble

    loaded = load_ensemble(folder, device)
    sides = {"predict": partial(predict_s, folder, files, device), "forward": partial(forward_s, loaded, images)}
    for side in sides.values():
        side()  # fills the page cache, and chooses kernels
    return measure_in_turn(sides, rounds, "prediction")


def predict_s(folder: Path, files: Path, device: str) -> float:
    """Seconds of the command, in this process."""
    from analysis import predict

    started = time.perf_counter()
    predict.main(folder, [str(files)], str(folder / "preds.csv"), batch_size=BATCH, device=device)
    return time.perf_counter() - started


def forward_s(ensemble: "Ensemble", images: int) -> float:
    """Seconds of the forward passes of all members over so many images."""
    import torch

    total = 0.0
    for member, size in zip(ensemble.module.members, (each.image_size for each in ensemble.members), strict=True):
        batch = torch.randint(256, (BATCH, size, size, 3), dtype=torch.uint8, device=ensemble.device)
        started = time.perf_counter()
        with torch.inference_mode():
            for first in range(0, images, BATCH):
                logits = member(batch[: images - first])
        logits.sum().item()  # waits for the device
        total += time.perf_counter() - started
    return total


def peak_bytes(folder: Path, files: Path, count: int, device: str) -> int:
    """Peak resident memory of a process that predicts the first `count` images, in bytes."""
    names = "\n".join(str(path) for path in sorted(files.iterdir())[:count])
    command = [sys.executable, "-m", "analysis.predict", str(folder), "-", "-o", os.devnull, "--device", device]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
    assert process.stdin is not None
    with process.stdin as stdin:
        stdin.write(names + "\n")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"analysis.predict ended with {process.returncode}")
    return usage.ru_maxrss * 1024


if __name__ == "__main__":
    run_app(app)
