"""What the server is told by its command line: limits of requests, and how the model is replicated."""

from typing import Final, NamedTuple

FAVOURITE_PORT: Final = 8000


class Limits(NamedTuple):
    """What a client may ask for; beyond it the answer is an error that names the limit."""

    max_bytes: int
    """Of one request's body."""
    max_pixels: int
    """Width times height of one image."""
    max_images: int
    """Of one request."""
    max_concurrent: int
    """Requests that are worked on at a time, of all clients together."""
    rate: str | None
    """Requests of one client in a time, as the library `limits` writes it: `600/minute`; None: any number."""
    timeout_s: float
    """From the first byte of a request to its answer."""


class Replicas(NamedTuple):
    """Copies of the ensemble, what each may use, and how images that arrive together are batched."""

    number: int
    gpus: float
    """Of each replica; a fraction shares a GPU."""
    cpus: float
    """Of each replica, which is also the number of torch's threads, at least 1."""
    max_batch: int
    """Images that go through the models at once."""
    batch_wait_s: float
    """How long an image waits for others to fill its batch."""
