"""What a job takes along to the cluster: the code, a space file, and the key of Weights & Biases as a file.

Ray shows a job's command, metadata and environment to whoever may see the dashboard, and writes them to logs; so the
key travels in a file that its owner alone may read, which NETRC names. Ray's own callback for W&B passes on what
WANDB_API_KEY holds in the environment of an actor, which would show too.
"""

import netrc
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlparse

from trainable.errors import UsageError

PACKAGES = ("analysis", "search_spaces", "trainable", "tuning")
CODE = Path(__file__).parent.parent
"""The folder that holds the packages."""
KEY_FILE = "wandb.netrc"
"""The key's file in the job's folder."""
WANDB_SETTINGS = ("WANDB_BASE_URL", "WANDB_ENTITY")
"""Variables of this machine that the job gets too: none is secret."""


class WandbKey(NamedTuple):
    """A key of Weights & Biases; it is never printed."""

    server: str
    """Its host, with the port where one is given."""
    key: str

    def __repr__(self) -> str:
        return f"WandbKey(server={self.server!r})"


def find_wandb_key() -> WandbKey | None:
    """What WANDB_API_KEY or `wandb login` has left on this machine; UsageError for what can't be a key."""
    server = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).netloc
    key = os.environ.get("WANDB_API_KEY", "").strip() or _key_of_netrc(server)
    if key and not re.fullmatch(r"[\w.-]+", key):
        raise UsageError("WANDB_API_KEY: is no key; copy it again from the site's settings")
    return WandbKey(server, key) if key else None


def _key_of_netrc(server: str) -> str | None:
    try:
        found = netrc.netrc(os.environ.get("NETRC", str(Path.home() / ".netrc"))).authenticators(server)
    except (OSError, netrc.NetrcParseError):
        return None
    return found[2] if found else None


@contextmanager
def packaged(files: Mapping[str, Path], key: WandbKey | None) -> Iterator[Path]:
    """A folder, for Ray to send as the job's working directory: the code, `files` by their path there, and the key."""
    with tempfile.TemporaryDirectory(prefix="tuning-job-") as name:
        folder = Path(name)
        for package in PACKAGES:
            shutil.copytree(CODE / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        if (CODE / "pyproject.toml").is_file():  # not beside installed packages
            shutil.copy(CODE / "pyproject.toml", folder)
        for path, source in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / path)
        if key is not None:
            write_key(folder / KEY_FILE, key)
        yield folder


def write_key(path: Path, key: WandbKey) -> None:
    """Write the key where its owner alone may read it.

    The first line makes the package another one than that of any other job: Ray keeps equal ones in one folder, and a
    job deletes the file at its end.
    """
    machines = dict.fromkeys((key.server, key.server.partition(":")[0]))  # wandb looks for the port too, tuning doesn't
    lines = [f"machine {machine} login user password {key.key}\n" for machine in machines]
    path.touch(mode=0o600)
    path.write_text(f"# {uuid.uuid4().hex}\n" + "".join(lines))


def environment(key: WandbKey | None, stop_wait_s: int) -> dict[str, str]:
    """Variables of the job, which everybody may see: how long Ray waits for its clean end, and where the key is."""
    settings = {name: os.environ[name] for name in WANDB_SETTINGS if name in os.environ}
    return {
        "RAY_JOB_STOP_WAIT_TIME_S": str(stop_wait_s),
        **settings,
        **({"NETRC": KEY_FILE} if key else {}),
    }


def forget_key(folder: Path) -> None:
    """Delete the key's file, where there is one."""
    (folder / KEY_FILE).unlink(missing_ok=True)
