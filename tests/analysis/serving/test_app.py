"""The HTTP side with real models but without Ray: what is answered, and with which code."""

import asyncio
import io
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from starlette.types import Message

from analysis import load_ensemble
from analysis.ensemble import Ensemble
from analysis.export import Export
from analysis.manifest import read_manifest
from analysis.serving.answers import Classified, predictions
from analysis.serving.app import Unavailable, build_app
from analysis.serving.images import decode
from analysis.serving.page import render_page
from analysis.serving.settings import Limits
from trainable.data.decode import read_image

LIMITS = Limits(max_bytes=20_000, max_pixels=10_000, max_images=3, max_concurrent=4, rate=None, timeout_s=20.0)
Classify = Callable[[list[bytes]], Awaitable[Classified]]
Start = Callable[..., TestClient]


@pytest.fixture(scope="module")
def ensemble(exported: Export) -> Ensemble:
    return load_ensemble(exported.folder, "cpu")


@pytest.fixture(scope="module")
def classify(ensemble: Ensemble) -> Classify:
    """The model in this process: each request is a batch of its own."""

    async def ask(images: list[bytes]) -> Classified:
        answers: list[Any] = [decode(image, ensemble.sizes, LIMITS.max_pixels) for image in images]
        good = [place for place, answer in enumerate(answers) if not isinstance(answer, str)]
        if good:
            batch = {size: np.stack([answers[place][size] for place in good]) for size in ensemble.sizes}
            for place, prediction in zip(good, predictions(ensemble, ensemble.votes(batch)), strict=True):
                answers[place] = prediction
        return Classified(answers, [len(good)] if good else [])

    return ask


@pytest.fixture
def start(exported: Export, classify: Classify) -> Iterator[Start]:
    """Makes a client of an application with these limits and this model."""
    clients = []

    def make(model: Classify = classify, ping: Callable[[], Awaitable[None]] = nothing, **limits: Any) -> TestClient:
        manifest = read_manifest(exported.folder)
        bounds = LIMITS._replace(**limits)
        app = build_app("tiny", render_page(manifest, bounds), bounds, model, ping)
        clients.append(TestClient(app, raise_server_exceptions=False))
        return clients[-1].__enter__()

    yield make
    for client in clients:
        client.__exit__(None, None, None)


async def nothing() -> None:
    """A ping that is answered."""


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height), 99).save(file, "png")
    return file.getvalue()


