"""The HTTP side as a FastAPI application, which knows nothing of Ray: the model is a function that it is given."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from analysis.serving.answers import Answer, Classified, Failure, Health, NoImage, RefusedImage, named
from analysis.serving.limits import Rate
from analysis.serving.metrics import CONTENT_TYPE, Metrics
from analysis.serving.page import NOTHING, SWAGGER, Page
from analysis.serving.requests import read_upload
from analysis.serving.settings import Limits

Classify = Callable[[list[bytes]], Awaitable[Classified]]
"""The images of one request as bytes -> what the model says; Unavailable where no model answers."""
Ping = Callable[[], Awaitable[None]]
"""Returns where a model is loaded and answers; Unavailable where not."""

PATHS = frozenset({"/", "/predict", "/healthz", "/metrics", "/docs", "/openapi.json"})
COME_AGAIN_S = "1"
"""Retry-After where the server has too much to do."""
PING_S = 5

BINARY = {"schema": {"type": "string", "format": "binary"}}
FORM = {
    "schema": {
        "type": "object",
        "properties": {"images": {"type": "array", "items": {"type": "string", "format": "binary"}}},
    }
}
REQUEST_BODY = {
    "requestBody": {
        "required": True,
        "description": "One image as it is, or any number as files of a form, whatever its fields are called.",
        "content": {"multipart/form-data": FORM, "image/*": BINARY, "application/octet-stream": BINARY},
    }
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Failure, "description": "No image in the request, or a broken form"},
    408: {"model": Failure, "description": "The body didn't arrive in time"},
    413: {"model": Failure, "description": "Too many bytes or images"},
    422: {"model": NoImage, "description": "Not one image can be read, or all have too many pixels"},
    429: {"model": Failure, "description": "Too many requests of this client; see Retry-After"},
    503: {"model": Failure, "description": "Too many requests at a time, or no model is loaded; see Retry-After"},
    504: {"model": Failure, "description": "The models didn't answer in time"},
}


class Unavailable(Exception):  # noqa: N818
    """No model answers now; the message says why."""


def build_app(title: str, page: Page, limits: Limits, classify: Classify, ping: Ping) -> FastAPI:
    """The application, with counters of its own."""
    app = FastAPI(title=title, description="Classifies images with a calibrated ensemble.", version="1", redoc_url=None)
    metrics = Metrics()
    add_headers_and_counts(app, page, metrics)
    add_failures(app)
    add_predict(app, limits, metrics, classify)

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(page.html)

    @app.get("/healthz", responses={503: {"model": Failure}})
    async def healthz() -> Health:
        """Whether the models are loaded and answer."""
        try:
            async with asyncio.timeout(PING_S):
                await ping()
        except TimeoutError:
            raise Unavailable("the models aren't loaded yet, or are stuck") from None
        return Health(status="ok")

    @app.get("/metrics", responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
    async def figures() -> Response:
        """Requests by code, images, batch sizes and latencies, for Prometheus."""
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    return app


def add_predict(app: FastAPI, limits: Limits, metrics: Metrics, classify: Classify) -> None:
    """`POST /predict`, with all its limits."""
    rate = Rate(limits.rate) if limits.rate else None
    places = asyncio.Semaphore(limits.max_concurrent)

    @app.post("/predict", openapi_extra=REQUEST_BODY, responses=REFUSALS, response_model=Answer)
    async def predict(request: Request) -> Answer | JSONResponse:
        """Classify one image or many; one that can't be read has an error in its place."""
        check_rate(rate, request)
        if places.locked():
            raise HTTPException(503, f"{limits.max_concurrent} requests are worked on", {"Retry-After": COME_AGAIN_S})
        with metrics.in_progress.track_inprogress(), metrics.latency.time():
            async with places:
                return await answer(request, limits, metrics, classify)


def check_rate(rate: Rate | None, request: Request) -> None:
    """Count the request; HTTPException 429 where its client has sent too many."""
    address = request.client.host if request.client else ""
    wait_s = rate.wait_s(address) if rate else None
    if rate and wait_s is not None:
        raise HTTPException(429, f"more than {rate.rate} requests; wait {wait_s} s", {"Retry-After": str(wait_s)})


async def answer(request: Request, limits: Limits, metrics: Metrics, classify: Classify) -> Answer | JSONResponse:
    """Read the images and ask the model, both before the deadline."""
    deadline = asyncio.get_running_loop().time() + limits.timeout_s
    try:
        async with asyncio.timeout_at(deadline):
            names, images = await read_upload(request, limits)
    except TimeoutError:
        raise HTTPException(408, f"the body didn't arrive within {limits.timeout_s:g} s") from None
    async with asyncio.timeout_at(deadline):
        classified = await classify(images)
    for size in classified.batches:
        metrics.batches.observe(size)
    answers = named(names, classified.answers)
    refused = [each for each in answers if isinstance(each, RefusedImage)]
    metrics.images.labels("refused").inc(len(refused))
    metrics.images.labels("predicted").inc(len(answers) - len(refused))
    if len(refused) == len(answers):
        reasons = refused[0].error if len(refused) == 1 else "no image can be read"
        return JSONResponse(NoImage(error=reasons, images=refused).model_dump(), 422)
    return Answer.model_construct(images=answers)


def add_failures(app: FastAPI) -> None:
    """Each failure is JSON with its reason under `error`."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.exception_handler(Unavailable)
    async def unavailable(request: Request, error: Unavailable) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 503, {"Retry-After": COME_AGAIN_S})

    @app.exception_handler(TimeoutError)
    async def late(request: Request, error: TimeoutError) -> JSONResponse:
        return JSONResponse({"error": "the models didn't answer in time"}, 504)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": "internal error; the server's log has its traceback"}, 500)


def add_headers_and_counts(app: FastAPI, page: Page, metrics: Metrics) -> None:
    """Every answer is counted, and says what a browser may do with it: nothing, unless it is one of the two pages."""
    policies = {"/": page.policy, "/docs": SWAGGER}

    @app.middleware("http")
    async def count(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        path = request.url.path
        code = 500
        try:
            response = await go_on(request)
            code = response.status_code
        finally:
            metrics.requests.labels(path if path in PATHS else "other", str(code)).inc()
        response.headers["Content-Security-Policy"] = policies.get(path, NOTHING)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response
