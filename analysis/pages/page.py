"""Sections put on one self-contained HTML page."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from plotly.io import to_json
from plotly.offline import get_plotlyjs

from analysis.pages.answer import Answer
from analysis.pages.section import Section
from trainable.escape import printable

TEMPLATE = "report.html"
MOST_ROWS = 300
"""Rows of a table on the page."""
HEIGHT = 420
"""Pixels of a figure that doesn't say."""


class Block(NamedTuple):
    """A section as the template needs it."""

    section: Section
    figure: Markup | None
    """JSON for plotly.js, safe inside a script element."""
    height: int
    """Of the figure, in pixels."""
    min_width: int
    """Pixels below which the figure scrolls and doesn't shrink: `meta={"min_width": ...}` in its layout; 0: none."""
    html: Markup
    table: Markup | None
    left_out: int
    """Rows of the table that aren't on the page."""


def render_page(title: str, sections: Sequence[Section], command: str, answer: Answer | None = None) -> str:
    """The page as HTML.

    Args:
        title: Heading of the page.
        sections: What it shows, in this order.
        command: What makes it, `analysis.report` say.
        answer: What stands on top, before all sections.
    """
    environment = Environment(loader=PackageLoader("analysis.pages", ""), autoescape=True)
    return environment.get_template(TEMPLATE).render(
        title=printable(title),
        answer=answer,
        command=command,
        blocks=[block_of(section) for section in sections],
        plotly=Markup(get_plotlyjs()),
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )


def block_of(section: Section) -> Block:
    """A section with its figure as JSON and its table as HTML."""
    table, figure = section.table, section.figure
    return Block(
        section=section._replace(title=printable(section.title), caption=printable(section.caption)),
        figure=None if figure is None else figure_json(figure),
        height=int((figure.layout.height if figure is not None else None) or HEIGHT),
        min_width=int((figure.layout.meta or {}).get("min_width", 0)) if figure is not None else 0,
        html=Markup(section.html),
        table=None if table is None else table_html(table.head(MOST_ROWS)),
        left_out=0 if table is None else max(0, len(table) - MOST_ROWS),
    )


def figure_json(figure: go.Figure) -> Markup:
    """The figure without plotly's own template, as JSON that can't end a script element."""
    spec: dict[str, Any] = json.loads(to_json(figure, validate=False, remove_uids=True))
    spec.get("layout", {}).pop("template", None)
    return Markup(json.dumps(spec, separators=(",", ":")).replace("<", "\\u003c"))


def table_html(table: pd.DataFrame) -> Markup:
    """The table with escaped cells; numbers have at most four digits."""
    shown = table.map(lambda value: printable(value) if isinstance(value, str) else value)
    return Markup(shown.to_html(index=False, border=0, na_rep="-", float_format="{:.4g}".format, justify="unset"))
