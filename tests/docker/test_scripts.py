"""docker/build_docker.sh and run_docker.sh, against a docker that writes down what it is asked."""

import os
import socket
import subprocess
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD, RUN = ROOT / "docker/build_docker.sh", ROOT / "docker/run_docker.sh"


@pytest.fixture
def call(tools, tmp_path):
    """Run a script with the tools alone on its PATH, in an empty folder."""

    def run(script: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        home = tmp_path / "my home"
        home.mkdir(exist_ok=True)
        return subprocess.run(
            [str(tools / "bash"), str(script), *arguments],
            env={"PATH": str(tools), "HOME": str(home), **environment},
            cwd=home,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=30,
            check=False,
        )

    return run


def options(arguments: list[str], name: str) -> list[str]:
    """All values of an option."""
    return [value for option, value in pairwise(arguments) if option == name]


@pytest.mark.parametrize("script", [BUILD, RUN])
def test_help_teaches_without_docker(call, script):
    answer = call(script, "--help")
    assert answer.returncode == 0
    assert "--dry-run" in answer.stdout
    assert "set -euo" not in answer.stdout
    assert answer.stderr == ""


@pytest.mark.parametrize("script", [BUILD, RUN])
def test_missing_docker_is_one_line(call, script):
    answer = call(script)
    assert answer.returncode == 1
    assert "docker isn't installed" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_a_daemon_that_does_not_answer_is_one_line(call, stub):
    stub("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    answer = call(RUN)
    assert answer.returncode == 1
    assert answer.stderr.splitlines() == [
        "run_docker.sh: no Docker daemon answers: start it, or ask to be let into the group docker"
    ]


@pytest.mark.parametrize("script", [BUILD, RUN])
def test_an_option_without_its_value_is_a_usage_error(call, docker, script):
    docker()
    answer = call(script, "--tag" if script == BUILD else "--runs")
    assert answer.returncode == 2
    assert "needs a value" in answer.stderr


def test_build_passes_variant_version_and_commit(call, docker):
    asked = docker()
    assert call(BUILD).returncode == 0
    arguments = asked()
    assert arguments[0] == "build"
    assert arguments[-1] == str(ROOT)
    assert options(arguments, "--target") == ["gpu"]
    assert options(arguments, "--tag") == ["tune-to-ensemble:gpu"]
    built = dict(value.split("=", 1) for value in options(arguments, "--build-arg"))
    assert built["CUDA"] == "13.0"
    assert built["VERSION"][0].isdigit()
    assert built["COMMIT"]
    assert "TORCH_INDEX" not in built


def test_build_for_cpus_takes_no_cuda_and_says_what_it_costs(call, docker):
    asked = docker()
    answer = call(BUILD, "--cpu", "--tag", "me/image:1")
    assert "4 GB" in answer.stderr
    assert options(asked(), "--target") == ["cpu"]
    assert options(asked(), "--tag") == ["me/image:1"]
    assert "CUDA=none" in options(asked(), "--build-arg")
    answer = call(BUILD, "--cpu", "--torch-index", "https://index.example/cpu")
    assert answer.stderr == ""
    assert "TORCH_INDEX=https://index.example/cpu" in options(asked(), "--build-arg")


@pytest.mark.parametrize(("version", "code"), [("11.6", 0), ("12.8", 0), ("11.5", 2), ("9.2", 2), ("new", 2)])
def test_build_refuses_a_cuda_that_is_too_old(call, docker, version, code):
    docker()
    answer = call(BUILD, "--cuda", version)
    assert answer.returncode == code
    assert (f"--cuda {version}:" in answer.stderr) == bool(code)


def test_build_refuses_an_unknown_option(call, docker):
    docker()
    answer = call(BUILD, "--gpu")
    assert answer.returncode == 2
    assert "--gpu is no option" in answer.stderr


def test_a_search_on_a_machine_without_gpus(call, docker, tmp_path):
    asked = docker()
    answer = call(RUN, "--space", "all")
    assert answer.returncode == 0
    arguments = asked()
    assert arguments[0] == "run"
    assert "--gpus" not in arguments
    assert arguments[-3:] == ["tune-to-ensemble:cpu", "--space", "all"]
    assert options(arguments, "--user") == [f"{os.getuid()}:{os.getgid()}"]
    assert options(arguments, "--shm-size") == ["4096m"]  # half of 8 GiB
    (published,) = options(arguments, "--publish")
    assert published.startswith("127.0.0.1:")
    assert published.endswith(":8265")
    assert f"http://127.0.0.1:{published.split(':')[1]}" in answer.stderr
    assert (tmp_path / "my home" / "runs").is_dir(), "Docker would make it as root's"


def test_gpus_are_used_where_docker_can(call, docker, stub):
    stub("nvidia-smi")
    asked = docker("runc nvidia")
    assert call(RUN).returncode == 0
    assert options(asked(), "--gpus") == ["all"]
    assert asked()[-1] == "tune-to-ensemble:gpu"


def test_gpus_that_docker_can_not_use_are_told_of(call, docker, stub):
    stub("nvidia-smi")
    asked = docker("runc")
    answer = call(RUN)
    assert "no nvidia runtime" in answer.stderr
    assert "--gpus" not in asked()


def test_named_gpus_and_none(call, docker, stub):
    stub("nvidia-smi")
    asked = docker("runc nvidia")
    call(RUN, "--gpus", "device=0", "--image", "mine:2")
    assert options(asked(), "--gpus") == ["device=0"]
    assert asked()[-1] == "mine:2"
    call(RUN, "--gpus", "none")
    assert "--gpus" not in asked()


def test_paths_with_spaces_are_mounted_and_data_is_read_only(call, docker, tmp_path):
    asked = docker()
    images = tmp_path / "my images"
    images.mkdir()
    answer = call(RUN, "--data", str(images), "--runs", "my runs", "--space", "swin")
    assert answer.returncode == 0
    mounts = options(asked(), "--mount")
    assert f"type=bind,source={images},target=/data,readonly" in mounts
    assert f"type=bind,source={tmp_path}/my home/my runs,target=/work/runs" in mounts
    assert asked()[-4:] == ["--space", "swin", "--data", "/data"]


def test_a_resumed_search_is_not_told_its_data_again(call, docker, tmp_path):
    asked = docker()
    call(RUN, "--data", str(tmp_path), "--resume", "NAME")
    assert asked()[-2:] == ["--resume", "NAME"]
    call(RUN, "--data", str(tmp_path), "predict", "runs/NAME/ensemble", "/data")
    assert asked()[-3:] == ["predict", "runs/NAME/ensemble", "/data"]
    assert "--publish" not in asked()


def test_data_that_is_missing_or_can_not_be_mounted(call, docker, tmp_path):
    docker()
    answer = call(RUN, "--data", "nowhere")
    assert answer.returncode == 1
    assert answer.stderr == "run_docker.sh: --data nowhere: no such folder\n"
    comma = tmp_path / "a,b"
    comma.mkdir()
    assert "comma" in call(RUN, "--data", str(comma)).stderr


def test_secrets_are_handed_on_by_name_alone(call, docker):
    asked = docker()
    secret = "not-to-be-seen"
    answer = call(RUN, WANDB_API_KEY=secret, AWS_SECRET_ACCESS_KEY=secret)
    assert sorted(options(asked(), "-e")) == ["AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY"]
    assert secret not in answer.stdout + answer.stderr + " ".join(asked())


def test_a_dry_run_prints_a_command_that_a_shell_reads_and_runs_nothing(call, tools, tmp_path):
    answer = call(RUN, "--dry-run", "--runs", "my runs", "--", "--dry-run")
    assert answer.returncode == 0, "needs no docker"
    assert not (tmp_path / "my home" / "my runs").exists()
    read = subprocess.run(
        [str(tools / "bash"), "-c", f'printf "%s\\n" {answer.stdout}'], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert read[:2] == ["docker", "run"]
    assert f"type=bind,source={tmp_path}/my home/my runs,target=/work/runs" in read
    assert read[-2:] == ["tune-to-ensemble:cpu", "--dry-run"]


def test_rootless_docker_maps_root_to_the_caller(call, docker):
    asked = docker(security="[name=seccomp name=rootless]")
    call(RUN)
    assert options(asked(), "--user") == ["0:0"]


def test_serving_is_published_on_this_machine_alone(call, docker):
    asked = docker()
    call(RUN, "serve", "runs/NAME/ensemble")
    assert options(asked(), "--publish") == ["127.0.0.1:8000:8000"]
    call(RUN, "--port", "9000", "serve", "runs/NAME/ensemble")
    assert options(asked(), "--publish") == ["127.0.0.1:9000:8000"]


def test_a_port_that_is_taken_is_passed_over(call, docker):
    asked = docker()
    call(RUN)
    first = int(options(asked(), "--publish")[0].split(":")[1])
    with socket.socket() as other:
        with suppress(OSError):  # somebody else has it by now
            other.bind(("127.0.0.1", first))
            other.listen()
        call(RUN)
    assert int(options(asked(), "--publish")[0].split(":")[1]) > first


def test_dockers_exit_code_is_the_scripts(call, tools):
    failing = tools / "docker"
    failing.write_text(f"#!{tools / 'bash'}\n[ \"$1\" = info ] && echo '1073741824|runc |[]' && exit 0\nexit 7\n")
    failing.chmod(0o755)
    assert call(RUN).returncode == 7