def form(*contents: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", (f"{place}.png", content)) for place, content in enumerate(contents)]


def figure(client: TestClient, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_a_raw_image_gets_the_classes_of_the_ensemble_and_the_vote_of_each_member(
    start: Start, ensemble: Ensemble, images: Path
) -> None:
    path = images / "test" / "0.png"
    response = start().post("/predict", content=path.read_bytes())
    assert response.status_code == 200
    (image,) = response.json()["images"]
    votes = ensemble.votes(np.stack([read_image(path, 32)]))
    best = np.argsort(-votes.probabilities[0])
    ids = [each.id for each in ensemble.classes]
    assert image["file"] == "body"
    assert [guess["class_id"] for guess in image["top5"]] == [ids[number] for number in best]
    assert [guess["confidence"] for guess in image["top5"]] == pytest.approx(votes.probabilities[0, best], abs=1e-6)
    assert image["class_id"] == ids[best[0]]
    assert [vote["trial"] for vote in image["votes"]] == [member.trial for member in ensemble.members]
    assert [vote["class_id"] for vote in image["votes"]] == [ids[number] for number in votes.members[:, 0].argmax(1)]
    others = [vote["weight"] for vote in image["votes"] if vote["class_id"] != image["class_id"]]
    assert image["disagreement"] == pytest.approx(sum(others), abs=1e-5)


def test_files_of_a_form_are_answered_in_their_order_and_a_bad_one_has_its_reason(start: Start) -> None:
    client = start()
    response = client.post("/predict", files=form(png(40, 20), b"text", png(200, 60)))
    assert response.status_code == 200
    first, second, third = response.json()["images"]
    assert first["file"] == "0.png"
    assert "class_id" in first
    assert second == {"file": "1.png", "error": "not an image"}
    assert third == {"file": "2.png", "error": "too many pixels: 200 x 60; the limit is 10,000 in all"}
    assert figure(client, 'ensemble_images_total{outcome="refused"}') == 2
    assert figure(client, 'ensemble_images_total{outcome="predicted"}') == 1
    assert figure(client, 'ensemble_batch_size_bucket{le="1.0"}') == 1


@pytest.mark.parametrize(
    ("sent", "code", "error"),
    [
        ({"content": b""}, 400, "the body is empty; send an image, or a multipart form with files"),
        ({"content": b"text"}, 422, "not an image"),
        ({"content": png(50, 50)[:60]}, 422, "image file is truncated"),
        ({"content": png(101, 100)}, 422, "too many pixels: 101 x 100; the limit is 10,000 in all"),
        ({"content": bytes(20_001)}, 413, "the body has more than 20,000 bytes, which is the limit"),
        ({"content": iter([bytes(20_000), b"1"])}, 413, "the body has more than 20,000 bytes, which is the limit"),
        ({"files": form(bytes(20_001))}, 413, "the body has more than 20,000 bytes, which is the limit"),
        ({"files": form(*[png(8, 8)] * 4)}, 413, "4 images; the limit is 3 a request"),
        ({"files": form(b"text", b"")}, 422, "no image can be read"),
        ({"data": {"images": "text"}, "files": form(png(8, 8))}, 400, "the field 'images' is no file; "),
        ({"content": b"nonsense", "headers": {"content-type": "multipart/form-data"}}, 400, "Missing boundary"),
        (
            {"content": b"nonsense", "headers": {"content-type": "multipart/form-data; boundary=x"}},
            400,
            "",
        ),
    ],
)
def test_what_can_not_be_predicted_is_refused_with_a_reason(
    start: Start, sent: dict[str, Any], code: int, error: str
) -> None:
    client = start()
    response = client.post("/predict", **sent)
    assert response.status_code == code
    assert response.json()["error"].startswith(error)
    assert response.json()["error"]
    assert figure(client, f'ensemble_requests_total{{code="{code}",path="/predict"}}') == 1
    assert figure(client, "ensemble_requests_in_progress") == 0


def test_a_client_that_asks_too_often_is_told_when_to_come_again(start: Start) -> None:
    client = start(rate="2/minute")
    codes = [client.post("/predict", content=png(8, 8)).status_code for _ in range(2)]
    refused = client.post("/predict", content=png(8, 8))
    assert codes == [200, 200]
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.json()["error"].startswith("more than 2/minute requests; wait ")
    assert client.get("/healthz").status_code == 200


def test_models_that_do_not_answer_in_time_give_504(start: Start) -> None:
    async def sleep(images: list[bytes]) -> Classified:
        await asyncio.sleep(60)
        raise AssertionError

    response = start(sleep, timeout_s=0.2).post("/predict", content=png(8, 8))
    assert response.status_code == 504
    assert response.json() == {"error": "the models didn't answer in time"}


def test_no_model_gives_503_and_a_failure_gives_500_both_as_json(start: Start) -> None:
    async def gone(*images: list[bytes]) -> Any:
        raise Unavailable("no model answers")

    async def broken(images: list[bytes]) -> Classified:
        raise RuntimeError("secret")

    client = start(gone, gone)
    assert client.post("/predict", content=png(8, 8)).json() == {"error": "no model answers"}
    assert client.get("/healthz").status_code == 503
    failed = start(broken).post("/predict", content=png(8, 8))
    assert failed.status_code == 500
    assert failed.json() == {"error": "internal error; the server's log has its traceback"}


def test_a_body_that_drips_gives_408_and_more_requests_than_fit_get_503(exported: Export) -> None:
    limits = LIMITS._replace(timeout_s=0.5, max_concurrent=1)
    page = render_page(read_manifest(exported.folder), limits)

    async def post(app: Any, receive: Callable[[], Awaitable[Message]]) -> tuple[int, dict[bytes, bytes]]:
        sent: list[Message] = []
        scope = {"type": "http", "method": "POST", "path": "/predict", "raw_path": b"/predict", "headers": [],
                 "query_string": b"", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 1), "scheme": "http",
                 "root_path": ""}  # fmt: skip

        async def send(message: Message) -> None:
            sent.append(message)

        await app(scope, receive, send)
        return sent[0]["status"], dict(sent[0]["headers"])

    async def drip() -> Message:
        await asyncio.sleep(0.1)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def both() -> tuple[tuple[int, dict[bytes, bytes]], ...]:
        async def never(images: list[bytes]) -> Classified:
            raise AssertionError

        app = build_app("tiny", page, limits, never, nothing)
        return await asyncio.gather(post(app, drip), post(app, drip))

    (first, _), (second, headers) = asyncio.run(both())
    assert (first, second) == (408, 503)
    assert headers[b"retry-after"] == b"1"


def test_the_openapi_page_describes_all_answers_and_says_where_its_script_comes_from(start: Start) -> None:
    client = start()
    described = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    assert set(described["responses"]) == {"200", "400", "408", "413", "422", "429", "503", "504"}
    assert set(described["requestBody"]["content"]) == {"multipart/form-data", "image/*", "application/octet-stream"}
    docs = client.get("/docs")
    assert docs.status_code == 200
    assert "script-src 'unsafe-inline' https://cdn.jsdelivr.net" in docs.headers["content-security-policy"]


def test_answers_that_are_data_may_run_nothing_and_unknown_paths_are_counted_together(start: Start) -> None:
    client = start()
    for path in ("/none", "/nothing"):
        assert client.get(path).json() == {"error": "Not Found"}
    assert client.get("/predict").status_code == 405
    headers = client.get("/metrics").headers
    assert headers["content-security-policy"].startswith("default-src 'none'; base-uri 'none'")
    assert headers["content-type"].startswith("text/plain; version=")
    assert headers["x-content-type-options"] == "nosniff"
    assert figure(client, 'ensemble_requests_total{code="404",path="other"}') == 2
