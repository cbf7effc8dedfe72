"""Train one configuration by hand, without Ray.

[bold]python -m trainable.train --arch swin_tiny --lr-base 1e-3 --epochs 10[/]  trains on the embedded digits or --data.

[bold]python -m trainable.train --config runs/NAME/TRIAL/params.json[/]  trains a searched configuration again.

[bold]python -m trainable.train --resume checkpoints/DATE[/]  goes on where a run was interrupted.

It trains on all published training images and chooses its best epoch on `val`, as is usual: the accuracy that it
reports was used for that choice. A search (python -m tuning.run) keeps `val` for its final figures alone.
"""

import itertools
import math
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from trainable import metrics
from trainable.address import is_address
from trainable.config import (
    DEFAULT_RATES,
    LITE,
    DataOn,
    Freeze,
    HeadStart,
    Policy,
    Precision,
    Stem,
    TrialConfig,
    load_config,
    make_config,
)
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.data.default import USING_DIGITS, choose_images
from trainable.data.digits import write_digits
from trainable.errors import UsageError, UserError
from trainable.escape import write_csv
from trainable.files import write_atomically
from trainable.sizes import parse_size

if TYPE_CHECKING:
    from trainable.training import Training

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

LATEST, BEST = "latest.pth.tar", "best.pth.tar"
TEST_PREDICTIONS = "best_test_preds.csv"
METRICS = "metrics.csv"
DATA = "data/tiny-imagenet-200, else the embedded digits"
"""The images used when none are named, as help says it."""


def _field(name: str, *flags: str, **limits: Any) -> Any:
    """An option for a field of TrialConfig, with its docstring as help and its default shown."""
    field = TrialConfig.model_fields[name]
    default = DEFAULT_RATES.get(name, DATA if field.is_required() else field.default)
    shown = f" [{default}]" if default is not None and not isinstance(default, bool) else ""
    if name in DEFAULT_RATES:
        shown = f" [{default}, where the architecture has it]"
    return typer.Option(
        *flags, help=f"{(field.description or '').splitlines()[0]}{shown}", show_default=False, **limits
    )


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    config: Annotated[Path | None, typer.Option(help="A trial's params.json; options given beside it win.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Folder of a run, or its latest.pth.tar, to go on with.")] = None,
    data: Annotated[str | None, _field("data", metavar="PATH|ADDRESS")] = None,
    arch: Annotated[str | None, _field("arch")] = None,
    lr: Annotated[float | None, _field("lr", "--lr-base")] = None,
    batch_size: Annotated[int | None, _field("batch_size")] = None,
    epochs: Annotated[float | None, _field("epochs")] = None,
    steps: Annotated[int | None, _field("steps")] = None,
    drop_rate: Annotated[float | None, _field("drop_rate")] = None,
    attn_drop_rate: Annotated[float | None, _field("attn_drop_rate")] = None,
    drop_path_rate: Annotated[float | None, _field("drop_path_rate")] = None,
    weight_decay: Annotated[float | None, _field("weight_decay")] = None,
    warmup_epochs: Annotated[float | None, _field("warmup_epochs")] = None,
    label_smoothing: Annotated[float | None, _field("label_smoothing")] = None,
    mix_prob: Annotated[float | None, _field("mix_prob")] = None,
    layer_decay: Annotated[float | None, _field("layer_decay")] = None,
    clip_grad: Annotated[float | None, _field("clip_grad")] = None,
    ema_decay: Annotated[float | None, _field("ema_decay")] = None,
    augment: Annotated[Policy | None, _field("augment")] = None,
    flip: Annotated[bool | None, _field("flip", "--flip/--no-flip")] = None,
    data_on: Annotated[DataOn | None, _field("data_on")] = None,
    progressive_resize: Annotated[bool | None, _field("progressive_resize", "--progressive-resize")] = None,
    image_size: Annotated[int | None, _field("image_size")] = None,
    stem: Annotated[Stem | None, _field("stem")] = None,
    patch_size: Annotated[int | None, _field("patch_size")] = None,
    window_size: Annotated[int | None, _field("window_size")] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(
            metavar="timm|lite|PATH|ADDRESS",
            help="Start from timm's published weights, from those that come with pip, or from a file's or a folder's.",
        ),
    ] = None,
    head: Annotated[HeadStart | None, _field("head")] = None,
    freeze: Annotated[Freeze | None, _field("freeze")] = None,
    backbone_lr: Annotated[float | None, _field("backbone_lr")] = None,
    precision: Annotated[Precision | None, _field("precision")] = None,
    seed: Annotated[int | None, _field("seed")] = None,
    cache_dir: Annotated[Path | None, _field("cache_dir")] = None,
    cache_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Where the cache would take more, what was used least goes. \\[50GB]"),
    ] = None,
    skip_bad_images: Annotated[bool | None, typer.Option("--skip-bad-images", help="Go on without them.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU cores to use. \\[all]")] = None,
    output: Annotated[Path, typer.Option(help="Folder of runs.")] = Path("checkpoints"),
) -> None:
    """Read the options into a configuration and train it."""
    given = dict(locals()) | {"cache_bytes": parse_size(cache_size, "--cache-size") if cache_size else None}
    values = {name: given[name] for name in TrialConfig.model_fields if given.get(name) is not None}
    if pretrained is not None:
        named = {"timm": True, "none": False, LITE: LITE}
        here = pretrained if is_address(pretrained) else Path(pretrained).absolute()
        values["pretrained"] = named.get(pretrained, here)
    if resume is not None:
        if values or config:
            raise UsageError("--resume goes on with the run's own configuration; leave the other options out")
        continue_run(resume, device, threads)
    else:
        start_run(config, values, device, threads, output)


