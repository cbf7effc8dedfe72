"""Follows the log of a job until the job has ended, also where the connection breaks in between."""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from trainable.errors import UserError
from tuning.jobs_cluster import Job, cluster_errors, get_job

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

Answer = TypeVar("Answer")

PAUSE_S = 1.0
"""Between two tries, in seconds; Ray's own end of a log comes up to a second before its word for the job's."""
PATIENCE_S = 60.0
"""How long a cluster may not answer before that is an error."""
SILENCE_S = 60.0
"""After so long without a word the connection starts anew: of a machine that is gone nothing says so."""


class Log:
    """A job's log, written as it grows; a broken connection starts anew behind what was written."""

    def __init__(self, client: "JobSubmissionClient", name: str, write: Callable[[str], object]) -> None:
        self.client = client
        self.name = name
        self.write = write
        self.written = 0
        """Characters so far."""

    def whole(self) -> Job:
        """Write what there is by now; returns the job."""
        with cluster_errors(self.client.get_address()):
            self.write(self.client.get_job_logs(self.name))
        return get_job(self.client, self.name)

    def follow(self) -> Job:
        """Write until the job has ended; returns it.

        Raises:
            UserError: The cluster answers no more.
        """
        while True:
            is_whole = asyncio.run(self._tail())
            job = self._look()
            if job.ended:
                if not is_whole:
                    self._write_rest()
                return job
            time.sleep(PAUSE_S)

    async def _tail(self) -> bool:
        """Write what comes until the connection ends, for whatever reason; whether that was the log's end."""
        import aiohttp

        behind = self.written
        parts = self.client.tail_job_logs(self.name)
        try:
            while True:
                async with asyncio.timeout(SILENCE_S):
                    text = await anext(parts)
                new, behind = text[behind:], max(0, behind - len(text))
                self._write(new)
        except StopAsyncIteration:
            return True
        except (aiohttp.ClientError, RuntimeError, OSError):  # a TimeoutError is an OSError
            return False  # whether the job or the cluster has ended is asked next

    def _look(self) -> Job:
        """The job as it is now; a cluster that doesn't answer is asked again."""
        return self._patiently(lambda: get_job(self.client, self.name))

    def _write_rest(self) -> None:
        """Of a log whose connection broke before its end."""

        def whole() -> str:
            with cluster_errors(self.client.get_address()):
                return self.client.get_job_logs(self.name)

        self._write(self._patiently(whole)[self.written :])

    def _write(self, new: str) -> None:
        self.write(new)
        self.written += len(new)

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        import requests

        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                return ask()
            except UserError as error:
                is_silent = isinstance(error.__cause__, requests.ConnectionError | requests.Timeout | ConnectionError)
                if not is_silent or time.monotonic() > end:
                    raise
                time.sleep(PAUSE_S)
