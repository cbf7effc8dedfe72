"""The export's README.md: what the ensemble is, what it reached and on what, and what it can't tell."""

import html
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.manifest import Figures, Manifest
from analysis.tables import cell_text
from trainable.escape import printable

if TYPE_CHECKING:
    from pandas import DataFrame

TEXT = """\
# {experiment}: an ensemble of image classifiers

{members} for {classes:,} classes: softmax(mean of the logits / {temperature:g}).

## Figures

{figures}

The select images were used to choose: each trial's best epoch, which trials went on, and the members. So the select
figures are too good, the more so the fewer images there are. The holdout images were used for nothing but these
figures.

## Members

{trials}

## Data

`{data}`: {images}. Fingerprint `{dataset}` (paths, file sizes, labels, image size).

## How it was searched

{search}

## How to predict

    python -m analysis.predict {target} IMAGES -o best_test_preds.csv

or in Python, with uint8 RGB images (images, {size}, {size}, 3):

    from analysis import load_ensemble
    probabilities = load_ensemble({target_text!r}).predict(images)

Neither needs Ray or the training data. Prediction is in single precision.

## Limits

- It answers with one of its {classes:,} classes for any image, also for one that shows none of them.
- The figures hold for images like those above: the shorter side resized, the centre cut out.
- The temperature isn't fitted: a confidence is no calibrated probability.
- Images of the same scene or person in more than one split would make all figures too good; nothing here checks that.

Made {created} with {versions}.
"""


def model_card(manifest: Manifest, facts: dict[str, Any], trials: "DataFrame", data: Path, target: Path) -> str:
    """Markdown from the manifest, the content of experiment.json, its trials, the data's folder and the export's."""
    count = len(manifest.members)
    parts = ((name, facts["images"][name]) for name in ("train", "select", "holdout", "test"))
    return TEXT.format(
        experiment=markdown_text(manifest.experiment),
        members="1 model" if count == 1 else f"{count} models",
        classes=len(manifest.classes),
        temperature=manifest.temperature,
        figures=figures_table(manifest),
        trials=members_table(manifest, trials),
        data=printable(str(data)).replace("`", r"\x60"),
        images=", ".join(f"{number:,} {name}" for name, number in parts),
        dataset=manifest.dataset,
        search=search_text(facts, trials),
        target=printable(shlex.quote(str(target))),
        target_text=str(target),
        size=manifest.members[0].image_size,
        created=f"{manifest.created:%Y-%m-%d %H:%M} UTC",
        versions=", ".join(f"{name} {number}" for name, number in manifest.versions.items()),
    )


def figures_table(manifest: Manifest) -> str:
    """The ensemble beside its best member alone, on both splits."""
    best = manifest.members[0]
    rows = [
        ("ensemble", "holdout", manifest.holdout),
        ("best trial alone", "holdout", best.holdout),
        ("ensemble", "select", manifest.select),
        ("best trial alone", "select", best.select),
    ]
    cells = ((who, split, *figures_cells(figures), f"{figures.images:,}") for who, split, figures in rows)
    return markdown(("", "split", "top-1", "top-5", "loss", "images"), cells)


def members_table(manifest: Manifest, trials: "DataFrame") -> str:
    """Each member's own figures, and its searched values (the columns behind `checkpoint`)."""
    searched = list(trials.columns[list(trials.columns).index("checkpoint") + 1 :])
    values = trials.set_index("trial")[searched]
    rows = []
    for member in manifest.members:
        own = [cell_text(name, values.loc[member.trial, name]) for name in searched]
        rows.append((member.trial, f"{member.select.top1:.2%}", f"{member.holdout.top1:.2%}", *own))
    return markdown(("trial", "select top-1", "holdout top-1", *searched), rows)


def search_text(facts: dict[str, Any], trials: "DataFrame") -> str:
    """The plan, how its trials ended, and what they took."""
    plan = facts["plan"]
    states = ", ".join(f"{number} {state}" for state, number in trials["state"].value_counts().items())
    return (
        f"Space {markdown_text(plan['space']['name'])}, {len(trials)} trials ({states}) of at most {plan['epochs']} "
        f"epochs, scheduler {plan['scheduler']}, sampler {plan['sampler']}, seed {plan['seed']}: "
        f"{trials['epochs'].sum():,} epochs, {trials['seconds'].sum() / 3600:.2f} hours of training.\n\n"
        f"    {printable(shlex.join(facts['command']))}\n\n"
        f"Code: commit {facts['git_commit'] or 'unknown'}."
    )


def figures_cells(figures: Figures) -> tuple[str, str, str]:
    """Top-1, top-5 and loss as text."""
    return f"{figures.top1:.2%}", f"{figures.top5:.2%}", f"{figures.loss:.3f}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of plain text."""
    lines = ([markdown_text(cell) for cell in line] for line in (header, ["---"] * len(header), *rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown_text(text: str) -> str:
    """The text as Markdown and HTML show it literally, on one line."""
    return "".join(f"\\{each}" if each in "\\`|[]*" else html.escape(each, quote=False) for each in printable(text))
