"""The web page as text: what it is filled with, and what it may do."""

import base64
import hashlib
import re

from analysis.export import Export
from analysis.manifest import read_manifest
from analysis.serving.page import render_page
from analysis.serving.settings import Limits

LIMITS = Limits(max_bytes=2_500_000, max_pixels=1, max_images=7, max_concurrent=1, rate=None, timeout_s=1)


def test_names_can_not_break_out_of_their_place(exported: Export) -> None:
    manifest = read_manifest(exported.folder).model_copy(update={"experiment": "</title><script>alert(1)</script>"})
    html = render_page(manifest, LIMITS).html
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "At most 7 images and 2.5 MB at a time" in html


def test_its_own_script_and_style_alone_may_run_and_nothing_is_loaded(exported: Export) -> None:
    page = render_page(read_manifest(exported.folder), LIMITS)
    for element in ("script", "style"):
        blocks = re.findall(f"<{element}>(.*?)</{element}>", page.html, re.DOTALL)
        assert len(blocks) == 1
        digest = base64.b64encode(hashlib.sha256(blocks[0].encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in page.policy
    assert "unsafe" not in page.policy
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page.html)
    assert "style=" not in page.html
    assert not re.search(r"\son\w+=", page.html)
