"""Follows the log of a job until the job has ended, also where the connection breaks in between."""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tuning.jobs_cluster import Job, cluster_errors, get_job

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

PAUSE_S = 1.0
"""Between two tries, in seconds; Ray's own end of a log comes up to a second before its word for the job's."""
TRIES = 30
"""How often in a row a cluster may not answer before that is an error."""


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
            asyncio.run(self._tail())
            job = self._look()
            if job.ended:
                return job
            time.sleep(PAUSE_S)

    async def _tail(self) -> None:
        """Write what comes, until the connection ends for whatever reason."""
        import aiohttp

        behind = self.written
        try:
            async for text in self.client.tail_job_logs(self.name):
                new, behind = text[behind:], max(0, behind - len(text))
                self.write(new)
                self.written += len(new)
        except (aiohttp.ClientError, RuntimeError, OSError):
            return  # whether the job or the cluster has ended is asked next

    def _look(self) -> Job:
        """The job as it is now; a cluster that doesn't answer is asked again."""
        import requests

        for _ in range(TRIES):
            try:
                return get_job(self.client, self.name)
            except Exception as error:
                if not isinstance(error.__cause__, requests.ConnectionError | ConnectionError):
                    raise
                time.sleep(PAUSE_S)
        return get_job(self.client, self.name)
