"""How to make the same again: the command, versions, commit, seeds, and where the files are."""

import html
import os
import shlex
from pathlib import Path

import pandas as pd

from analysis.experiment import EXPERIMENT
from analysis.pages.records import DECISIONS, ENSEMBLE, JOURNAL, Search
from analysis.pages.section import Section
from trainable.escape import printable

LINKED = {
    f"{ENSEMBLE}/README.md": "the ensemble's card",
    f"{ENSEMBLE}/ensemble.json": "its members and figures",
    EXPERIMENT: "plan, versions, commands",
    DECISIONS: "each decision with its reason",
    JOURNAL: "for optuna-dashboard",
}
"""Files of an experiment that are worth opening."""


def reproduce_section(search: Search) -> Section:
    """Command, facts and links."""
    facts = search.facts
    commands = [facts, *facts.get("resumed", [])]
    lines = "\n".join(command_line(each["command"]) for each in commands if each.get("command"))
    block = f'<pre tabindex="0"><code>{html.escape(lines)}</code></pre>' if lines else ""
    text = (
        "With one slot on a CPU the same command on the same images decides and trains the same; with more slots the "
        "order in which trials end differs, and so do the decisions."
        if lines
        else "experiment.json holds no command."
    )
    return Section("reproduce", "Do it again", text, html=block + links(search.folder), table=facts_table(search))


def command_line(command: list[str]) -> str:
    """The search's command as one types it: what was recorded begins with the name of the program's file."""
    return printable("python -m tuning.run " + shlex.join(str(part) for part in command[1:])).strip()


def facts_table(search: Search) -> pd.DataFrame:
    """name and value of what decides what a search computes."""
    facts, plan = search.facts, search.plan
    images = facts.get("images", {})
    latest = [facts, *facts.get("resumed", [])][-1]
    rows = {
        "git commit": latest.get("git_commit") or "unknown",
        "seed of the search": plan.get("seed", "unknown"),
        "seed of splits and training": plan.get("trial", {}).get("seed", "unknown"),
        "scheduler, sampler": f"{plan.get('scheduler', 'unknown')}, {plan.get('sampler', 'unknown')}",
        "data": plan.get("trial", {}).get("data", "unknown"),
        "fingerprint of the data": facts.get("dataset", "unknown"),
        "images": ", ".join(f"{number:,} {name}" for name, number in images.items()) or "unknown",
        "classes": facts.get("classes", "unknown"),
        **latest.get("versions", {}),
    }
    return pd.DataFrame({"what": list(rows), "value": [str(value) for value in rows.values()]})


def links(folder: Path) -> str:
    """A list of the experiment's files that are there, relative to the page."""
    items = [
        f'<li><a href="../{html.escape(file)}"><code>{html.escape(file)}</code></a> {what}</li>'
        for file, what in LINKED.items()
        if os.path.exists(folder / file)
    ]
    return f"<ul>{''.join(items)}</ul>" if items else ""
