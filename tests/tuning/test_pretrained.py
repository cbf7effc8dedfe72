"""Where published weights come from: a hub on this machine, caches, files, and what happens if there are none."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm

from search_spaces import MODELS
from trainable.address import open_place
from trainable.architectures import timm_name
from trainable.data.weights import WEIGHTS_FILE
from trainable.errors import UsageError, UserError
from tuning.pretrained import Found, Weights, find_weights, repository_of

CONTENT = b"weights of a tiny model" * 1000
RESNET = "timm/resnet18.a1_in1k"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as is asked for: one repository with one file, in whatever state a test wants."""

    state = "whole"
    etag = "0" * 64

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def _answer(self, with_content: bool) -> None:
        if RESNET not in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.send_header("ETag", f'"{self.etag}"')
        self.send_header("X-Repo-Commit", "c" * 40)
        self.end_headers()
        if with_content:
            self.wfile.write(CONTENT if self.state == "whole" else CONTENT[:100])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch) -> Iterator[dict[str, str]]:
    """The environment in which a process finds the hub."""
    monkeypatch.setattr(Hub, "state", "whole")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    yield os.environ | {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    server.shutdown()
    server.server_close()


def ask(environment: dict[str, str], home: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process whose hub is that one, and whose cache is `home`."""
    environment = environment | {"HF_HOME": str(home)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


LOOK = """
from tuning.pretrained import find_weights
weights = find_weights("auto", ["resnet18", "resnet34"])
print(weights.found)
print(weights.note)
"""
DOWNLOAD = """
from trainable.data.weights import download_from_hub
from trainable.errors import UserError
try:
    print(download_from_hub("resnet18").read_bytes()[:7])
except UserError as error:
    print(f"error: {error}")
"""


def test_the_hub_says_what_would_be_downloaded_and_what_it_lacks(hub, tmp_path):
    told = ask(hub, tmp_path, LOOK)
    assert 'place="on timm\'s hub", size_bytes=23000' in told.stdout, told.stderr
    assert "resnet18 on timm's hub; 23 kB to download, once on each machine; left out: resnet34" in told.stdout
    assert "(timm's hub has no timm/resnet34.a1_in1k (404))" in told.stdout


def test_what_was_downloaded_is_found_without_the_hub(hub, tmp_path):
    assert "b'weights'" in ask(hub, tmp_path, DOWNLOAD).stdout
    for gone in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        told = ask(hub | gone, tmp_path, LOOK)
        assert "resnet18 in timm's cache; left out: resnet34" in told.stdout, told.stderr
        assert "b'weights'" in ask(hub | gone, tmp_path, DOWNLOAD).stdout


@pytest.mark.parametrize(
    ("gone", "reason"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "they aren't in timm's cache, and HF_HUB_OFFLINE is set"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "they aren't in timm's cache, and its hub is out of reach"),
    ],
)
def test_weights_that_cannot_be_had_are_one_line(hub, tmp_path, gone, reason):
    told = ask(hub | gone, tmp_path, DOWNLOAD)
    assert f"error: resnet18: the weights {RESNET} can't be had: {reason}; download them elsewhere" in told.stdout


def test_a_download_that_is_cut_off_is_one_line_and_leaves_nothing_behind(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(Hub, "state", "cut")
    told = ask(hub, tmp_path, DOWNLOAD)
    assert f"error: resnet18: the weights {RESNET} can't be had:" in told.stdout, told.stderr
    monkeypatch.setattr(Hub, "state", "whole")
    assert "b'weights'" in ask(hub, tmp_path, DOWNLOAD).stdout


def test_a_folder_has_a_file_for_each_architecture(tmp_path):
    for name in ("resnet18.safetensors", "swin_tiny_patch4_window7_224.ms_in1k.safetensors"):
        (tmp_path / name).touch()
    weights = find_weights(str(tmp_path), ["resnet18", "swin_tiny", "vit_small"])
    assert weights.found == dict.fromkeys(["resnet18", "swin_tiny"], Found(str(tmp_path), "in a file"))
    assert weights.missing == {"vit_small": f"{tmp_path} has no file of that name"}


def test_each_architecture_may_have_its_file(tmp_path):
    (tmp_path / "a.pth").touch()
    weights = find_weights(f"resnet18={tmp_path / 'a.pth'}", ["resnet18", "resnet34"])
    assert weights.sources == {"resnet18": str(tmp_path / "a.pth")}
    for option, reason in (
        (f"swin={tmp_path}/a.pth", "the space has no swin, only resnet18"),
        ("resnet18=", "'resnet18=' is not ARCH=FILE"),
        (f"resnet18={tmp_path}/b.pth", f"no such file: {tmp_path}/b.pth"),
    ):
        with pytest.raises(UsageError, match=reason):
            find_weights(option, ["resnet18"])


def test_a_file_or_an_address_is_for_all(s3, tmp_path):
    (tmp_path / "tiny.pth").write_bytes(b"weights")
    bucket = s3.make_bucket()
    open_place(f"{bucket}/tiny.pth", "").write_bytes(b"weights")
    for option, kept in (
        (str(tmp_path / "tiny.pth"), str(tmp_path / "tiny.pth")),
        ((tmp_path / "tiny.pth").as_uri(), str(tmp_path / "tiny.pth")),
        (f"{bucket}/tiny.pth", f"{bucket}/tiny.pth"),
    ):
        assert find_weights(option, ["a", "b"]).sources == {"a": kept, "b": kept}


def test_weights_that_are_not_there_are_said_before_the_search(s3, tmp_path):
    bucket = s3.make_bucket()
    with pytest.raises(UsageError, match=f"--pretrained {tmp_path / 'no.pth'}: no such file or folder"):
        find_weights(str(tmp_path / "no.pth"), ["a"])
    with pytest.raises(UserError, match=f"--pretrained {bucket}/no.pth: is not there"):
        find_weights(f"{bucket}/no.pth", ["a"])
    with pytest.raises(UsageError, match=r"--pretrained gold://no\.pth: gold:// is no storage that is known here"):
        find_weights("gold://no.pth", ["a"])


def test_the_note_counts_many_and_groups_reasons():
    found = {f"a{number}": Found(True, "on timm's hub", 10**6) for number in range(6)}
    weights = Weights(found, {"b": "no reason", "c": "no reason"})
    assert weights.note == (
        "a0, a1, a2, a3 and 2 more on timm's hub; 6 MB to download, once on each machine; left out: b, c (no reason)"
    )
    assert json.loads(json.dumps(weights.sources)) == dict.fromkeys(found, True)


@pytest.mark.parametrize("arch", MODELS)
def test_the_weights_that_are_looked_up_are_those_that_timm_downloads(arch):
    published = timm.get_pretrained_cfg(timm_name(arch))
    assert repository_of(arch) == published.hf_hub_id
    assert (published.hf_hub_filename or WEIGHTS_FILE) == WEIGHTS_FILE
