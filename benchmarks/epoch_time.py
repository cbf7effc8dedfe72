"""The single run's time for an epoch against that of a minimal loop in plain PyTorch.

[bold]python -m benchmarks.epoch_time[/]  measures swin_tiny on the embedded digits at 32 px.

[bold]python -m benchmarks.epoch_time --arch resnet18 --threads 1[/]  measures another architecture on one core.

Both sides train the same model on the same images with the same batch size, albumentations policy, CutMix and MixUp,
label smoothing, fused AdamW, gradient clipping, cosine schedule, autocast type and memory format, and evaluate on
the same held-out images. Ours also counts training accuracy, watches for divergence, keeps the best weights and makes
each image's randomness reproducible; the plain loop (benchmarks/_plain_loop.py) does nothing beyond the list. Its
images lie decoded in memory, ours in the memory-mapped cache. Epochs alternate: ours, plain, plain, ours, ... after
one of each that isn't counted. The ratio is the median over the pairs; in brackets are the lowest and the highest.

Hardware: 2 cores of an AMD EPYC with AVX512-BF16, 24 GiB, no GPU; almost nothing else ran.

Time: 100 s (2026-11-24).

Result, swin_tiny: 1.01 (0.90 .. 1.12), the median of 8 pairs of epochs.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.compare import JsonFile, Quick, measure_in_turn, ratio_of_pairs, report, spread
from trainable.config import Policy, TrialConfig, make_config
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.data.default import choose_data
from trainable.data.digits import write_digits
from trainable.errors import UsageError

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

OURS, PLAIN = "ours", "plain"
QUICK_IMAGES = 16


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    arch: Annotated[str, typer.Option(help="Architecture.")] = "swin_tiny",
    data: Annotated[Path | None, typer.Option(help="Folder of labelled images. \\[the embedded digits]")] = None,
    image_size: Annotated[int | None, typer.Option(min=8, help="Side in pixels. \\[the images' own]")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images an update.")] = 64,
    augment: Annotated[Policy, typer.Option(help="Augmentation of single images.")] = "full",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU cores to use. \\[all]")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    images: Annotated[int | None, typer.Option(min=1, help="Training images to use. \\[all]")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Counted epochs of each side.")] = 8,
    json_file: JsonFile = None,
    quick: Quick = False,
) -> None:
    """Set both sides up and let their epochs alternate."""
    root, is_digits = choose_data(data)
    if is_digits:
        write_digits(root)
    if quick:
        rounds, images, threads = 1, QUICK_IMAGES, 1
    values = {"data": root, "image_size": image_size, "arch": arch, "batch_size": batch_size, "augment": augment}
    config = make_config(values | {"flip": not is_digits, "epochs": rounds + 1}, "options", UsageError)
    epochs, facts = both_sides(config, device, threads, images)
    measure_in_turn(epochs, 1, "epoch that isn't counted")
    measured = measure_in_turn(epochs, rounds, f"epochs of {arch}")
    ratio = ratio_of_pairs(measured[OURS], measured[PLAIN])
    rows = [{"side": name, "seconds an epoch": str(spread(values))} for name, values in measured.items()]
    rows.append({"side": "ours ÷ plain", "seconds an epoch": str(ratio)})
    figures = {**facts, "seconds": measured, "ratio": ratio._asdict()}
    report(f"{arch}, {facts['images']:,} images at {facts['image_size']} px", rows, figures, json_file)


def both_sides(
    config: TrialConfig, device_name: str, threads: int | None, images: int | None
) -> tuple[dict[str, Callable[[], float]], dict[str, Any]]:
    """Functions that run one epoch and return its seconds, and the facts that they share."""
    import numpy as np
    import torch

    from benchmarks._plain_loop import PlainLoop
    from trainable.architectures import with_default_rates
    from trainable.data.dataset import open_dataset
    from trainable.device import choose_device
    from trainable.training import Training

    if threads:
        torch.set_num_threads(threads)
    config = make_config(with_default_rates(config.model_dump()), "options", UsageError)
    device = choose_device(device_name)
    dataset = open_dataset(config.data, config.image_size, config.seed)
    rows = np.sort(np.concatenate([dataset.splits.train, dataset.splits.select]))[:images]
    held_out = dataset.splits.holdout[:images]
    ours = Training(config, dataset, rows, held_out, device, cores=torch.get_num_threads())
    plain = PlainLoop(config, dataset, rows, held_out, device, ours.machinery.arithmetic)
    facts = {
        "arch": config.arch,
        "images": len(rows),
        "image_size": dataset.image_size,
        "batch_size": config.batch_size,
        "threads": torch.get_num_threads(),
        "device": device.type,
        "arithmetic": ours.machinery.arithmetic.reason,
    }
    return {OURS: timed(ours.run_step), PLAIN: timed(plain.run_epoch)}, facts


def timed(run: Callable[[], object]) -> Callable[[], float]:
    """A function that runs `run`, which must wait for the device, and returns the seconds it took."""

    def run_once() -> float:
        started = time.perf_counter()
        run()
        return time.perf_counter() - started

    return run_once


if __name__ == "__main__":
    run_app(app)
