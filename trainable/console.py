"""How every `python -m` command starts and how it fails: one line on stderr, exit code 2 for usage, 1 for failure."""

import os
import sys
from typing import Any

import typer
from typer.exceptions import TyperException

from trainable.errors import UserError
from trainable.escape import printable

UNDERSCORES_ARE_DASHES = {"token_normalize_func": lambda token: token.replace("_", "-")}
"""Command settings that accept `--lr_base` wherever `--lr-base` is an option."""

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells use it."""


def run_app(app: typer.Typer) -> None:
    """Run a command and leave the process with its exit code; a user's mistake never shows a traceback."""
    try:
        code: Any = app(standalone_mode=False)
    except (UserError, TyperException) as error:
        message = error.format_message() if isinstance(error, TyperException) else str(error)
        print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)
        code = error.exit_code
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except (typer.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)
