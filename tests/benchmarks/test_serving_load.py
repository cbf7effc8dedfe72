"""The load on the server: the client and its figures, against a small HTTP server of this process."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from benchmarks.serving_load import Load, batch_counts, mean_batch, noise, row_of, throughput
from trainable.data.decode import read_image

ANSWER_S = 0.02


class Stub(BaseHTTPRequestHandler):
    """Answers after a fixed time; its metrics are those of 30 images in 10 batches."""

    protocol_version = "HTTP/1.1"
    code = 200

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(ANSWER_S)
        self.reply(b"{}")

    def do_GET(self) -> None:
        self.reply(b"ensemble_batch_size_count 10.0\nensemble_batch_size_sum 30.0\n")

    def reply(self, body: bytes) -> None:
        self.send_response(self.code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Stub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_clients_ask_one_after_the_other_and_each_answer_is_timed(url: str) -> None:
    took: list[float] = []
    rate = throughput(url, Load(clients=3, seconds=0.5, body=b"x"), took)
    assert min(took) >= ANSWER_S
    assert 3 <= len(took) <= 3 * (0.5 / ANSWER_S + 1)
    assert 0 < rate <= 3 / ANSWER_S


def test_an_answer_that_is_an_error_ends_the_measurement(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stub, "code", 503)
    with pytest.raises(httpx.HTTPStatusError, match="503 Service Unavailable"):
        throughput(url, Load(clients=2, seconds=5, body=b"x"), [])


def test_the_mean_batch_is_that_since_the_first_look(url: str) -> None:
    assert batch_counts(url) == (30.0, 10.0)
    assert mean_batch((50.0, 15.0), (30.0, 10.0)) == 4.0


def test_a_row_has_milliseconds_and_the_image_that_is_sent_can_be_decoded() -> None:
    row = row_of("x", [10.0, 20.0, 30.0], [0.1] * 95 + [0.3] * 5, 2.0)
    assert row == {
        "server": "x",
        "images/s": "20 (10 .. 30)",
        "median ms": "100",
        "p95 ms": "110",
        "images a batch": "2.0",
    }
    assert read_image(noise(24), 24).shape == (24, 24, 3)