def start_run(config_file: Path | None, values: dict[str, Any], device: str, threads: int | None, output: Path) -> None:
    """Train a new run in a folder of its own below `output`."""
    if config_file is not None:
        root, is_digits = choose_images(load_config(config_file, **values).data)
        config = load_config(config_file, **values | {"data": root})
    else:
        root, is_digits = choose_images(values.get("data"))
        if is_digits:
            print(USING_DIGITS)
        values = {"flip": not is_digits} | values | {"data": root}
        make_config(values, "options", UsageError)
        from trainable.architectures import with_default_rates

        config = make_config(with_default_rates(values), "options", UsageError)
    if is_digits:
        write_digits(Path(root))
    training = build_training(config, device, threads)
    train(training, new_folder(output, datetime.now()))


def continue_run(path: Path, device: str, threads: int | None) -> None:
    """Go on from a run's latest.pth.tar to the end of its configuration."""
    from trainable.checkpoint import continue_single_run, read_single_run

    file = path / LATEST if path.is_dir() else path
    config, content = read_single_run(file)
    training = build_training(config, device, threads)
    continue_single_run(training, content)
    print(f"{file}: {training.epoch:g} of {config.epochs:g} epochs are done")
    if training.micro_batch_note:
        print(training.micro_batch_note)
    train(training, file.parent)


def build_training(config: TrialConfig, device_name: str, threads: int | None) -> "Training":
    """Open the data and set the training up on published train and val."""
    import numpy as np
    import torch

    from trainable.data.dataset import open_images_of
    from trainable.device import choose_device
    from trainable.training import Training

    device = choose_device(device_name)
    if threads:
        torch.set_num_threads(threads)
    dataset = open_images_of(config, fresh=True)
    splits = dataset.splits
    rows = np.sort(np.concatenate([splits.train, splits.select]))
    training = Training(config, dataset, rows, splits.holdout, device, cores=torch.get_num_threads())
    print(
        f"{config.arch} on {device}, {training.machinery.arithmetic.reason}; {len(rows):,} training images at "
        f"{dataset.image_size} px; best epoch chosen on {len(splits.holdout):,} images of val"
    )
    return training


