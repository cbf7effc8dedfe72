"""Names in the model card: what a file says is shown, and isn't Markdown or HTML."""

import pytest

from analysis.card import markdown, markdown_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        (r"a\|b", r"a\\\|b"),
        ("<script>alert(1)</script>&", "&lt;script&gt;alert(1)&lt;/script&gt;&amp;"),
        ("`code`", r"\`code\`"),
        ("[here](http://x)", r"\[here\](http://x)"),
        ("two\nlines", r"two\\nlines"),
        ("\x1b[2J", r"\\x1b\[2J"),
        ("0001-swin_tiny", "0001-swin_tiny"),
    ],
)
def test_text_is_shown_literally(text: str, shown: str) -> None:
    assert markdown_text(text) == shown


def test_a_cell_cannot_leave_its_column_or_its_row() -> None:
    assert markdown(("trial",), [["a | b\n| c |"]]) == "| trial |\n| --- |\n| a \\| b\\\\n\\| c \\| |"
