import itertools
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import s3fs
from moto.server import ThreadedMotoServer

NUMBERS = itertools.count()


class S3:
    """A real S3 server on 127.0.0.1, which can be stopped and started again; it forgets nothing meanwhile."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        """`GET /bucket/key` of each so far, with the query."""
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]

    def stop(self) -> None:
        self._server.stop()

    def upload(self, path: Path, bucket: str, key: str) -> str:
        """A file, or a folder with all that is in it; returns its address."""
        for file in [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]:
            name = key if path.is_file() else f"{key}/{file.relative_to(path).as_posix()}"
            boto3.client("s3").upload_file(str(file), bucket, name)
        return f"s3://{bucket}/{key}"

    def gets(self, key: str) -> int:
        """How often the object, or part of it, was sent."""
        return sum(request.startswith(f"GET {key} ") for request in self.requests)


class Requests(logging.Handler):
    """Notes what werkzeug says of each request."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__()
        self.notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        start = next((text.find(f"{verb} /") for verb in ("GET", "HEAD", "PUT", "POST") if f"{verb} /" in text), -1)
        if start >= 0:
            self.notes.append(text[start:])


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """The environment names it, also for processes that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        server = S3()
        patch.setenv("AWS_ENDPOINT_URL", server.url)
        for name, value in (("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")):
            patch.setenv(name, value)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        log, handler = logging.getLogger("werkzeug"), Requests(server.requests)
        level = log.level
        patch.setattr(log, "propagate", False)
        log.setLevel(logging.INFO)  # an attribute set wouldn't undo what it remembers of another fixture's level
        log.addHandler(handler)
        s3fs.S3FileSystem.clear_instance_cache()  # they remember another server
        yield server
        log.removeHandler(handler)
        log.setLevel(level)
        server.stop()
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def bucket(s3: S3) -> str:
    """The name of a new bucket."""
    name = f"images-{os.getpid()}-{next(NUMBERS)}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name
