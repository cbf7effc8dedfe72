"""Choose the best members of a search, and export them as one ensemble that predicts anywhere.

[bold]python -m analysis.export runs/NAME[/]  writes runs/NAME/ensemble.

Members are chosen on the `select` images. The holdout images are looked at once, after that, for the final figures.
"""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from analysis._staging import replaced_folder
from analysis.experiment import load_experiment, read_facts
from analysis.manifest import CARD, MANIFEST, MEMBERS, Figures, Manifest
from trainable import metrics
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

    from analysis.candidates import Candidate
    from trainable.data.dataset import Dataset

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

SHOWN_TRIALS = 10
SHOWN_COLUMNS = ("trial", "arch", "epochs", metrics.BEST_TOP1, "lr")


class Export(NamedTuple):
    """What was exported, and where."""

    manifest: Manifest
    folder: Path
    test_images: Path | None
    """The data set's own unlabelled images."""


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    folder: Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="Folder of the search: runs/NAME.")],
    members: Annotated[int, typer.Option(min=1, help="Most members; fewer are taken where more don't help.")] = 5,
    to: Annotated[Path | None, typer.Option(help="Folder to write.", show_default="EXPERIMENT/ensemble")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Show the best trials, export, and say what was reached."""
    from analysis.tables import trials_table, wide_console

    trials = load_experiment(folder)
    wide_console().print(trials_table(trials.head(SHOWN_TRIALS), SHOWN_COLUMNS))
    print_outcome(export(folder, trials, members, to or folder / "ensemble", device))


def export(folder: Path, trials: "DataFrame", most: int, target: Path, device: str = "auto") -> Export:
    """Choose at most `most` members of the experiment in `folder` and write them to `target`.

    An earlier export in `target` is replaced when the new one is complete. UserError where nothing can be exported,
    or the data set is gone or has changed; UsageError where `target` can't be written.
    """
    from analysis.candidates import check_logits, find_candidates
    from analysis.card import model_card
    from analysis.figures import describe, evaluate
    from analysis.members import check_faithful, stage_members
    from analysis.select import choose_members

    facts = read_facts(folder)
    candidates = find_candidates(folder, trials, facts)
    dataset = open_data(candidates[0], facts["dataset"])
    select = dataset.splits.select
    check_logits(candidates, len(select), dataset.num_classes)
    chosen = choose_members([each.logits for each in candidates], dataset.cache.labels[select], most)
    members = [candidates[index] for index in chosen.indices]
    data = members[0].config.data
    with replaced_folder(target, "--to", MANIFEST, own=(MANIFEST, CARD, MEMBERS)) as staged:
        ensemble = stage_members(staged, members, dataset, device)
        check_faithful(ensemble, members, dataset)
        holdout = evaluate(ensemble, dataset, dataset.splits.holdout)
        manifest = describe(folder.resolve().name, ensemble, members, chosen.scores, holdout, dataset)
        (staged / CARD).write_text(model_card(manifest, facts, trials, data, target), encoding="utf-8")
        (staged / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    return Export(manifest, target, data / "test" if len(dataset.splits.test) else None)


def open_data(candidate: "Candidate", fingerprint: str) -> "Dataset":
    """The images that the experiment was made with; UserError where they are gone or have changed."""
    from trainable.data.dataset import open_dataset

    config = candidate.config
    if not config.data.is_dir():
        raise UserError(f"{config.data}: the experiment's data set is no longer there; put it back and export again")
    dataset = open_dataset(config.data, candidate.image_size, config.seed, config.cache_dir, config.skip_bad_images)
    if dataset.cache.fingerprint != fingerprint:
        raise UserError(f"{config.data}: the images have changed since the search; restore them and export again")
    return dataset


def print_outcome(done: Export) -> None:
    """Where the ensemble is, what it reached, and how to predict with it."""
    manifest, best = done.manifest, done.manifest.members[0]
    images = shlex.quote(str(done.test_images)) if done.test_images else "IMAGES"
    command = f"python -m analysis.predict {shlex.quote(str(done.folder))} {images} -o best_test_preds.csv"
    print(f"{'ensemble':8} {done.folder}")
    print(f"{'members':8} {len(manifest.members)}: {', '.join(member.trial for member in manifest.members)}")
    print(f"{'select':8} {figures_text(manifest.select)}; these chose the members")
    print(f"{'holdout':8} {figures_text(manifest.holdout)}; these chose nothing")
    print(f"{'single':8} {figures_text(best.holdout)}; the best trial alone, on holdout")
    print(f"{'predict':8} {command}")


def figures_text(figures: Figures) -> str:
    """`top-1 93.33%, top-5 99.67% of 300 images`."""
    return f"top-1 {figures.top1:.2%}, top-5 {figures.top5:.2%} of {figures.images:,} images"


if __name__ == "__main__":
    run_app(app)
