"""Images a second that one core turns into normalised float batches: ours, torchvision's ImageFolder, timm's loader.

[bold]python -m benchmarks.input_pipeline[/]  measures on the embedded digits at 32 px, in about a minute and a half.

[bold]python -m benchmarks.input_pipeline --data data/tiny-imagenet-200[/]  measures on the images of a folder.

Each side goes over the same JPEG files in shuffled batches, with workers 0 and one thread, until the batch is a
normalised float tensor on the CPU. Ours reads the decoded cache, which is warm, and augments by albumentations; both
peers decode the file each time, as they do, and share one torchvision transform of like probabilities and magnitudes.
The policies are those of --augment light and full at full strength. The files are in the page cache for all.
A ratio is the median over the rounds of (ours / peer) within a round; in brackets are the lowest and the highest.

Hardware: 2 cores of an AMD EPYC with AVX512-BF16, 24 GiB, no GPU; nothing else ran.

Time: 77 s (2026-11-24).

Result at 32 px, median of 5 rounds (lowest .. highest): light 12.7 (12.0 .. 13.1) times ImageFolder and 12.9 times
timm's loader, full 3.15 (3.08 .. 4.37) and 3.18 times.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.compare import JsonFile, Quick, images_per_second, measure_in_turn, ratio_of_pairs, report, spread
from trainable.config import Policy, TrialConfig
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.data.default import choose_data
from trainable.data.digits import write_digits

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

POLICIES: tuple[Policy, ...] = ("light", "full")
OURS, PEERS = "ours", ("imagefolder", "timm")


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    data: Annotated[Path | None, typer.Option(help="Folder of labelled images. \\[the embedded digits]")] = None,
    image_size: Annotated[int | None, typer.Option(min=8, help="Side in pixels. \\[the images' own]")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a batch.")] = 128,
    rounds: Annotated[int, typer.Option(min=1, help="Times that each side is measured.")] = 9,
    seconds: Annotated[float, typer.Option(min=0, help="Least length of one measurement.")] = 1.0,
    json_file: JsonFile = None,
    quick: Quick = False,
) -> None:
    """Measure both policies on all sides."""
    root, is_digits = choose_data(data)
    if is_digits:
        write_digits(root)
    if quick:
        rounds, seconds = 1, 0.0
    config = TrialConfig(data=root, image_size=image_size, batch_size=batch_size, epochs=1)
    use_one_core()
    figures: dict[str, Any] = {"data": str(root), "batch_size": batch_size, "rounds": rounds}
    rows = []
    for kind in POLICIES:
        passes = all_sides(config.model_copy(update={"augment": kind}))
        for run_once in passes.values():
            run_once()  # fills the page cache, and compiles what is compiled at first use
        sides = {name: partial(images_per_second, run_once, seconds) for name, run_once in passes.items()}
        measured = measure_in_turn(sides, rounds, f"policy {kind}")
        figures[kind] = summary(measured)
        rows += [table_row(kind, name, measured) for name in measured]
    report("input pipeline on one core, images/s", rows, figures, json_file)


def use_one_core() -> None:
    """One thread for torch and OpenCV."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def all_sides(config: TrialConfig) -> dict[str, Callable[[], int]]:
    """For each side a function that goes once over the training images and returns how many they were."""
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    from benchmarks._peer_transforms import peer_transform
    from trainable.data.dataset import open_dataset
    from trainable.epoch import Normalise

    dataset = open_dataset(config.data, config.image_size)
    mean, std = tuple(IMAGENET_DEFAULT_MEAN), tuple(IMAGENET_DEFAULT_STD)
    transform = peer_transform(config.augment, dataset.image_size, mean, std)
    return {
        OURS: our_pass(config, dataset, Normalise(mean, std)),
        "imagefolder": imagefolder_pass(config, transform),
        "timm": timm_pass(config, transform, dataset.image_size),
    }


def our_pass(config: TrialConfig, dataset: Any, normalise: Callable) -> Callable[[], int]:
    """The loader of a training at full strength, which epochs from `config.epochs` on have."""
    from trainable.data.loader import BatchOrder, train_loader

    order = BatchOrder(dataset.splits.train, config.batch_size, config.seed, epoch=int(config.epochs))
    loader = train_loader(dataset.cache, order, config, workers=0, pin=False)

    def run_once() -> int:
        order.epoch += 1
        return sum(len(normalise(images)) for images, _ in loader)

    return run_once


def imagefolder_pass(config: TrialConfig, transform: Callable) -> Callable[[], int]:
    """torchvision's ImageFolder in torch's DataLoader."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    folder = ImageFolder(f"{config.data}/train", transform)
    loader = DataLoader(folder, config.batch_size, shuffle=True, drop_last=True, num_workers=0)
    return lambda: sum(len(images) for images, _ in loader)


def timm_pass(config: TrialConfig, transform: Callable, image_size: int) -> Callable[[], int]:
    """timm's data set and loader without its prefetcher, which is for GPUs."""
    from benchmarks._peer_transforms import timm_batches

    alone = {"use_prefetcher": False, "num_workers": 0, "persistent_workers": False}
    loader = timm_batches(config, image_size, transform, **alone)
    return lambda: sum(len(images) for images, _ in loader)


def summary(measured: dict[str, list[float]]) -> dict[str, Any]:
    """Images/s of each side, and the ratio of ours to each peer."""
    throughput = {name: spread(values)._asdict() for name, values in measured.items()}
    ratios = {name: ratio_of_pairs(measured[OURS], measured[name])._asdict() for name in PEERS}
    return {"images_per_second": throughput, "ratio": ratios}


def table_row(kind: str, name: str, measured: dict[str, list[float]]) -> dict[str, str]:
    """One line of the table."""
    throughput = spread(measured[name])
    return {
        "policy": kind,
        "side": name,
        "images/s": f"{throughput.median:,.0f} ({throughput.low:,.0f} .. {throughput.high:,.0f})",
        "ours ÷ it": "" if name == OURS else str(ratio_of_pairs(measured[OURS], measured[name])),
    }


if __name__ == "__main__":
    run_app(app)