def train(training: "Training", folder: Path) -> None:
    """Steps to the end, each saved; then predictions for the unlabelled test images by the best one."""
    console = Console()
    try:
        with Progress(*Progress.get_default_columns(), console=console, transient=True) as progress:
            while not training.done:
                title = f"epoch {math.floor(training.epoch) + 1}/{math.ceil(training.config.epochs)}"
                training.watch = partial(progress.track, total=len(training.order), description=title)
                record = training.run_step()
                save_epoch(training, record, folder)
                progress.console.print(epoch_line(record), highlight=False, soft_wrap=True)
                for task in progress.task_ids:
                    progress.remove_task(task)
    except KeyboardInterrupt:
        is_saved = (folder / LATEST).exists()
        following = f"continue by: python -m trainable.train --resume {folder}" if is_saved else "nothing is saved yet"
        print(f"stopped after epoch {training.epoch:g}; {following}")
        raise
    if training.best is None:
        where = f"in epoch {math.ceil(training.epoch)}"
        raise UserError(f"the loss diverged {where}: lower --lr-base; the record is in {folder}")
    if training.history[-1][metrics.DIVERGED]:
        print(f"the loss diverged in epoch {math.ceil(training.epoch)}, so the training ends here: lower --lr-base")
    predict_test(training, folder)
    print(f"best val top-1 {training.best[0]:.2%} at epoch {training.best_epoch:g}, in {folder}")


def save_epoch(training: "Training", record: dict[str, Any], folder: Path) -> None:
    """Write latest.pth.tar, best.pth.tar where this epoch is the best, and the epoch's line of metrics.csv."""
    from trainable.checkpoint import save_single_run

    if training.best_epoch == training.epoch:
        save_single_run(training, folder / BEST, best=True)
    save_single_run(training, folder / LATEST, best=False)

    def write_metrics(path: Path) -> None:
        with path.open("w", newline="") as file:
            write_csv(file, list(record), training.history)

    write_atomically(folder / METRICS, write_metrics)


def predict_test(training: "Training", folder: Path) -> None:
    """Write best_test_preds.csv, if the data set has test images."""
    from trainable.predictions import COLUMNS, prediction_rows

    dataset = training.dataset
    rows = dataset.splits.test
    if not len(rows):
        print(f"the data set has no test images, so there is no {TEST_PREDICTIONS}")
        return
    training.machinery.evaluated.load_state_dict(training.best_weights)
    probabilities = training.predict(rows).softmax(dim=1).numpy()
    names = [Path(dataset.cache.names[row]).name for row in rows]

    def write(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            write_csv(file, COLUMNS, prediction_rows(names, probabilities, dataset.classes))

    write_atomically(folder / TEST_PREDICTIONS, write)


def epoch_line(record: dict[str, Any]) -> str:
    """One epoch for people."""
    return (
        f"epoch {record[metrics.EPOCH]:g}: train loss {record[metrics.TRAIN_LOSS]:.3f}, "
        f"val loss {record[metrics.SELECT_LOSS]:.3f}, top-1 {record[metrics.SELECT_TOP1]:.2%}, "
        f"top-5 {record[metrics.SELECT_TOP5]:.2%}, lr {record[metrics.LEARNING_RATE]:.2e}, "
        f"augmentation {record[metrics.STRENGTH]:.2f}, {record[metrics.IMAGES_PER_SECOND]:.0f} images/s"
    )


def new_folder(output: Path, now: datetime) -> Path:
    """`output/YYYY-MM-DD_HH:MM`; a second run in the same minute gets `_2`."""
    name = f"{now:%Y-%m-%d_%H:%M}"
    for folder in (output / (name if number == 1 else f"{name}_{number}") for number in itertools.count(1)):
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not folder.is_dir():
                raise UsageError(f"--output {output}: is a file; give a folder") from None
            continue
        except OSError as error:
            raise UsageError(f"--output {output}: can't be written ({error.strerror}); give another folder") from None
        return folder
    raise AssertionError("unreachable")


if __name__ == "__main__":
    run_app(app)
