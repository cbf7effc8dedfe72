"""The options of `python -m tuning.run`: their types, limits and help, grouped as `--help` shows them."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from search_spaces import names
from trainable.config import DataOn, Policy, Precision
from tuning.plan import RefitMode, Sampler, Scheduler, Search, WandbMode

SEARCH, SLOTS, DATA, TRAINING, EXPERIMENT = "Search", "Resources", "Data", "Training", "Experiment"


def _option(panel: str, text: str, *flags: str, **limits: Any) -> Any:
    return typer.Option(*flags, help=escape(text), rich_help_panel=panel, **limits)


SpaceName = Annotated[
    str, _option(SEARCH, f"What may vary: {', '.join(names())}, or a .toml file, or a .py file, which is run.")
]
Settings = Annotated[
    list[str] | None,
    _option(
        SEARCH,
        "Narrow or fix a dimension: lr=1e-4:1e-2:log, arch=resnet18,swin_tiny, batch_size=64. Repeatable.",
        "--set",
        metavar="NAME=VALUES",
    ),
]
Tries = Annotated[
    list[str] | None,
    _option(
        SEARCH,
        "Try this configuration first: lr=2e-5,arch=swin_tiny; the rest as the space starts. Repeatable.",
        "--try",
        metavar="NAME=VALUE,...",
    ),
]
Trials = Annotated[
    int | None,
    _option(SEARCH, "Configurations to try. [8 on the digits, else 20; as many as a given budget buys]", min=1),
]
Epochs = Annotated[
    float | None,
    _option(
        SEARCH,
        "Epochs of a full training, whole or not. [what the time budget has room for; without one 30, 4 on the digits]",
        min=0.001,
    ),
]
StepUpdates = Annotated[
    int | None,
    _option(
        SEARCH,
        "Updates between two scores of a trial. [an epoch; a part of one that takes long, several that are short]",
        min=1,
    ),
]
TimeBudget = Annotated[
    str | None,
    _option(
        SEARCH,
        "A deadline: from this command to the last file of ensemble and report, such as 5m, 2h, 1h30m. "
        "[3m30s on the digits, else none]",
        metavar="TIME",
    ),
]
EpochBudget = Annotated[int | None, _option(SEARCH, "End after so many epochs of all trials together.", min=1)]
SearchName = Annotated[
    Search | None,
    _option(
        SEARCH,
        "freeze-thaw: one model decides what starts and what goes on; halving: --sampler and --scheduler do. "
        "[freeze-thaw, unless one of these is given]",
    ),
]
SchedulerName = Annotated[
    Scheduler | None,
    _option(
        SEARCH,
        "What ends trials early: asha pauses and promotes; Ray's asha-stop, hyperband, median; none. "
        "pbt: the worst go on from copies of the best.",
    ),
]
ReductionFactor = Annotated[
    float, _option(SEARCH, "Rungs grow by it; halving and hyperband let the top 1/N of a rung go on.", metavar="N")
]
FirstRung = Annotated[
    int | None,
    _option(SEARCH, "Steps before a trial may pause, be ended early, or copied. [2 of 10 or more, else 1]", min=1),
]
WarmStart = Annotated[
    list[str] | None,
    _option(
        SEARCH,
        "Start from what this earlier experiment found; with other images it is only a prior. Repeatable.",
        metavar="NAME",
    ),
]
SamplerName = Annotated[
    Sampler, _option(SEARCH, "Optuna's sampler; gp, a Gaussian process, takes a second a proposal; qmc fills evenly.")
]
Seed = Annotated[int, _option(SEARCH, "Fixes splits, sampling and training.", min=0, max=2**31 - 1)]
DryRun = Annotated[bool, _option(SEARCH, "Print space, plan, resources and budget; start nothing.", "--dry-run")]

GpusPerTrial = Annotated[
    str, _option(SLOTS, "auto: measured; 0.25: four trials share a GPU; 0: CPUs only.", metavar="auto|N")
]
CpusPerTrial = Annotated[float | None, _option(SLOTS, "Cores, and torch threads, a trial. [1 on a CPU]")]
Concurrent = Annotated[int | None, _option(SLOTS, "Trials at once. [as many as fit]", min=1)]
MaxSlots = Annotated[
    int | None,
    _option(
        SLOTS,
        "Trials at once at most: this search's share of a cluster. Where fewer fit now, more run as nodes join, and an "
        "autoscaler is asked for them. [all that fit]",
        min=1,
        metavar="N",
    ),
]
CpuTrials = Annotated[
    bool,
    _option(
        SLOTS,
        "Let nodes without a GPU take trials too where others have GPUs; whichever come up, so an epoch may take long.",
        "--cpu-trials",
    ),
]
Address = Annotated[str | None, _option(SLOTS, "Ray cluster to join: auto or HOST:PORT. [starts Ray here]")]

DataFolder = Annotated[
    str | None,
    _option(
        DATA,
        "Folder or archive (.zip, .tar, .tar.gz) of labelled images, or the address of one, such as "
        "s3://BUCKET/images.zip, which each machine fetches once. [data/tiny-imagenet-200, else the embedded digits]",
        metavar="PATH|ADDRESS",
    ),
]
ImageSize = Annotated[int | None, _option(DATA, "Side in pixels. [the images' own, at most 224]", min=8, max=1024)]
CacheDir = Annotated[Path | None, _option(DATA, "Where fetched and decoded images are kept. [the user's cache folder]")]
CacheSize = Annotated[
    str,
    _option(
        DATA,
        "Where fetched and decoded images would take more, those used least recently go; for folders of this machine "
        "only if another size is given. 0: no limit.",
        metavar="SIZE",
    ),
]
SelectShare = Annotated[
    float | None,
    _option(
        DATA,
        "Share of the training images that decides and isn't trained on. [5 % of many, up to 20 % of few]",
        metavar="SHARE",
    ),
]
SkipBadImages = Annotated[bool, _option(DATA, "Go on without images that can't be decoded.", "--skip-bad-images")]

Pretrained = Annotated[
    str | None,
    _option(
        TRAINING,
        "Published weights to start from: auto, those of timm's cache, of pip's packages or of its hub; timm; lite, "
        "pip's alone; none; a file, a folder of <timm name>.safetensors, an address, or ARCH=FILE,... "
        "[auto; none for the digits]",
        metavar="auto|timm|lite|none|PATH|ADDRESS",
    ),
]
Augment = Annotated[Policy, _option(TRAINING, "Augmentation of single images.")]
Flip = Annotated[
    bool | None,
    _option(TRAINING, "Whether a mirrored image keeps its label. [yes, except for the digits]", "--flip/--no-flip"),
]
DataPlace = Annotated[
    DataOn,
    _option(
        TRAINING,
        "Where batches are augmented: as a whole on the device, or image by image on the host; auto takes the faster.",
        "--data-on",
    ),
]
ProgressiveResize = Annotated[
    bool,
    _option(
        TRAINING,
        "Train on images of half the size first, of three quarters then, the whole at last. Pays from 64 px on.",
        "--progressive-resize",
    ),
]
PrecisionName = Annotated[Precision, _option(TRAINING, "Arithmetic; auto takes bf16 where it is native.")]

Name = Annotated[str | None, _option(EXPERIMENT, "The experiment's name. [space and time]")]
Output = Annotated[Path, _option(EXPERIMENT, "Folder of all experiments.")]
Storage = Annotated[
    str | None,
    _option(
        EXPERIMENT,
        "Where checkpoints go, and copies of all else: s3://bucket/runs, or a folder that all nodes share. [--output]",
        metavar="ADDRESS",
    ),
]
Resume = Annotated[str | None, _option(EXPERIMENT, "Go on with this experiment.", metavar="NAME")]
Retries = Annotated[
    int,
    _option(EXPERIMENT, "How often a trial that breaks goes on from its checkpoint before it counts as failed.", min=0),
]
StallTimeout = Annotated[
    str | None,
    _option(
        EXPERIMENT,
        "End and retry a trial that reports nothing for so long. [10 of its epochs, at least 10m]",
        metavar="TIME",
    ),
]
MinFree = Annotated[str, _option(EXPERIMENT, "Begin no trial where less of the disk is free.", metavar="SIZE")]
MaxSize = Annotated[
    str,
    _option(
        EXPERIMENT, "Where checkpoints take more, the least promising paused trials end. 0: no limit.", metavar="SIZE"
    ),
]
Refit = Annotated[
    RefitMode,
    _option(
        EXPERIMENT,
        "Train the members again on train and select: auto if the time budget has room for it.",
        "--refit",
    ),
]
KeepWeights = Annotated[int, _option(EXPERIMENT, "Keep the weights of this many best trials.", min=1)]
Pages = Annotated[
    bool, _option(EXPERIMENT, "Serve optuna-dashboard's pages of the search on 127.0.0.1 while it runs.", "--dashboard")
]
Study = Annotated[
    str | None,
    _option(
        EXPERIMENT,
        "Also keep the study in this database: postgresql://USER@HOST/NAME, mysql://..., sqlite:///FILE. "
        "Its password is taken from PGPASSWORD, ~/.pgpass or MYSQL_PWD.",
        metavar="ADDRESS",
    ),
]
Mlflow = Annotated[
    str | None,
    _option(EXPERIMENT, "Also log to MLflow: http://HOST:PORT, sqlite:///FILE or a folder.", metavar="ADDRESS"),
]
Wandb = Annotated[
    WandbMode | None, _option(EXPERIMENT, "Weights & Biases. [online if an API key is configured, else off]")
]
WandbProject = Annotated[str, _option(EXPERIMENT, "The W&B project.")]
Quiet = Annotated[bool, _option(EXPERIMENT, "Only results and errors.", "--quiet", "-q")]
Verbose = Annotated[bool, _option(EXPERIMENT, "Also the logs of Ray and of the trials.", "--verbose", "-v")]


def given_options(context: typer.Context) -> set[str]:
    """The parameters that were given on the command line."""
    return {name for name in context.params if context.get_parameter_source(name).name == "COMMANDLINE"}  # type: ignore[union-attr]
