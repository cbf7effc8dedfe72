"""Choose the members of an ensemble from a search, and export it as a folder that predicts anywhere.

[bold]python -m analysis.export runs/NAME[/]  writes runs/NAME/ensemble.

[bold]python -m analysis.export runs/NAME --refit yes --format onnx[/]  trains the members on train and select together,
and writes one ONNX graph too.

[bold]python -m analysis.export runs/NAME --time-budget 2m --refit auto[/]  ends in about that time: what doesn't fit is
left out (soups first, then latest epochs, cropped and mirrored views), and members are trained again only if that fits.

Members, weights, temperatures and views are chosen on the `select` images (see analysis.select). The holdout images are
looked at once, after that, for the final figures.
"""

import math
import shlex
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from analysis import select
from analysis._staging import replaced_folder
from analysis.deadline import Deadline
from analysis.experiment import load_experiment, read_facts
from analysis.home import ExperimentFolder, send_back
from analysis.manifest import CARD, ENSEMBLE, MANIFEST, MEMBERS, Figures, Gain, Manifest
from trainable import metrics
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.durations import parse_duration
from trainable.errors import UserError
from trainable.escape import printable

if TYPE_CHECKING:
    import torch
    from pandas import DataFrame

    from analysis.ensemble import Ensemble
    from analysis.selection import Selection, Wanted

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

SHOWN_TRIALS = 10
SHOWN_COLUMNS = ("trial", "arch", "epochs", metrics.BEST_TOP1, "lr")


class GraphFormat(StrEnum):
    """As options name them; see analysis.formats."""

    ONNX = "onnx"
    PT2 = "pt2"


class Export(NamedTuple):
    """What was exported, and where."""

    manifest: Manifest
    folder: Path
    test_images: Path | None
    """The data set's own unlabelled images."""


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    folder: ExperimentFolder,
    members: select.Members = 5,
    metric: select.MetricName = "log-loss",
    pick: select.Pick = "knee",
    max_params: select.MaxParams = None,
    max_latency_ms: select.MaxLatency = None,
    extras: select.Extras = True,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Also choose trials whose weights were deleted, and train those again.")
    ] = False,
    refit: Annotated[
        Literal["auto", "yes", "no"],
        typer.Option(
            help="Train the members again on train and select, and export those; auto: if it fits into --time-budget."
        ),
    ] = "no",
    half: Annotated[bool, typer.Option("--half", help="Write the weights in half precision: half the size.")] = False,
    format: Annotated[
        list[GraphFormat] | None,
        typer.Option(help="Also write one graph of the whole ensemble; repeat it for both.", show_default="none"),
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Folder to write.", show_default="EXPERIMENT/ensemble")] = None,
    device: select.Device = "auto",
    time_budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Leave out what doesn't fit, 90s or 2m say.", show_default="no limit"),
    ] = None,
) -> None:
    """Show the best trials, export, and say what was reached."""
    deadline = Deadline(math.inf if time_budget is None else parse_duration(time_budget))
    from analysis.tables import trials_table, wide_console

    with deadline.part("trials"):
        trials = load_experiment(folder)
    wide_console().print(trials_table(trials.head(SHOWN_TRIALS), SHOWN_COLUMNS))
    with deadline.part("imports"):  # torch's, above all
        wanted = select.make_wanted(members, metric, pick, max_params, max_latency_ms, extras, retrain, refit)
    print_outcome(export(folder, trials, wanted, to or folder / ENSEMBLE, device, half, format or (), deadline))
    if to is None:
        with deadline.part("copy"):
            send_back(folder, ENSEMBLE)
    if deadline.is_limited:
        print(f"{'time':8} {deadline.summary()}")


def export(
    folder: Path,
    trials: "DataFrame",
    wanted: "Wanted",
    target: Path,
    device: str = "auto",
    half: bool = False,
    formats: Sequence[str] = (),
    deadline: Deadline | None = None,
) -> Export:
    """Select an ensemble from the experiment in `folder` and write it to `target`, before the deadline if there is one.

    An earlier export in `target` is replaced when the new one is complete. UserError where nothing can be exported,
    or the data set is gone or has changed; UsageError where `target` can't be written.
    """
    deadline = deadline or Deadline()
    with deadline.part("imports"):
        from analysis.evidence import EVIDENCE
        from analysis.formats import FORMATS, check_formats, write_formats
        from analysis.members import halve_members
        from analysis.selection import select_members
        from trainable.device import choose_device

    check_formats(formats)
    facts, chosen_device = read_facts(folder), choose_device(device)
    own = (MANIFEST, CARD, MEMBERS, EVIDENCE, *FORMATS.values())
    with replaced_folder(target, "--to", MANIFEST, own) as staged, TemporaryDirectory() as scratch:
        selection = select_members(folder, trials, facts, wanted, Path(scratch), chosen_device, deadline)
        if selection.refit:
            with deadline.part("refit"):
                selection = refitted(folder, selection, wanted.refit)
        ensemble = stage(selection, staged, chosen_device, deadline)
        notes = []
        with deadline.part("formats"):
            if half:
                ensemble, note = halve_members(staged, ensemble, selection.dataset)
                notes.append(note)
            notes += write_formats(ensemble, selection.dataset, staged, formats, folder.resolve().name)
        manifest = write_papers(folder, trials, selection, ensemble, staged, target, tuple(notes), deadline)
        data = selection.single.config.data
        test_images = data / "test" if isinstance(data, Path) and data.is_dir() else None
        return Export(manifest, target, test_images if len(selection.dataset.splits.test) else None)


