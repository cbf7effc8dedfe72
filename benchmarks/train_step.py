"""Where an epoch's time goes, and its images/s against the limit, timm, ImageFolder and PyTorch's defaults.

[bold]python -m benchmarks.train_step[/]  measures swin_tiny on the embedded digits at 64 px, on one core.

[bold]python -m benchmarks.train_step --arch all --image-size 32 --image-size 64 --png split.png[/]  measures all eight.

Sides, all with the same model, batch, dropout and label smoothing, and all but the last in the same precision:

- ours: epochs of `Training`, with augmentation and mixing at full strength, as at the end of a training.
- limit: forward, backward and the optimiser's step on one batch that lies in memory, nothing else; our optimiser and
memory format.
- timm: its data set and loader on the JPEG files, its Mixup, loss, optimiser, clipping and loop, as its train script
has them (benchmarks/_train_sides.py), in its default memory format; on a GPU with its prefetcher.
- imagefolder: torchvision's ImageFolder in torch's DataLoader, AdamW, CutMix and MixUp in a plain loop.
- defaults, defaults in fp32: the limit in contiguous memory with AdamW as torch constructs it.

Both peers share one torchvision transform of like probabilities and magnitudes (benchmarks/_peer_transforms.py). Only
training is compared: evaluation and checkpoint are in the split alone. One measurement is as many whole updates as
last --seconds, at least one; on a GPU it is waited for at the end of these. Sides are measured in turn, in reverse
order every other round, after updates that aren't counted. A ratio is the median over the rounds of the ratio within
one; in brackets are the lowest and the highest. At the end come the geometric means over the architectures.

The split comes from the records of our epochs. Copying and mixing, which these hold within data and forward, are timed
by themselves; so are evaluation (a batch, times the share of select images) and one checkpoint an epoch. What then is
left of the training's time is called metrics, in the table rest.

Hardware, time and result: see docs/log.md.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import ceil
from pathlib import Path
from statistics import geometric_mean
from typing import Annotated, Any, NamedTuple

import typer

from benchmarks.compare import (
    JsonFile,
    Quick,
    Spread,
    images_per_second,
    in_progress,
    measure_in_turn,
    ratio_of_pairs,
    report,
    spread,
)
from trainable.config import ARCHITECTURES, Policy, TrialConfig, make_config
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.data.default import choose_data
from trainable.data.digits import write_digits
from trainable.errors import UsageError

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

OURS, LIMIT, TIMM, IMAGEFOLDER, DEFAULTS, DEFAULTS_FP32 = (
    "ours",
    "limit",
    "timm",
    "imagefolder",
    "defaults",
    "defaults in fp32",
)
RATIOS = {
    "ours ÷ limit": (OURS, LIMIT),
    "ours ÷ timm": (OURS, TIMM),
    "ours ÷ imagefolder": (OURS, IMAGEFOLDER),
    "limit ÷ defaults": (LIMIT, DEFAULTS),
    "limit ÷ defaults in fp32": (LIMIT, DEFAULTS_FP32),
}
SHORT = {
    "data": "data",
    "host-to-device": "copy",
    "mixing": "mix",
    "forward": "fwd",
    "backward": "bwd",
    "optimiser": "step",
    "metrics": "rest",
    "evaluation": "eval",
    "checkpoint": "save",
}
"""Headings of the parts of an epoch."""
QUICK_BATCH, QUICK_SIZE = 4, 32


class Effort(NamedTuple):
    """How much is measured: rounds, the least seconds of one measurement, and the most images in it."""

    rounds: int
    seconds: float
    images: int | None


class Measured(NamedTuple):
    """What came out for one architecture at one size."""

    arch: str
    image_size: int
    images_per_second: dict[str, Spread]
    ratio: dict[str, Spread]
    split: dict[str, float]
    """Milliseconds a training image by part of an epoch."""
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        """As the tables and the chart call it."""
        return f"{self.arch}, {self.image_size} px"


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    arch: Annotated[
        list[str] | None, typer.Option(help="Architecture, or all eight; repeatable. \\[swin_tiny]")
    ] = None,
    image_size: Annotated[list[int] | None, typer.Option(help="Side in pixels; repeatable. \\[64]")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder with train/CLASS/. \\[the embedded digits]")] = None,
    augment: Annotated[Policy, typer.Option(help="Augmentation of single images.")] = "full",
    batch_size: Annotated[int, typer.Option(min=2, help="Images an update.")] = 32,
    threads: Annotated[int, typer.Option(min=1, help="CPU cores; on a GPU all but one load data.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    seconds: Annotated[float, typer.Option(min=0, help="Least length of one measurement.")] = 1.0,
    rounds: Annotated[int, typer.Option(min=1, help="Times that each side is measured.")] = 4,
    images: Annotated[int | None, typer.Option(min=1, help="Most images in one measurement. \\[an epoch's]")] = None,
    json_file: JsonFile = None,
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Also draw the splits into FILE.")] = None,
    quick: Quick = False,
) -> None:
    """Measure one model after the other."""
    check_options(batch_size, json_file, png)
    effort = Effort(rounds, seconds, images)
    sizes = list(dict.fromkeys(image_size or [QUICK_SIZE if quick else 64]))
    if quick:
        effort, batch_size = Effort(rounds=1, seconds=0.0, images=1), QUICK_BATCH
    root, is_digits = choose_data(data)
    if is_digits:
        write_digits(root)
    if not (root / "train").is_dir():
        raise UsageError(f"--data {root}: has no folder train/ with a folder for each class, which the peers read")
    values = {"data": root, "augment": augment, "batch_size": batch_size, "flip": not is_digits, "epochs": 1}
    configs = configurations(architectures(arch or ["swin_tiny"]), sizes, values)
    use_cores(threads)
    measured = [measure(config, device, threads, effort) for config in configs]
    if png is not None:
        from benchmarks._train_chart import save

        save({one.name: one.split for one in measured}, png)
    means = geometric_means(measured)
    figures = {"threads": threads, **effort._asdict(), "runs": [as_json(one) for one in measured], "means": means}
    report("parts of an epoch, % of its time", [split_row(one) for one in measured], figures, None)
    rows = [row for one in measured for row in side_rows(one)]
    rows += [row for size, ratios in means.items() for row in mean_rows(size, ratios)]
    report("training, images/s", rows, figures, json_file)


def check_options(batch_size: int, *files: Path | None) -> None:
    """UsageError for what would only fail after the measurements."""
    if batch_size % 2:
        raise UsageError(f"--batch-size {batch_size}: timm's Mixup takes even batches only; give {batch_size + 1}")
    for file in files:
        if file is not None and not file.absolute().parent.is_dir():
            raise UsageError(f"{file}: there is no folder {file.parent}; make it, or give another file")


def architectures(asked: Iterable[str]) -> list[str]:
    """Each once, with `all` spelt out."""
    return list(dict.fromkeys(name for one in asked for name in (ARCHITECTURES if one == "all" else [one])))


def configurations(archs: list[str], sizes: list[int], values: Mapping[str, Any]) -> list[TrialConfig]:
    """One an architecture and size; UsageError for one that there can't be."""
    from trainable.architectures import size_arguments, with_default_rates

    configs = []
    for arch in archs:
        rates = with_default_rates({"arch": arch})
        for size in sizes:
            configs.append(make_config({**values, **rates, "image_size": size}, "options", UsageError))
            size_arguments(arch, size)
    return configs


