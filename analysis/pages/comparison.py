"""Experiments beside each other, as tables: what was searched, what was found, and whether it compares."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis.pages.ensemble_tables import Measured, read_measured
from analysis.pages.records import ENSEMBLE, Search, read_search
from analysis.pages.text import compact, count, share, slot_time
from trainable import metrics
from trainable.errors import UserError

SHOWN_HASH = 12
"""Characters of a fingerprint."""
UNKNOWN = "-"


class Entry(NamedTuple):
    """An experiment among others."""

    name: str
    """Unique among them."""
    search: Search
    measured: Measured | None
    problem: str
    """Why there is no ensemble to measure; empty where there is one."""

    @property
    def seconds(self) -> float:
        """That slots were used."""
        return self.search.seconds


def read_entries(folders: Sequence[Path]) -> list[Entry]:
    """The experiments in their order; UsageError or UserError where one is none, or has no trial yet."""
    return [read_entry(folder, name) for folder, name in zip(folders, unique_names(folders), strict=True)]


def read_entry(folder: Path, name: str) -> Entry:
    """An experiment with its ensemble, where it has one."""
    search = read_search(folder)
    if search.manifest is None:
        return Entry(name, search, None, search.problem or "no ensemble was exported")
    try:
        return Entry(name, search, read_measured(folder / ENSEMBLE), "")
    except UserError as error:
        return Entry(name, search, None, str(error))


def unique_names(folders: Sequence[Path]) -> list[str]:
    """The folders' names, or their paths where some are called the same."""
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def warnings(entries: Sequence[Entry]) -> list[str]:
    """What keeps the numbers from comparing, one sentence each."""
    told = [f"{entry.name}: {entry.problem}" for entry in entries if entry.measured is None]
    told += [f"{entry.name} is still running" for entry in entries if entry.search.running]
    if several(classes := [entry.search.facts.get("classes") for entry in entries]):
        told.append(f"the numbers of classes differ ({listing(entries, classes)}): accuracies don't compare")
    elif several(data := [entry.search.facts.get("dataset") for entry in entries]):
        sizes = [trial_facts(entry.search.facts).get("image_size") for entry in entries]
        if several(sizes):
            told.append(
                f"the image sizes differ ({listing(entries, sizes)}): accuracies compare only if the files are the same"
            )
        else:
            hashes = [str(each)[:SHOWN_HASH] for each in data]
            told.append(f"the data differ ({listing(entries, hashes)}): accuracies don't compare")
    return told


def several(values: Sequence[object]) -> bool:
    """Whether not all are the same."""
    return any(value != values[0] for value in values)


def listing(entries: Sequence[Entry], values: Sequence[object]) -> str:
    """`a 10, b 200`."""
    return ", ".join(f"{entry.name} {value}" for entry, value in zip(entries, values, strict=True))


def trial_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """What the plan fixes for all trials."""
    return facts.get("plan", {}).get("trial", {})


def searched_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """What was searched: a row a property, `what`, and a column of text an experiment, by its name."""
    return side_by_side(entries, [searched(entry) for entry in entries])


def found_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """What was found, in the same form."""
    return side_by_side(entries, [found(entry) | ensemble_rows(entry) for entry in entries])


def side_by_side(entries: Sequence[Entry], columns: Sequence[dict[str, str]]) -> pd.DataFrame:
    """Each experiment's properties as its column; all have the same ones."""
    named = {entry.name: list(column.values()) for entry, column in zip(entries, columns, strict=True)}
    return pd.DataFrame({"what": list(columns[0]), **named})


def searched(entry: Entry) -> dict[str, str]:
    """Space, rules, budget, seed and data."""
    facts = entry.search.facts
    plan, trial, images = facts.get("plan", {}), trial_facts(facts), facts.get("images", {})
    limits = [
        (f"{plan['trials']:,} trials" if plan.get("trials") else "trials")
        + (f" of {length_text(plan)}" if plan.get("epochs") else ""),
        f"{count(plan['epoch_budget'], 'epoch')} in all" if plan.get("epoch_budget") else "",
        f"{plan['time_budget_s'] / 60:.3g} minutes" if plan.get("time_budget_s") else "",
    ]
    return {
        "space": text_of(plan.get("space", {}).get("name")),
        "scheduler, sampler": f"{text_of(plan.get('scheduler'))}, {text_of(plan.get('sampler'))}",
        "budget": ", ".join(filter(None, limits)) if plan else UNKNOWN,
        "seed": text_of(plan.get("seed")),
        "published weights": text_of(plan.get("weights") or trial.get("pretrained")),
        "data": text_of(facts.get("dataset"))[:SHOWN_HASH],
        "classes, image size": f"{text_of(facts.get('classes'))}, {text_of(trial.get('image_size'))} px",
        "train, select, holdout": ", ".join(text_of(images.get(name)) for name in ("train", "select", "holdout")),
    }


def length_text(plan: dict[str, Any]) -> str:
    """`30 epochs`, or `2.5 epochs in 10 steps`."""
    epochs, steps = plan["epochs"], plan.get("steps") or plan["epochs"]
    return count(epochs, "epoch") + (f" in {count(steps, 'step')}" if steps != epochs else "")


def found(entry: Entry) -> dict[str, str]:
    """Trials, cost and the best of them."""
    trials = entry.search.trials
    best = trials.iloc[0]
    scored = best[metrics.BEST_TOP1] == best[metrics.BEST_TOP1]
    return {
        "trials, epochs": f"{len(trials):,}, {compact(entry.search.passes)}",
        "cost": slot_time(entry.seconds),
        "best trial": str(best["trial"]) if scored else UNKNOWN,
        "its select top-1": share(best[metrics.BEST_TOP1], 2),
    }


def ensemble_rows(entry: Entry) -> dict[str, str]:
    """What the ensemble reaches on holdout, beside the best single trial."""
    names = (
        "members", "parameters", "holdout top-1", "95 % interval", "holdout NLL", "holdout ECE",
        "best trial's holdout top-1", "gain over it",
    )  # fmt: skip
    if entry.measured is None:
        return dict.fromkeys(names, UNKNOWN)
    manifest = entry.measured.manifest
    holdout, gain = manifest.holdout, manifest.gain
    values = (
        f"{len(manifest.members)}",
        f"{sum(member.parameters for member in manifest.members):,}",
        share(holdout.top1, 2),
        f"{share(holdout.top1_low)} to {share(holdout.top1_high)}",
        f"{holdout.loss:.4f}",
        f"{holdout.ece:.4f}",
        share(manifest.single.holdout.top1, 2),
        f"{gain.difference * 100:+.2f} points ({gain.low * 100:+.1f} to {gain.high * 100:+.1f})",
    )
    return dict(zip(names, values, strict=True))


def text_of(value: object) -> str:
    """A fact; a dash where an older version didn't write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return UNKNOWN if value is None else str(value)
