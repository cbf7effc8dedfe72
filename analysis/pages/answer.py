"""The answer on top of the page: what the search found, how good it is, what it cost, and what to do now."""

import shlex
from typing import NamedTuple

from analysis.manifest import Manifest
from analysis.pages.records import ENSEMBLE, Search
from analysis.pages.text import compact, count, points, share, slot_time
from trainable import metrics
from trainable.escape import printable

IN_PYTHON = """\
from analysis import load_ensemble
ensemble = load_ensemble({folder!r})
probabilities = ensemble.predict(images)  # uint8 (images, {size}, {size}, 3)"""


class Fact(NamedTuple):
    """A number that people look for first."""

    label: str
    value: str
    note: str


class Answer(NamedTuple):
    """What stands on top."""

    status: str
    """Of the search: `runs`, or how it ended, with its numbers."""
    facts: list[Fact]
    """The most important first."""
    todo: str
    """What to do now, in words."""
    commands: list[tuple[str, str]]
    """What each is for, and what to paste."""


def answer(search: Search) -> Answer:
    """The answer, or as much of it as is known."""
    facts = [*ensemble_facts(search.manifest), *trial_facts(search)] if search.manifest else trial_facts(search)
    todo, commands = next_steps(search)
    return Answer(status(search), facts, todo, commands)


def status(search: Search) -> str:
    """`runs: 5 trials, 12.5 epochs` or the same of one that has ended."""
    numbers = f"{count(len(search.trials), 'trial')}, {count(search.passes, 'epoch')}"
    space = search.plan.get("space", {}).get("name")
    where = f" in the space {printable(space)}" if space else ""
    if search.running:
        return f"The search is running: {numbers} so far{where}."
    waits = bool(search.trials["state"].eq("interrupted").any())
    return f"{'The search was interrupted' if waits else 'The search has ended'}: {numbers}{where}."


def ensemble_facts(manifest: Manifest) -> list[Fact]:
    """Accuracy, members and optimism of the ensemble."""
    holdout, select = manifest.holdout, manifest.select
    gain = manifest.gain
    return [
        Fact(
            "Accuracy on holdout",
            share(holdout.top1),
            f"95 % interval {share(holdout.top1_low)} to {share(holdout.top1_high)}; "
            f"{count(holdout.images, 'image')} that decided nothing",
        ),
        Fact(
            "Ensemble",
            count(len(manifest.members), "member"),
            f"{points(gain.difference)} over the best trial alone (95 % {points(gain.low)} to {points(gain.high)})",
        ),
        Fact(
            "Expected optimism",
            points(select.top1 - holdout.top1),
            f"select {share(select.top1)} minus holdout: the search chose on {count(select.images, 'select image')}",
        ),
    ]


def trial_facts(search: Search) -> list[Fact]:
    """The best trial and the cost."""
    best = search.trials.iloc[0]
    scored = best[metrics.BEST_TOP1] == best[metrics.BEST_TOP1]
    epoch = f"epoch {compact(best[metrics.BEST_EPOCH])} of {compact(search.full_epochs)}"
    found = Fact(
        "Best trial",
        share(best[metrics.BEST_TOP1]) if scored else "none yet",
        f"{printable(best['trial'])} on select, {epoch}{alone(search, best['trial'])}"
        if scored
        else "no trial has been scored yet",
    )
    trained = f"{count(search.passes, 'epoch')} of {len(search.trials):,} trials"
    cost = Fact("Cost", slot_time(search.seconds), trained)
    return [found, cost, *weights_facts(search)]


def weights_facts(search: Search) -> list[Fact]:
    """That trainings started from published weights, if they did, and what that means for the figures."""
    sources = search.plan.get("trial", {}).get("pretrained")
    if not sources:
        return []
    whose = count(len(sources), "architecture") if isinstance(sources, dict) else "as --pretrained says"
    return [Fact("Started from", "published weights", f"{whose}; no figure here compares with one from scratch")]


def alone(search: Search, trial: str) -> str:
    """What the best single trial reached on holdout, where an export measured it."""
    if search.manifest is None or search.manifest.single.trial != trial:
        return ""
    return f"; {share(search.manifest.single.holdout.top1)} on holdout"


def next_steps(search: Search) -> tuple[str, list[tuple[str, str]]]:
    """What to do now: predict, or what leads to an ensemble."""
    folder = shlex.quote(str(search.folder))
    again = ("this page again", f"python -m analysis.report {folder}")
    export = ("choose members and export", f"python -m analysis.export {folder}")
    resume = ("go on with the search", f"python -m tuning.run --resume {folder}")
    if search.manifest:
        target, size = search.folder / ENSEMBLE, search.manifest.members[0].image_size
        predict = f"python -m analysis.predict {shlex.quote(str(target))} IMAGES -o predictions.csv"
        code = IN_PYTHON.format(folder=str(target), size=size)
        return "Predict with the ensemble:", [("in a shell", predict), ("in Python", code)]
    if search.running:
        return "No ensemble yet: the search exports one at its end. Meanwhile, for newer numbers:", [again]
    if search.problem:
        return f"The ensemble can't be used: {search.problem}.", [export]
    if search.scored.empty:
        return "No trial has a score, so there is nothing to export. See below what failed, then:", [resume]
    return "No ensemble yet. Export one from what is there, or go on first:", [export, resume]
