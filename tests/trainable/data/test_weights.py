"""Pretrained weights at an address: fetched once per machine, and the model starts from them."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from trainable.architectures import build_model
from trainable.config import TrialConfig
from trainable.data import origin as origin_module
from trainable.data.dataset import ready_dataset
from trainable.data.weights import open_weights
from trainable.errors import UsageError, UserError


@pytest.fixture
def caches(tmp_path: Path) -> Path:
    return tmp_path / "caches"


@pytest.fixture
def configured(colour_folder: Path, caches: Path):
    return partial(TrialConfig, data=colour_folder, arch="test_resnet", cache_dir=caches)


def write_weights(file: Path, value: float) -> Path:
    """Weights of the tiny ResNet, all of them `value`."""
    state = timm.create_model("test_resnet", num_classes=2).state_dict()
    full = {name: torch.full_like(tensor, value) for name, tensor in state.items()}
    save_file(full, file) if file.suffix == ".safetensors" else torch.save(full, file)
    return file


def first_weight(config: TrialConfig) -> float:
    return next(build_model(config, 2, 32).parameters()).flatten()[0].item()


@pytest.mark.parametrize("name", ["tiny.safetensors", "tiny.pth", "a tiny+one.pth.tar"])
def test_a_model_starts_from_weights_at_an_address(name, configured, caches, s3, bucket, tmp_path):
    address = s3.upload(write_weights(tmp_path / name, 0.25), bucket, f"weights/{name}")
    config = configured(pretrained=address)
    assert config.pretrained == address, "as an address, of which Path would make one slash of its two"
    assert first_weight(config) == 0.25
    assert TrialConfig.model_validate(json.loads(config.model_dump_json())) == config


def test_they_are_fetched_once_and_not_asked_for_by_each_trial(configured, s3, bucket, tmp_path):
    config = configured(pretrained=s3.upload(write_weights(tmp_path / "tiny.pth", 0.25), bucket, "tiny.pth"))
    ready_dataset(config)
    assert s3.gets(f"/{bucket}/tiny.pth") == 1
    s3.requests.clear()
    assert first_weight(config) == first_weight(config) == 0.25
    assert s3.requests == []


def test_processes_that_begin_together_fetch_them_once(configured, s3, bucket, tmp_path):
    config = configured(pretrained=s3.upload(write_weights(tmp_path / "tiny.pth", 0.25), bucket, "tiny.pth"))
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(open_weights(config).file)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert s3.gets(f"/{bucket}/tiny.pth") == 1


def test_other_weights_at_the_address_are_taken_by_the_next_search_and_not_by_a_running_one(
    configured, s3, bucket, tmp_path
):
    config = configured(pretrained=s3.upload(write_weights(tmp_path / "tiny.pth", 0.25), bucket, "tiny.pth"))
    ready_dataset(config)
    s3.upload(write_weights(tmp_path / "tiny.pth", 0.5), bucket, "tiny.pth")
    assert first_weight(config) == 0.25
    ready_dataset(config)
    assert first_weight(config) == 0.5


def test_weights_that_were_evicted_are_fetched_again(configured, s3, bucket, tmp_path):
    config = configured(pretrained=s3.upload(write_weights(tmp_path / "tiny.pth", 0.25), bucket, "tiny.pth"))
    weights = open_weights(config)
    weights.hold.release()
    weights.file.parent.parent.rename(tmp_path / "gone")
    assert first_weight(config) == 0.25
    assert s3.gets(f"/{bucket}/tiny.pth") == 2


@pytest.mark.parametrize(
    ("key", "error", "reason"),
    [
        ("no.pth", UserError, "is not there"),
        ("weights", UsageError, r"is a folder; name a \.safetensors or \.pth file in it"),
        ("weights/empty.pth", UserError, "is empty"),
    ],
)
def test_an_address_without_weights_is_named(key, error, reason, configured, s3, bucket, tmp_path):
    (tmp_path / "empty.pth").touch()
    s3.upload(tmp_path / "empty.pth", bucket, "weights/empty.pth")
    with pytest.raises(error, match=rf"^--pretrained s3://{bucket}/{key}: {reason}"):
        open_weights(configured(pretrained=f"s3://{bucket}/{key}"))


def test_what_is_no_weights_is_named_by_its_address(configured, s3, bucket, tmp_path):
    (tmp_path / "tiny.pth").write_text("hello")
    address = s3.upload(tmp_path / "tiny.pth", bucket, "tiny.pth")
    with pytest.raises(UserError, match=rf"test_resnet: pretrained weights \({address}\) can't be loaded: "):
        build_model(configured(pretrained=address), 2, 32)


def test_a_storage_that_does_not_answer_is_no_hindrance_once_they_are_here(
    configured, s3, bucket, tmp_path, monkeypatch
):
    monkeypatch.setattr(origin_module, "PATIENCE_S", 0.5)
    config = configured(pretrained=s3.upload(write_weights(tmp_path / "tiny.pth", 0.25), bucket, "tiny.pth"))
    ready_dataset(config)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert first_weight(config) == 0.25


def test_a_file_address_is_read_where_it_is(configured, caches, tmp_path):
    file = write_weights(tmp_path / "tiny.pth", 0.25)
    assert open_weights(configured(pretrained=file.as_uri())).file == file
    assert first_weight(configured(pretrained=file.as_uri())) == 0.25
    assert not caches.exists()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing to stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_web_address_is_fetched_too(configured, web, tmp_path):
    write_weights(tmp_path / "tiny.safetensors", 0.25)
    assert first_weight(configured(pretrained=f"{web}/tiny.safetensors")) == 0.25


def test_a_single_run_starts_from_weights_at_an_address(colour_folder, caches, s3, bucket, tmp_path):
    address = s3.upload(write_weights(tmp_path / "tiny.pth", 0.25), bucket, "tiny.pth")
    options = ["--arch", "test_resnet", "--pretrained", address, "--epochs", 1, "--data", colour_folder]
    options += ["--cache-dir", caches, "--output", tmp_path / "checkpoints", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "trainable.train", *map(str, options)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert s3.gets(f"/{bucket}/tiny.pth") == 1
