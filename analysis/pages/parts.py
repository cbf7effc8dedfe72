"""The parts of a report, what each costs, and which of them a time budget allows."""

import html
import shlex
from collections.abc import Callable, Iterable
from typing import NamedTuple

from analysis.pages.architectures import architectures_section
from analysis.pages.clock import Clock
from analysis.pages.curves import curves_section
from analysis.pages.failures import failures_section
from analysis.pages.progress import progress_section
from analysis.pages.records import FEWEST, Search
from analysis.pages.reproduce import reproduce_section
from analysis.pages.section import Section
from analysis.pages.text import listed
from analysis.pages.timeline import timeline_section
from trainable.errors import UserError

PAGE_COST = 0.15
"""Of putting the sections on a page and writing it."""
PNGS, PNGS_COST, PNG_COST = "the plots as PNG files", 0.3, 0.13
"""What costs so much together, and each."""

Bar = Callable[[Iterable["Part"]], Iterable["Part"]]
"""Goes through parts, and may show how far it is."""


class Part(NamedTuple):
    """A part of the page."""

    what: str
    """It in words, for where it is left out."""
    cost: float
    """Seconds on one usual core, with what it imports."""
    make: Callable[[Search], list[Section]]
    always: bool = False
    """Whether it is there whatever the budget."""


class Made(NamedTuple):
    """What of the page was made."""

    sections: list[Section]
    left_out: list[str]
    """The parts that would have taken too long, in words."""
    with_pngs: bool


def report_parts(search: Search) -> list[Part]:
    """The parts of the page in their order."""
    parts = [
        Part("the learning curves", 0.15, lambda search: [curves_section(search)], always=True),
        Part("what the search paid for its best", 0.03, lambda search: [progress_section(search)]),
        Part("which hyper-parameters mattered", importance_cost(search), importance_part),
        Part("the architectures", 0.06, lambda search: [architectures_section(search)]),
        Part("where the time went", 0.05, lambda search: [timeline_section(search)]),
        Part("the plots of the ensemble", ensemble_cost(search), ensemble_part),
        Part("failed trials", 0.01, lambda search: [failures_section(search)], always=True),
        Part("how to do it again", 0.01, lambda search: [reproduce_section(search)]),
    ]
    return [part for part in parts if part.cost]


def importance_cost(search: Search) -> float:
    """Importing scikit-learn is most of it, then fANOVA's forest; both have their limits."""
    trials = len(search.trials)
    return 1.5 + 0.003 * min(trials, 200) + 0.0005 * min(trials, 2000) if trials >= FEWEST else 0.15


def ensemble_cost(search: Search) -> float:
    """Importing torch is most of it; 0 without an ensemble, which then has no part."""
    if search.manifest is None:
        return 0.0
    logits = search.manifest.holdout.images * len(search.manifest.classes) * len(search.manifest.members)
    return 2.0 + 0.15e-6 * logits


def importance_part(search: Search) -> list[Section]:
    """Importances, slices, parallel coordinates."""
    from analysis.pages.importance import importance_sections  # with Optuna

    return importance_sections(search)


def ensemble_part(search: Search) -> list[Section]:
    """The sections about the ensemble; one that says why not, if what it rests on can't be read."""
    from analysis.pages.ensemble_plots import ensemble_sections  # with torch

    try:
        return ensemble_sections(search.folder)
    except UserError as error:
        return [Section("ensemble", "The ensemble", f"Its plots can't be drawn: {error}.")]


def make_parts(search: Search, clock: Clock, bar: Bar) -> Made:
    """The sections for which there is time, the cheapest first: a part that is left out doesn't keep others out."""
    parts = report_parts(search)
    made: dict[str, list[Section]] = {}
    for part in bar(sorted(parts, key=lambda part: (not part.always, part.cost))):
        if part.always or clock.fits(part.cost + PAGE_COST):
            with clock.timed(part.cost):
                made[part.what] = part.make(search)
    sections = [section for part in parts for section in made.get(part.what, [])]
    left_out = [part.what for part in parts if part.what not in made]
    pngs = sum(section.png is not None for section in sections)
    with_pngs = not pngs or clock.fits(PAGE_COST + PNGS_COST + PNG_COST * pngs)
    if not with_pngs:
        left_out.append(PNGS)
    if left_out:
        sections.append(left_out_section(search, left_out, clock.budget_s or 0.0))
    return Made(sections, left_out, with_pngs)


def left_out_section(search: Search, left_out: list[str], budget_s: float) -> Section:
    """What isn't on the page, and the command that makes a page with all."""
    command = html.escape(whole_command(search))
    text = f"No time within {budget_s:.3g} s: {listed(left_out)}. This makes the whole report:"
    return Section("left-out", "Left out", text, html=f'<pre tabindex="0"><code>{command}</code></pre>')


def whole_command(search: Search) -> str:
    """The command that makes the report with all its parts."""
    return f"python -m analysis.report {shlex.quote(str(search.folder))}"
