"""What an ensemble brings over the best single trial of the same search, on the images that decided nothing.

[bold]python -m tuning.run --space all --trials 16 --epochs 6 --search halving --time-budget 60m --keep-weights 100
--name digits16[/]  searches on the embedded digits.

[bold]python -m benchmarks.ensemble_gain runs/digits16[/]  exports from it twice, into a temporary folder, and compares.

Rows: the best trial as its search leaves it, the same with a temperature, the ensemble of trials alone, and the one
with latest epochs, soups and views. Columns: top-1 on select and on holdout with its 95 % interval, its difference from
the best trial's with the paired interval, log loss on holdout and its ratio to that of the calibrated best trial, and
the calibration error before and after.
"""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.calibration import figures
from analysis.evidence import read_evidence
from analysis.experiment import load_experiment
from analysis.export import export
from analysis.front import Limits
from analysis.library import calibrated
from analysis.manifest import Figures, Manifest
from analysis.selection import Wanted
from benchmarks.compare import JsonFile, report
from trainable.console import UNDERSCORES_ARE_DASHES, run_app

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    folder: Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="Folder of the search: runs/NAME.")],
    members: Annotated[int, typer.Option(min=1, help="Most members.")] = 5,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    json_file: JsonFile = None,
) -> None:
    """Export, and compare."""
    trials = load_experiment(folder)
    with tempfile.TemporaryDirectory() as scratch:
        plain, full = (
            export(folder, trials, Wanted(Limits(members), extras=extras), Path(scratch) / name, device)
            for name, extras in (("trials", False), ("full", True))
        )
        holdout = read_evidence(full.folder).holdout
    manifest = full.manifest
    alone = figures(calibrated(holdout.single, 1.0), holdout.labels)
    rows = [
        row(f"best trial, {manifest.single.trial}", manifest.single.select, alone, manifest, alone),
        row("the same, calibrated", manifest.single.select, manifest.single.holdout, manifest, alone),
        *(
            row(f"{name}: {shares(each)}", each.select, each.holdout, each, each.uncalibrated)
            for name, each in (("trials alone", plain.manifest), ("with extras", manifest))
        ),
    ]
    for name, each in zip(("trials alone", "with extras"), (plain.manifest, manifest), strict=True):
        for note in each.notes:
            print(f"{name}: {note}")
    written = {"trials alone": plain.manifest, "with extras": manifest}
    figures_of = {name: each.model_dump(mode="json", exclude={"front"}) for name, each in written.items()}
    report(f"{folder.name}: {holdout.labels.size:,} images of holdout", rows, figures_of, json_file)


def shares(manifest: Manifest) -> str:
    """`60% 0003-swin_tiny, 40% 0001-resnet18`."""
    return ", ".join(
        f"{weight:.0%} {each.trial}" for weight, each in zip(manifest.weights, manifest.members, strict=True)
    )


def row(name: str, select: Figures, holdout: Figures, manifest: Manifest, before: Figures) -> dict[str, Any]:
    """One line of the table; of the best trial itself there is no difference."""
    gain, is_ensemble = manifest.gain, holdout == manifest.holdout
    difference = f"{100 * gain.difference:+.2f} ({100 * gain.low:+.2f} .. {100 * gain.high:+.2f})"
    return {
        "": name,
        "select": f"{select.top1:.2%}",
        "holdout": f"{holdout.top1:.2%} ({100 * holdout.top1_low:.1f} .. {100 * holdout.top1_high:.1f})",
        "points over the best trial": difference if is_ensemble else "",
        "log loss": f"{holdout.loss:.4f}",
        "/ calibrated best": f"{holdout.loss / manifest.single.holdout.loss:.3f}",
        "ECE before": f"{before.ece:.4f}",
        "after": f"{holdout.ece:.4f}",
    }


if __name__ == "__main__":
    run_app(app)