def refitted(folder: Path, selection: "Selection", asked: str) -> "Selection":
    """The selection with weights that were trained on train and select; as it was, with a line, if `auto` can't."""
    from analysis.retraining import train_again
    from trainable.files import MODEL

    try:
        folders = train_again(folder, [member.trial for member in selection.members], refit=True)
    except UserError as error:
        if asked == "yes":
            raise
        return selection._replace(refit=False, notes=(*selection.notes, f"no refit: {error}"))
    members = [member._replace(weights=each / MODEL) for member, each in zip(selection.members, folders, strict=True)]
    return selection._replace(members=tuple(members))


def stage(selection: "Selection", staged: Path, device: "torch.device", deadline: Deadline) -> "Ensemble":
    """The selected ensemble with its weights in the folder `staged`."""
    from analysis.members import check_faithful, stage_members

    weights = [member.weights for member in selection.members if member.weights]
    with deadline.part("weights"):
        ensemble = stage_members(staged, selection, weights, device)
    if not selection.refit:  # what is trained on more images predicts otherwise
        with deadline.part("faithful check"):
            check_faithful(ensemble, selection)
    return ensemble


def write_papers(
    folder: Path,
    trials: "DataFrame",
    selection: "Selection",
    ensemble: "Ensemble",
    staged: Path,
    target: Path,
    notes: tuple[str, ...],
    deadline: Deadline,
) -> Manifest:
    """What tells of the ensemble in `staged`: its evidence, its card, and its manifest, which is written last."""
    from analysis.card import model_card
    from analysis.evidence import write_evidence
    from analysis.figures import describe, gather_evidence

    with deadline.part("holdout"):
        evidence = gather_evidence(ensemble, selection)
    with deadline.part("figures"):
        write_evidence(evidence, staged)
        manifest = describe(folder.resolve().name, ensemble, selection, evidence, notes)
        card = model_card(manifest, read_facts(folder), trials, selection.single.config, target)
        (staged / CARD).write_text(card, encoding="utf-8")
        (staged / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    return manifest


def print_outcome(done: Export) -> None:
    """Where the ensemble is, what it reached, and how to predict with it."""
    manifest = done.manifest
    images = shlex.quote(str(done.test_images)) if done.test_images else "IMAGES"
    command = f"python -m analysis.predict {shlex.quote(str(done.folder))} {images} -o best_test_preds.csv"
    shares = zip(manifest.weights, manifest.members, strict=True)
    for note in manifest.notes:
        print(f"{'tried':8} {printable(note)}")
    print(f"{'ensemble':8} {done.folder}")
    print(f"{'members':8} {len(manifest.members)}: {', '.join(f'{share:.0%} {each.trial}' for share, each in shares)}")
    print(f"{'select':8} {figures_text(manifest.select)}; these chose the members")
    print(f"{'holdout':8} {figures_text(manifest.holdout)}; these chose nothing")
    print(f"{'single':8} {figures_text(manifest.single.holdout)}; the best trial alone, on holdout")
    print(f"{'gain':8} {gain_text(manifest.gain)}")
    print(f"{'predict':8} {command}")


def figures_text(figures: Figures) -> str:
    """`top-1 93.33% (90.3 .. 96.0), log loss 0.213, ECE 0.021 of 300 images`."""
    interval = f"({100 * figures.top1_low:.1f} .. {100 * figures.top1_high:.1f})"
    return (
        f"top-1 {figures.top1:.2%} {interval}, log loss {figures.loss:.3f}, ECE {figures.ece:.3f} "
        f"of {figures.images:,} images"
    )


def gain_text(gain: Gain) -> str:
    """`top-1 +1.33 points (-0.33 .. +3.00) over the best trial alone, on holdout`."""
    low, high = 100 * gain.low, 100 * gain.high
    return (
        f"top-1 {100 * gain.difference:+.2f} points ({low:+.2f} .. {high:+.2f}) over the best trial alone, on holdout"
    )


if __name__ == "__main__":
    run_app(app)
