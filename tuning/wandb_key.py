"""The key of Weights & Biases on its way to Ray's processes: in a file, since Ray shows what an environment is given.

Ray's callback would put WANDB_API_KEY into the runtime environment of its processes, which the dashboard lists. They
run on the search's own machine, so that a file which its owner alone may read is enough.
"""

import os
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

from trainable.environment import environment

VARIABLE = "WANDB_API_KEY"


def leave_key() -> Path | None:
    """The key of this process's environment in a file of mode 600; None where there is none."""
    key = os.environ.get(VARIABLE)
    if not key:
        return None
    descriptor, name = tempfile.mkstemp(prefix="wandb-key-")  # its owner's alone
    with os.fdopen(descriptor, "w") as file:
        file.write(key)
    return Path(name)


def take_key(file: Path) -> None:
    """Put the key into the environment of this process, whatever it had."""
    os.environ[VARIABLE] = file.read_text()


def without_key() -> AbstractContextManager[None]:
    """No key in the environment while the block runs."""
    return environment({VARIABLE: None})
