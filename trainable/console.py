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


SPIN = "10000"
"""Looks at a lock before a thread of OpenMP's sleeps. With GNU's 300,000, two threads train at a thirtieth of their
speed if another process wants one of their cores; with these at a third, and as fast as ever alone (docs/log.md)."""


def run_app(app: typer.Typer) -> None:
    """Run a command and leave the process with its exit code; a user's mistake never shows a traceback."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN)  # before torch is imported, here or in what is started
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
