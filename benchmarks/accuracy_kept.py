"""Whether what makes training faster keeps its accuracy: whole batches on the device, and images that grow.

[bold]python -m benchmarks.accuracy_kept[/]  trains resnet18 on the embedded digits with three seeds, on one core.

[bold]python -m benchmarks.accuracy_kept --data tiny-imagenet-20.zip --image-size 32 --epochs 8[/]  on other images.

Sides, each with --seeds seeds, all scored after every epoch on the holdout images, which nothing else looks at:

- plain: each image augmented by albumentations on the host, images of one size.
- device: whole batches augmented where the model trains (--data-on device).
- growing: plain with --progressive-resize, and with --growing-epochs epochs, by default as many as take about 0.7 of
plain's time, so that equal accuracy at its end is equal accuracy in that time.

Top-1 is the last epoch's, as mean and standard error over the seeds. A side's time to plain's accuracy is where the
mean of its seeds' curves first reaches the last point of plain's, with a line drawn between epochs. Times are those of
training alone; on a CPU they are the process's CPU seconds, so that other work on the machine doesn't count. What a
training reached is told when it ends.

Hardware, time and result: see docs/log.md.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks.compare import JsonFile, Quick, report
from trainable import metrics
from trainable.config import TrialConfig, make_config
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.data.default import choose_data
from trainable.data.digits import write_digits
from trainable.errors import UsageError

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

PLAIN, DEVICE, GROWING = "plain", "device", "growing"
LONGER = 1.4
"""Epochs of growing images for one of images of full size: they take about half the time."""
QUICK_IMAGES = 16


class Curve(NamedTuple):
    """One training: after each epoch the seconds it trained so far, and its top-1 on holdout."""

    seconds: list[float]
    top1: list[float]


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    arch: Annotated[str, typer.Option(help="Architecture.")] = "resnet18",
    data: Annotated[Path | None, typer.Option(help="Labelled images. \\[the embedded digits]")] = None,
    image_size: Annotated[int | None, typer.Option(min=8, help="Side in pixels. \\[the images' own]")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Length of a training.")] = 8,
    growing_epochs: Annotated[int | None, typer.Option(min=1, help="With images that grow. \\[1.4 x --epochs]")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images an update.")] = 64,
    lr: Annotated[float, typer.Option(min=0, help="Peak learning rate.")] = 1e-3,
    seeds: Annotated[int, typer.Option(min=2, help="Trainings of each side.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="CPU cores to use.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    json_file: JsonFile = None,
    quick: Quick = False,
) -> None:
    """Train all sides with one seed after the other."""
    import torch

    from trainable.architectures import with_default_rates

    root, is_digits = choose_data(data)
    if is_digits:
        write_digits(root)
    if quick:
        epochs, growing_epochs, batch_size, seeds = 1, 1, QUICK_IMAGES, 2
    torch.set_num_threads(threads)
    shared = with_default_rates({"arch": arch}) | {"data": root, "image_size": image_size, "flip": not is_digits}
    shared |= {"batch_size": batch_size, "lr": lr, "epochs": epochs, "data_on": "host"}
    own: dict[str, dict[str, Any]] = {
        PLAIN: {},
        DEVICE: {"data_on": "device"},
        GROWING: {"progressive_resize": True, "epochs": growing_epochs or round(LONGER * epochs)},
    }
    configs = {name: make_config(shared | values, "options", UsageError) for name, values in own.items()}
    curves: dict[str, list[Curve]] = {name: [] for name in configs}
    images = QUICK_IMAGES if quick else None
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(arch, total=seeds * sum(config.epochs for config in configs.values()))
        for seed in range(seeds):
            for name, config in configs.items():
                progress.update(bar, description=f"{arch}, {name}, seed {seed}")
                seeded = config.model_copy(update={"seed": seed})
                curve = train(seeded, device, threads, images, partial(progress.advance, bar))
                progress.print(f"{name}, seed {seed}: {curve.top1[-1]:.2%} after {curve.seconds[-1]:.4g} s")
                curves[name].append(curve)
    rows = [row(name, ones, curves[PLAIN]) for name, ones in curves.items()]
    figures = {
        **shared,
        "data": str(root),
        "curves": {name: [curve._asdict() for curve in ones] for name, ones in curves.items()},
        "time_ratio": {name: time_ratio(ones, curves[PLAIN]) for name, ones in curves.items()},
    }
    report(f"{arch}, {seeds} seeds", rows, figures, json_file)


def train(
    config: TrialConfig, device_name: str, threads: int, images: int | None, after_epoch: Callable[[], None]
) -> Curve:
    """A whole training, scored on holdout after each epoch."""
    from trainable.data.dataset import open_dataset
    from trainable.device import choose_device
    from trainable.training import Training

    device = choose_device(device_name)
    dataset = open_dataset(config.data, config.image_size, config.seed)
    splits = dataset.splits
    training = Training(config, dataset, splits.train[:images], splits.holdout[:images], device, threads)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    seconds, curve = 0.0, Curve([], [])
    while not training.done:
        started = clock()
        record = training.run_step()
        taken = clock() - started
        seconds += taken * record[metrics.SECONDS_TRAIN] / metrics.epoch_seconds(record)
        curve.seconds.append(seconds)
        curve.top1.append(record[metrics.SELECT_TOP1])
        after_epoch()
    return curve


def row(name: str, curves: Sequence[Curve], plain: Sequence[Curve]) -> dict[str, str]:
    """A line of the table."""
    last = [curve.top1[-1] for curve in curves]
    ratio = time_ratio(curves, plain)
    return {
        "side": name,
        "epochs": str(len(curves[0].top1)),
        "seconds of training": f"{mean_curve(curves).seconds[-1]:.4g}",
        "top-1 on holdout": f"{np.mean(last):.2%} ± {standard_error(last):.2%}",
        "time to plain's accuracy ÷ plain's": "not reached" if ratio is None else f"{ratio:.3g}",
    }


def time_ratio(curves: Sequence[Curve], plain: Sequence[Curve]) -> float | None:
    """The share of plain's time in which the mean curve reaches plain's last accuracy; None where it never does."""
    target = mean_curve(plain)
    reached = time_to(target.top1[-1], mean_curve(curves))
    return None if reached is None else reached / target.seconds[-1]


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Means over trainings of one length, epoch by epoch."""
    seconds, top1 = (np.mean([curve[part] for curve in curves], axis=0).tolist() for part in (0, 1))
    return Curve(seconds, top1)


def time_to(top1: float, curve: Curve) -> float | None:
    """Seconds after which the curve first has `top1`, on the line between two epochs; None where it never has."""
    before_s, before = 0.0, 0.0
    for seconds, now in zip(*curve, strict=True):
        if now >= top1:
            return before_s + (seconds - before_s) * ((top1 - before) / (now - before) if now > before else 1.0)
        before_s, before = seconds, now
    return None


def standard_error(values: Sequence[float]) -> float:
    """Of the mean."""
    return float(np.std(values, ddof=1) / len(values) ** 0.5)


if __name__ == "__main__":
    run_app(app)
