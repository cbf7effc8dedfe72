"""The export's README.md: what the ensemble is, what it reached and on what, and what it can't tell."""

import html
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm

from analysis.manifest import Figures, Manifest
from analysis.snapshots import LATEST
from analysis.tables import cell_text
from trainable.architectures import timm_name
from trainable.config import LITE, PROBE, TrialConfig
from trainable.escape import printable

if TYPE_CHECKING:
    from pandas import DataFrame

TEXT = """\
# {experiment}: an ensemble of image classifiers

{members} for {classes:,} classes: softmax(log(sum of w softmax(logits / T)) / {temperature:.3f}), with the weight w and
the temperature T of each member. Logits are the mean over the views: {views}.

## Figures

{figures}

{gain}

The select images were used to choose: each trial's best epoch, which trials went on, the members, their weights,
temperatures and views, so the select figures are expected to be too good: top-1 on select minus that on holdout is
{optimism:+.2f} points. The holdout images were used for nothing but these figures. Intervals are 95 % (bootstrap).

Calibration, on holdout: {calibration}.

## Members

{trials}
{notes}
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
- The figures hold for images like those above: the shorter side resized, the centre cut out. On others, confidences
  are no calibrated probabilities either.
- Images of the same scene or person in more than one split would make all figures too good:
  `python -m analysis.dataset` looks for such duplicates.

## Licence of the weights

{licence}

Made {created} with {versions}.
"""


def model_card(
    manifest: Manifest, facts: dict[str, Any], trials: "DataFrame", config: TrialConfig, target: Path
) -> str:
    """Markdown from the manifest, experiment.json, its trials, the configuration of one, and the export's folder."""
    count = len(manifest.members)
    parts = ((name, facts["images"][name]) for name in ("train", "select", "holdout", "test"))
    return TEXT.format(
        experiment=markdown_text(manifest.experiment),
        members="1 model" if count == 1 else f"{count} models",
        classes=len(manifest.classes),
        temperature=manifest.temperature,
        views=", ".join(manifest.views),
        figures=figures_table(manifest),
        gain=gain_text(manifest),
        optimism=100 * (manifest.select.top1 - manifest.holdout.top1),
        calibration=calibration_text(manifest),
        trials=members_table(manifest, trials),
        notes="".join(f"\n- {markdown_text(note)}" for note in manifest.notes) + "\n",
        data=printable(str(config.data)).replace("`", r"\x60"),
        images=", ".join(f"{number:,} {name}" for name, number in parts),
        dataset=manifest.dataset,
        search=search_text(facts, trials),
        target=printable(shlex.quote(str(target))),
        target_text=str(target),
        size=manifest.members[0].image_size,
        licence=licence_text(config, [member.config["arch"] for member in manifest.members]),
        created=f"{manifest.created:%Y-%m-%d %H:%M} UTC",
        versions=", ".join(f"{name} {number}" for name, number in manifest.versions.items()),
    )


def figures_table(manifest: Manifest) -> str:
    """The ensemble beside the best single trial, on both splits."""
    single = manifest.single
    rows = [
        ("ensemble", "holdout", manifest.holdout),
        ("best trial alone", "holdout", single.holdout),
        ("ensemble", "select", manifest.select),
        ("best trial alone", "select", single.select),
    ]
    cells = ((who, split, *figures_cells(figures), f"{figures.images:,}") for who, split, figures in rows)
    return markdown(("", "split", "top-1", "95 %", "top-5", "log loss", "Brier", "ECE", "images"), cells)


def gain_text(manifest: Manifest) -> str:
    """What the ensemble brings, and whose figures these are."""
    low, difference, high = (100 * value for value in (manifest.gain.low, manifest.gain.difference, manifest.gain.high))
    text = (
        f"The ensemble's top-1 on holdout is {difference:+.2f} points ({low:+.2f} to {high:+.2f}) from that of "
        f"{markdown_text(manifest.single.trial)}, the trial with the best score on select."
    )
    again = (
        " The members were trained again on train and select together: their select figures are those from before, "
        "their holdout figures are those of the exported weights."
    )
    return text + (again if manifest.refit else "")


