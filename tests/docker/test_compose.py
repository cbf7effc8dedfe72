"""docker/compose.yaml as docker compose would read it, by two readers of the Compose specification.

podman-compose puts in the variables, merges and profiles (its `config` starts nothing, so a `podman` that only tells a
version is enough); compose-spec then checks what comes out against the specification, strictly.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

compose_spec = pytest.importorskip("compose_spec", reason="pip install -e '.[dev]'")
pytest.importorskip("podman_compose", reason="pip install -e '.[dev]'")

DOCKER = Path(__file__).parents[2] / "docker"
SET = {
    "RAY_TOKEN": "token",
    "AWS_ACCESS_KEY_ID": "user",
    "AWS_SECRET_ACCESS_KEY": "secret-key",
    "SHM_SIZE": "8gb",
    "WORKER_CPUS": "2",
}


@pytest.fixture(scope="module")
def resolved(tmp_path_factory) -> str:
    """The file with all profiles, as `config` prints it."""
    tools = tmp_path_factory.mktemp("bin")
    podman = tools / "podman"
    podman.write_text("#!/bin/sh\necho podman version 4.3.1\n")
    podman.chmod(0o755)
    profiles = [word for name in ("s3", "gpu", "monitoring") for word in ("--profile", name)]
    command = [
        sys.executable,
        "-m",
        "podman_compose",
        "--env-file",
        os.devnull,
        "-f",
        "compose.yaml",
        *profiles,
        "config",
    ]
    environment = os.environ | SET | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    answer = subprocess.run(
        command, cwd=DOCKER, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def services(resolved) -> dict[str, Any]:
    return yaml.safe_load(resolved)["services"]


def test_it_meets_the_compose_specification(resolved):
    read = compose_spec.PyCompose.from_yaml(resolved)
    read.validate()
    assert set(read.service_names()) == {
        "head", "worker", "gpu-worker", "minio", "bucket", "prometheus", "grafana",
    }  # fmt: skip


def test_the_check_can_fail(resolved):
    with pytest.raises(ValueError, match="restart"):
        compose_spec.PyCompose.from_yaml(resolved.replace("restart: unless-stopped", "restart: sometimes"))


def test_all_ports_are_on_this_machine_alone(services):
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) >= 5
    assert all(str(port).startswith("127.0.0.1:") for port in ports), ports


def test_foreign_images_are_pinned(services):
    images = {name: service["image"] for name, service in services.items()}
    for name in ("minio", "bucket", "prometheus", "grafana"):
        tag = images[name].rpartition(":")[2]
        assert any(digit in tag for digit in "0123456789"), images[name]


def test_profiles(services):
    assert {name: service.get("profiles", []) for name, service in services.items()} == {
        "head": [], "worker": [], "gpu-worker": ["gpu"], "minio": ["s3"], "bucket": ["s3"],
        "prometheus": ["monitoring"], "grafana": ["monitoring"],
    }  # fmt: skip


def test_nodes_share_the_token_as_a_secret_and_settings_by_name(services):
    for name in ("head", "worker", "gpu-worker"):
        node = services[name]
        assert node["secrets"] == ["ray_token"]
        assert node["environment"]["RAY_AUTH_MODE"] == "token"
        assert node["environment"]["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray_token"
        assert "RAY_TOKEN" not in node["environment"]
        assert {"AWS_ENDPOINT_URL", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY"} <= set(node["environment"])
        assert node["shm_size"] == "8gb"


def test_no_core_is_offered_twice(services):
    assert services["head"]["command"] == ["head", "--num-cpus", "0", "--num-gpus", "0"]
    assert services["worker"]["command"] == ["worker", "head:6379", "--num-cpus", "2", "--num-gpus", "0"]
    assert str(services["worker"]["cpus"]) == "2"
    assert services["gpu-worker"]["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]


def test_who_waits_for_whom(services):
    healthy = {"condition": "service_healthy"}
    assert services["worker"]["depends_on"] == {"head": healthy}
    assert services["bucket"]["depends_on"] == {"minio": healthy}
    assert all("healthcheck" in services[name] for name in ("minio", "prometheus", "grafana"))


def test_what_is_mounted_exists(services):
    mounts = [mount.split(":") for service in services.values() for mount in service.get("volumes", [])]
    sources = {source for source, *_ in mounts if source.startswith("./")}
    assert len(sources) == 3
    for source in sources:
        assert (DOCKER / source).exists(), source


def test_the_example_has_all_settings_and_no_secret():
    lines = [line.lstrip("# ") for line in (DOCKER / ".env.example").read_text().splitlines()]
    example = dict(line.split("=", 1) for line in lines if "=" in line and line.split("=", 1)[0].isupper())
    assert {"RAY_TOKEN", "IMAGE", "DATA", "SHM_SIZE", "WORKER_CPUS", "BUCKET", "AWS_ENDPOINT_URL"} <= set(example)
    assert example["RAY_TOKEN"] == example["AWS_SECRET_ACCESS_KEY"] == example["WANDB_API_KEY"] == ""
    assert (DOCKER / ".gitignore").read_text().split() == [".env"]
