"""The two deployments of Ray Serve: `Classifier` holds the models, once a replica; `Front` answers HTTP before them.

    browser, curl -> Serve's proxy -> Front (app.py: limits, JSON, counters) -> Classifier (decodes, batches, predicts)

There is one `Front`, so that rates and counters are those of the whole server.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI
from ray import serve
from ray._common.tls_utils import add_port_to_grpc_server
from ray.exceptions import RayActorError
from ray.serve import Application
from ray.serve._private import replica
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from analysis.decoding import BySize
from analysis.manifest import Manifest
from analysis.serving.answers import Classified, Prediction, predictions
from analysis.serving.app import Unavailable, build_app
from analysis.serving.images import decode
from analysis.serving.page import render_page
from analysis.serving.settings import Limits, Replicas

NAME, FRONT, CLASSIFIER = "ensemble", "Front", "Classifier"

DECODERS = 4
"""Threads that decode in each replica, while the models compute."""
NO_QUEUE = 100_000
"""Requests that Serve passes on at once: where it holds them back, it takes in their bodies without a limit."""
STOP_S = 5
"""How long requests may go on after the server was told to stop."""


def listen_locally() -> None:
    """Keep the port that Ray 2.60 opens in each replica, for calls from other machines, to this one.

    It asks for Ray's token, but unpickles what comes; Serve would bind it to all addresses, and has no setting.
    """
    replica.add_port_to_grpc_server = lambda server, _: add_port_to_grpc_server(server, "127.0.0.1:0")


class Classifier:
    """The ensemble on its share of the machine. Images of any requests that arrive together are one batch."""

    def __init__(self, folder: Path, replicas: Replicas, max_pixels: int) -> None:
        import torch

        from analysis.ensemble import load_ensemble

        listen_locally()
        torch.set_num_threads(max(1, int(replicas.cpus)))
        if 0 < replicas.gpus < 1:  # Ray only counts fractions of a GPU, nothing else would hold a replica to its own
            torch.cuda.set_per_process_memory_fraction(replicas.gpus)
        self.ensemble = load_ensemble(folder, "cuda" if replicas.gpus else "cpu")
        self.max_pixels = max_pixels
        self.decoders = ThreadPoolExecutor(DECODERS)
        batched = serve.batch(max_batch_size=replicas.max_batch, batch_wait_timeout_s=replicas.batch_wait_s)
        self.predict = batched(self.predict_batch)
        # Ray 2.60 closes a batch after its wait though the one before still computes: under load it would be small
        self.idle = asyncio.Event()
        self.idle.set()
        self.ensemble.predict({size: np.zeros((1, size, size, 3), np.uint8) for size in self.ensemble.sizes})

    async def classify(self, images: list[bytes]) -> Classified:
        """Predict the images of one request, each on its own, in batches with those of others."""
        answers, first_of = zip(*await asyncio.gather(*(self.classify_one(image) for image in images)), strict=True)
        return Classified(list(answers), [size for size in first_of if size])

    async def classify_one(self, image: bytes) -> tuple[Prediction | str, int]:
        """The prediction of an image, or why there is none; and the size of its batch, where it is the first in it."""
        sizes = self.ensemble.sizes
        decoded = await asyncio.get_running_loop().run_in_executor(self.decoders, decode, image, sizes, self.max_pixels)
        if isinstance(decoded, str):
            return decoded, 0
        await self.idle.wait()
        return await self.predict(decoded)

    async def predict_batch(self, images: list[BySize]) -> list[tuple[Prediction, int]]:
        """Predictions of the images of a batch; its size comes with the first, and 0 with the others."""
        batch = {size: np.stack([image[size] for image in images]) for size in self.ensemble.sizes}
        self.idle.clear()
        try:
            votes = await asyncio.to_thread(self.ensemble.votes, batch)
        finally:
            self.idle.set()
        firsts = [len(images)] + [0] * (len(images) - 1)
        return list(zip(predictions(self.ensemble, votes), firsts, strict=True))

    async def ping(self) -> None:
        """Answers as soon as the models are loaded, also while they compute."""


def application(folder: Path, manifest: Manifest, limits: Limits, replicas: Replicas) -> Application:
    """What `serve.run` starts."""
    classifier = serve.deployment(
        name=CLASSIFIER,
        num_replicas=replicas.number,
        ray_actor_options={"num_cpus": replicas.cpus, "num_gpus": replicas.gpus},
        max_ongoing_requests=NO_QUEUE,
        max_constructor_retry_count=1,
        graceful_shutdown_timeout_s=STOP_S,
        graceful_shutdown_wait_loop_s=0.1,
    )(Classifier)
    front = serve.deployment(
        name=FRONT,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=NO_QUEUE,
        max_constructor_retry_count=1,
        graceful_shutdown_timeout_s=STOP_S,
        graceful_shutdown_wait_loop_s=0.1,
    )(serve.ingress(front_builder(manifest, limits))())
    return front.bind(classifier.bind(folder, replicas, limits.max_pixels))


def front_builder(manifest: Manifest, limits: Limits) -> Callable[[], FastAPI]:
    """What builds the application in the process of `Front`."""

    def build() -> FastAPI:
        listen_locally()
        handle = serve.get_deployment_handle(CLASSIFIER, NAME)

        async def classify(images: list[bytes]) -> Classified:
            return await ask(handle, "classify", images)

        async def ping() -> None:
            await ask(handle, "ping")

        return build_app(manifest.experiment, render_page(manifest, limits), limits, classify, ping)

    return build


async def ask(handle: DeploymentHandle[Any], method: str, *arguments: object) -> Any:
    """What a replica says; Unavailable where none is there or it died. Who stops waiting stops the work, too."""
    try:
        response = getattr(handle, method).remote(*arguments)
        try:
            return await response
        except asyncio.CancelledError:
            response.cancel()
            raise
    except (RayActorError, RayServeException) as error:
        raise Unavailable(f"no model answers ({type(error).__name__}); try again soon") from None