def calibration_text(manifest: Manifest) -> str:
    """Log loss, Brier score and calibration error without temperatures and with them."""
    before, after = manifest.uncalibrated, manifest.holdout
    return ", ".join(
        f"{name} {getattr(before, field):.4f} before, {getattr(after, field):.4f} after"
        for name, field in (("log loss", "loss"), ("Brier score", "brier"), ("ECE in 15 bins", "ece"))
    )


def members_table(manifest: Manifest, trials: "DataFrame") -> str:
    """Each member's own figures, and the searched values of its trial (the columns behind `checkpoint`)."""
    searched = list(trials.columns[list(trials.columns).index("checkpoint") + 1 :])
    values = trials.set_index("trial")[searched]
    rows = []
    for weight, member in zip(manifest.weights, manifest.members, strict=True):
        trial = member.trial.removesuffix(LATEST)
        own = [cell_text(name, values.loc[trial, name]) if trial in values.index else "-" for name in searched]
        top1 = f"{member.select.top1:.2%}", f"{member.holdout.top1:.2%}"
        rows.append((member.trial, member.source, f"{weight:.0%}", f"{member.temperature:.3f}", *top1, *own))
    return markdown(("member", "weights of", "w", "T", "select top-1", "holdout top-1", *searched), rows)


def licence_text(config: TrialConfig, archs: Iterable[str]) -> str:
    """Where the members' weights come from, what they have seen, and what that means for their use."""
    sources = {arch: config.model_copy(update={"arch": arch}).starts_from for arch in sorted(set(archs))}
    if not any(sources.values()):
        return "All weights were trained from random numbers on the data above: its terms are the only ones."
    parts = []
    for arch, source in sources.items():
        if source is True or source == LITE:
            found = timm.get_pretrained_cfg(timm_name(arch))
            tag = f", weights {found.tag} (the tag names the data that they have seen)" if found and found.tag else ""
            parts.append(f"{arch}: {(found and found.license) or 'unknown'}{tag}")
        else:
            parts.append(f"{arch}: those of {printable(str(source))}")
    return (
        f"All weights began as published ones, whose licences are ({'; '.join(parts)}); the data's terms hold beside "
        "these. If published weights have seen such images, no figure here compares with one from scratch."
    )


def search_text(facts: dict[str, Any], trials: "DataFrame") -> str:
    """The plan, how its trials ended, and what they took."""
    plan = facts["plan"]
    trained = trials[trials["freeze"] != PROBE] if "freeze" in trials else trials
    epochs = f"{trained['epochs'].sum():,.1f}".removesuffix(".0")
    states = ", ".join(f"{number} {state}" for state, number in trials["state"].value_counts().items())
    return (
        f"Space {markdown_text(plan['space']['name'])}, {len(trials)} trials ({states}) of at most {plan['epochs']:g} "
        f"epochs, scheduler {plan['scheduler']}, sampler {plan['sampler']}, seed {plan['seed']}: "
        f"{epochs} epochs, {trials['seconds'].sum() / 3600:.2f} hours of training.\n\n"
        f"    {printable(shlex.join(facts['command']))}\n\n"
        f"Code: commit {facts['git_commit'] or 'unknown'}."
    )


def figures_cells(figures: Figures) -> tuple[str, ...]:
    """Top-1, its interval, top-5, log loss, Brier score and calibration error as text."""
    interval = f"{100 * figures.top1_low:.1f} to {100 * figures.top1_high:.1f}"
    scores = (f"{value:.3f}" for value in (figures.loss, figures.brier, figures.ece))
    return f"{figures.top1:.2%}", interval, f"{figures.top5:.2%}", *scores


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of plain text."""
    lines = ([markdown_text(cell) for cell in line] for line in (header, ["---"] * len(header), *rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown_text(text: str) -> str:
    """The text as Markdown and HTML show it literally, on one line."""
    return "".join(f"\\{each}" if each in "\\`|[]*" else html.escape(each, quote=False) for each in printable(text))
