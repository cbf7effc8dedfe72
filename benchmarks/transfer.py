"""What equal seconds buy from published weights: frozen features, one fine-tuning, a search written by hand, and ours.

[bold]python -m benchmarks.transfer --data ants-bees.zip --data blood-cells.zip --png transfer.png[/]

As benchmarks.equal_seconds, whose page says how it is measured, with the weights of EfficientNet-Lite0 and -Lite1 that
come with pip (extra `offline`) for every side:

- frozen: scikit-learn's logistic regression, penalty by cross-validation, on frozen features of the first of them, of
whole images (benchmarks/_equal_frozen.py). It takes as long as it takes.
- one: a single fine-tuning of the first, a new head and one learning rate, as long as the seconds
(benchmarks/_equal_one.py).
- stock: Ray Tune with OptunaSearch and ASHA as one writes it by hand, fine-tuning both (benchmarks/_equal_stock.py).
- ours: python -m tuning.run --space photos --pretrained lite --time-budget.

Hardware: 2 cores of an AMD EPYC with AVX512-BF16, no other work.

Time: a run takes its seconds and up to a minute.

Result, one seed, so that no spread is known: ants-bees, 60 s: frozen 94.8 %, one 90.2 %, ours 95.4 %; tiny-imagenet-20
at 128 px, 600 s: frozen 84.0 %, ours 88.1 %. See docs/log.md.
"""

import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.compare import Quick
from benchmarks.equal_seconds import (
    QUICK_IMAGE,
    QUICK_SECONDS,
    Asked,
    DataSets,
    ImageSize,
    Keep,
    Png,
    Results,
    Seeds,
    Sides,
    StockEpochs,
    compare,
    split_names,
)
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.data.cache import default_cache_dir
from trainable.data.default import DIGITS, choose_data
from trainable.data.lite import PACKAGES, lite_weights

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

EVERY_SIDE = "frozen,one,stock,ours"
SPACE = "photos"


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    data: DataSets = None,
    image_size: ImageSize = None,
    seconds: Annotated[
        list[float] | None, typer.Option(min=1, help="What each side may take. Repeatable. \\[60, 180 and 600]")
    ] = None,
    seeds: Seeds = 3,
    sides: Sides = EVERY_SIDE,
    stock_epochs: StockEpochs = 10,
    results: Results = Path("transfer.jsonl"),
    png: Png = None,
    keep: Keep = None,
    quick: Quick = False,
) -> None:
    """Do the runs that aren't there yet, then print and draw all that were asked for."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the side that runs is ended too
    roots, lengths = data or [choose_data(None).root], seconds or [60.0, 180.0, 600.0]
    if quick:
        roots, image_size, lengths, seeds = [DIGITS.absolute()], QUICK_IMAGE, [QUICK_SECONDS], 1
    weights = {arch: lite_weights(arch, default_cache_dir()) for arch in PACKAGES}
    names, cores = split_names(sides, EVERY_SIDE.split(",")), len(os.sched_getaffinity(0))
    asked = Asked(roots, image_size, [SPACE], lengths, seeds, names, stock_epochs, cores, quick, weights)
    compare(asked, results, png, keep)


if __name__ == "__main__":
    run_app(app)
