"""What several test folders share: a small real data set on disk, and a cache folder that is the tests' own."""

import itertools
import logging
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import boto3
import numpy as np
import pytest
from PIL import Image

os.environ["HF_HUB_OFFLINE"] = "1"  # read on import; no test asks the real hub
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray of tests listens on this machine alone

TINY_SPACE = """
name = "tiny"

[fixed]
batch_size = 32

[[dimensions]]
kind = "choice"
name = "arch"
values = ["test_vit", "test_resnet"]

[[dimensions]]
kind = "float"
name = "lr"
low = 1e-3
high = 1e-2
log = true

[[dimensions]]
kind = "float"
name = "attn_drop_rate"
low = 0.0
high = 0.2
when = { arch = ["test_vit"] }
"""
"""Two architectures that train in a second, and a dimension that only one of them has."""
COLOURS = {"blue": (40, 60, 200), "green": (50, 180, 70), "red": (200, 50, 40)}


@pytest.fixture(scope="session", autouse=True)
def own_cache_folder(tmp_path_factory):
    """Keep decoded images of tests out of the user's cache; processes that tests start inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("WANDB_MODE", "offline")
        patch.delenv("WANDB_API_KEY", raising=False)
        yield


class S3:
    """A real S3 server of this test process, with one bucket; it can be stopped and started again with all it holds."""

    def __init__(self) -> None:
        from moto.server import ThreadedMotoServer

        self.numbers = itertools.count(1)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._make = partial(ThreadedMotoServer, ip_address="127.0.0.1", verbose=False)
        self._server = self._make(port=0)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]
        self.environment = {
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
        }

    def make_bucket(self) -> str:
        """The address of a new bucket."""
        name = f"bucket-{next(self.numbers)}"
        names = {"aws_access_key_id": "tests", "aws_secret_access_key": "tests", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=self.environment["AWS_ENDPOINT_URL"], **names).create_bucket(Bucket=name)
        return f"s3://{name}"

    def stop(self) -> None:
        """No longer answer."""
        self._server.stop()

    def start(self) -> None:
        """Answer again."""
        self._server = self._make(port=self.port)
        self._server.start()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """An S3 server on 127.0.0.1, which the AWS variables of this process, and of those it starts, name."""
    server = S3()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server
    server.stop()


@pytest.fixture(scope="session")
def tiny_space() -> str:
    """A space file for searches of seconds."""
    return TINY_SPACE


@pytest.fixture(scope="session")
def colour_folder(tmp_path_factory) -> Path:
    """Three classes of noisy coloured 32 px PNGs, 40 training, 10 val and 4 unlabelled test images: quick to learn."""
    root = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        for part, count in (("train", 40), ("val", 10)):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                save_noisy(folder / f"{name}{number}.png", colour, rng)
    (root / "test").mkdir()
    for number, colour in enumerate([*COLOURS.values(), COLOURS["red"]]):
        save_noisy(root / "test" / f"test{number}.png", colour, rng)
    return root


def save_noisy(path: Path, colour: tuple[int, int, int], rng: np.random.Generator) -> None:
    """Write one image of `colour` with noise of 60 grey levels."""
    pixels = np.array(colour) + rng.normal(0, 60, (32, 32, 3))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
