"""Names in the model card: what a file says is shown, and isn't Markdown or HTML."""

from pathlib import Path

import pandas as pd
import pytest

from analysis.card import licence_text, markdown, markdown_text, search_text
from trainable.config import TrialConfig


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


@pytest.mark.parametrize(
    ("pretrained", "text"),
    [
        (False, "trained from random numbers"),
        (True, "(resnet18: apache-2.0, weights a1_in1k "),
        (Path("/home/me/weights.pth"), "(resnet18: those of /home/me/weights.pth; swin_tiny: "),
    ],
)
def test_the_licence_is_that_of_the_weights_that_training_began_with(pretrained: bool | Path, text: str) -> None:
    config = TrialConfig(data=Path("x"), pretrained=pretrained)
    assert text in licence_text(config, ["swin_tiny", "resnet18", "swin_tiny"])


@pytest.mark.parametrize(
    ("full", "epochs", "text"),
    [(2.5, [2.5, 0.25], "of at most 2.5 epochs,"), (8, [1200, 34], "of at most 8 epochs,")],
)
def test_epochs_are_told_in_fractions_only_where_they_are(full: float, epochs: list[float], text: str) -> None:
    plan = {"space": {"name": "tiny"}, "epochs": full, "scheduler": "asha", "sampler": "tpe", "seed": 0}
    trials = pd.DataFrame({"state": "finished", "epochs": epochs, "seconds": 1.0})
    told = search_text({"plan": plan, "command": ["run.py"], "git_commit": None}, trials)
    assert text in told
    assert (": 2.8 epochs, " if full == 2.5 else ": 1,234 epochs, ") in told