def use_cores(threads: int) -> None:
    """So many threads for torch and OpenCV."""
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads if threads > 1 else 0)


def measure(config: TrialConfig, device_name: str, threads: int, effort: Effort) -> Measured:
    """All sides of one architecture at one size."""
    from benchmarks._train_sides import Common
    from benchmarks._train_split import OurTraining
    from trainable.data.dataset import open_dataset
    from trainable.data.loader import choose_workers
    from trainable.device import choose_device

    device = choose_device(device_name)
    dataset = open_dataset(config.data, config.image_size, config.seed)
    rows = len(dataset.splits.train)
    if rows < config.batch_size:
        raise UsageError(f"--batch-size {config.batch_size}: {config.data} has {rows} training images; give fewer")
    ours = OurTraining(config, dataset, device, threads)
    training = ours.training
    workers, _ = choose_workers(device, threads, "full")
    common = Common(config, dataset, device, training.machinery.arithmetic, workers)
    most = max(1, min(effort.images or rows, rows) // config.batch_size)
    on_gpu = device.type == "cuda"
    sides = {OURS: of_about(ours.run, effort, most, config.batch_size, on_gpu)}
    for name, run in in_progress(other_sides(common).items(), f"{config.arch}: first updates"):
        sides[name] = of_about(run, effort, most, config.batch_size, on_gpu)
    ours.records.clear()
    speeds = measure_in_turn(sides, effort.rounds, f"{config.arch} at {config.image_size} px")
    facts = {
        "batch_size": config.batch_size,
        "augment": config.augment,
        "device": device.type,
        "arithmetic": training.machinery.arithmetic.reason,
        "data": training.place.reason,
        "workers": {OURS: training.workers_reason, "peers": workers},
    }
    return Measured(
        arch=config.arch,
        image_size=dataset.image_size,
        images_per_second={name: spread(values) for name, values in speeds.items()},
        ratio={name: ratio_of_pairs(speeds[above], speeds[below]) for name, (above, below) in RATIOS.items()},
        split=ours.split(effort.seconds),
        facts=facts,
    )


def other_sides(common: Any) -> dict[str, Callable[[int], float]]:
    """For each side but ours a function that makes so many updates and returns its images/s."""
    from benchmarks import _train_sides as sides
    from trainable.device import choose_arithmetic

    fp32 = choose_arithmetic("fp32", common.device)
    queued = 2 * common.workers  # batches that the loader's processes may have made while other sides were measured
    return {
        LIMIT: in_updates(sides.limit(common), common.device),
        TIMM: in_updates(sides.timm_loop(common), common.device, queued),
        IMAGEFOLDER: in_updates(sides.imagefolder_loop(common), common.device, queued),
        DEFAULTS: in_updates(sides.defaults(common, common.arithmetic), common.device),
        DEFAULTS_FP32: in_updates(sides.defaults(common, fp32), common.device),
    }


def in_updates(updates: Iterable[int], device: Any, uncounted: int = 0) -> Callable[[int], float]:
    """Images/s over a number of updates, after `uncounted` ones; the device has done them all by the end."""
    from benchmarks._train_split import wait_for

    iterator = iter(updates)

    def run(count: int) -> float:
        for _ in range(uncounted):
            next(iterator)
        wait_for(device)

        def run_all() -> int:
            images = sum(next(iterator) for _ in range(count))
            wait_for(device)
            return images

        return images_per_second(run_all, at_least_s=0)

    return run


def of_about(run: Callable[[int], float], effort: Effort, most: int, batch: int, on_gpu: bool) -> Callable[[], float]:
    """`run` with as many updates as take `effort.seconds`, at most `most`; makes the first ones, which aren't counted.

    The first one, slower since it compiles what is compiled at first use, is enough on a CPU where it takes that long.
    """
    speed = run(1)
    if on_gpu or batch / speed < effort.seconds:
        speed = run(min(2, most))
    return partial(run, updates_in(effort.seconds, speed, most, batch))


def updates_in(seconds: float, speed: float, most: int, batch: int) -> int:
    """How many updates of `batch` images take `seconds` at `speed` images/s: at least one, at most `most`."""
    return min(most, max(1, ceil(seconds * speed / batch)))


def geometric_means(measured: Iterable[Measured]) -> dict[int, dict[str, float]]:
    """By image size, the mean over the architectures of each ratio's median."""
    by_size: dict[int, list[Measured]] = {}
    for one in measured:
        by_size.setdefault(one.image_size, []).append(one)
    return {
        size: {name: geometric_mean(one.ratio[name].median for one in group) for name in RATIOS}
        for size, group in by_size.items()
    }


def split_row(one: Measured) -> dict[str, str]:
    """A line of the table of parts, whose headings are short enough for any terminal."""
    whole = sum(one.split.values())
    return {"model": one.name} | {SHORT[part]: f"{100 * value / whole:.1f}" for part, value in one.split.items()}


def side_rows(one: Measured) -> list[dict[str, str]]:
    """A line for each side, with the ratio that it is in; the first one names the model."""
    ratio_with = {sides[1]: f"{name.split(' ÷ ')[0]} ÷ it: {one.ratio[name]}" for name, sides in RATIOS.items()}
    return [
        {"model": one.name if side == OURS else "", "side": side, "images/s": str(speed), "": ratio_with.get(side, "")}
        for side, speed in one.images_per_second.items()
    ]


def mean_rows(size: int, ratios: Mapping[str, float]) -> list[dict[str, str]]:
    """A line for each ratio's mean over the architectures."""
    return [
        {"model": f"geometric mean, {size} px", "side": name, "images/s": "", "": f"{mean:.3g}"}
        for name, mean in ratios.items()
    ]


def as_json(one: Measured) -> dict[str, Any]:
    """Plain values."""
    return {
        "arch": one.arch,
        "image_size": one.image_size,
        "images_per_second": {name: speed._asdict() for name, speed in one.images_per_second.items()},
        "ratio": {name: ratio._asdict() for name, ratio in one.ratio.items()},
        "split_ms_per_image": one.split,
        **one.facts,
    }


if __name__ == "__main__":
    run_app(app)
