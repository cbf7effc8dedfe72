"""The web page at `/`: one file with its style and script, and the policy that lets nothing else run."""

import base64
import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined

from analysis.manifest import Manifest
from analysis.serving.settings import Limits

TEMPLATE = Path(__file__).with_name("page.html")

NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The policy of answers that are data."""
SWAGGER = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'; "
    "img-src data:; script-src 'unsafe-inline' https://cdn.jsdelivr.net; "
    "style-src 'unsafe-inline' https://cdn.jsdelivr.net"
)
"""The policy of FastAPI's OpenAPI page, which loads Swagger UI from there."""


class Page(NamedTuple):
    """A page, and the Content-Security-Policy that it is sent with."""

    html: str
    policy: str


def render_page(manifest: Manifest, limits: Limits) -> Page:
    """The page of an ensemble."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    html = template.render(
        experiment=manifest.experiment,
        members=len(manifest.members),
        classes=len(manifest.classes),
        holdout=manifest.holdout,
        megabytes=f"{limits.max_bytes / 1e6:g}",
        images=limits.max_images,
    )
    return Page(html, page_policy(html))


def page_policy(html: str) -> str:
    """Only the page's own script and style may run, its pictures come from the user, and it talks to this server."""
    script, style = (_hashes(html, element) for element in ("script", "style"))
    return f"{NOTHING}; script-src {script}; style-src {style}; img-src blob: data:; connect-src 'self'"


def _hashes(html: str, element: str) -> str:
    blocks = re.findall(f"<{element}>(.*?)</{element}>", html, re.DOTALL)
    digests = (hashlib.sha256(block.encode()).digest() for block in blocks)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
