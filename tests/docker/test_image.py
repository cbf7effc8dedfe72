"""docker/Dockerfile without a Docker daemon: what its steps copy, and those of the code's layers replayed."""

import fnmatch
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]
REQUIREMENTS = ROOT / "docker/requirements.py"


class Step(NamedTuple):
    """One instruction of the Dockerfile."""

    stage: str
    word: str
    rest: str


def steps() -> list[Step]:
    """The Dockerfile's instructions in order, with their lines joined and comments left out."""
    text = "\n".join(line for line in (ROOT / "docker/Dockerfile").read_text().splitlines() if line.lstrip()[:1] != "#")
    found, stage = [], ""
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            stage = rest.rpartition(" AS ")[2]
        found.append(Step(stage, word, rest))
    return found


def copied(stage: str) -> list[str]:
    """What a stage copies out of the repository."""
    copies = [step.rest.split() for step in steps() if step.stage == stage and step.word == "COPY"]
    copies = [words for words in copies if not any(word.startswith("--from=") for word in words)]
    return [word for words in copies for word in words[:-1] if not word.startswith("--")]


def in_context(path: str) -> bool:
    """Whether .dockerignore lets a file or folder of the repository through: the last line that fits decides."""
    let_through = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        parents = ["/".join(path.split("/")[: count + 1]) for count in range(len(path.split("/")))]
        anywhere = pattern.removeprefix("**/")
        if any(fnmatch.fnmatch(each if anywhere == pattern else each.rpartition("/")[2], anywhere) for each in parents):
            let_through = line.startswith("!")
    return let_through


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> Path:
    """What docker build would be sent: the files that .dockerignore lets through, as git knows them."""
    folder = tmp_path_factory.mktemp("context")
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in listed:
        if in_context(name) and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(context, tmp_path_factory) -> Path:
    """The wheel that the image's stage `wheel` builds, by the command that stands there."""
    (step,) = [step for step in steps() if step.stage == "wheel" and "pip wheel" in step.rest]
    folder = tmp_path_factory.mktemp("dist")
    command = step.rest.replace("/opt/build/bin/pip", f"{sys.executable} -m pip").replace("/dist", str(folder)).split()
    subprocess.run(command, cwd=context, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.parametrize("stage", ["dependencies", "runtime"])
def test_what_is_copied_exists_and_is_let_through(stage):
    assert copied(stage)
    for name in copied(stage):
        assert (ROOT / name).exists(), name
        assert in_context(name), f".dockerignore leaves out {name}"


def test_nothing_but_sources_is_sent_to_the_builder(context):
    tops = {path.name for path in context.iterdir()}
    assert tops == {"LICENSE", "README.md", "analysis", "constraints.txt", "docker", "pyproject.toml", "search_spaces",
                    "trainable", "tuning"}  # fmt: skip
    for name in (
        "docker/.env",
        ".git/config",
        ".venv/bin/python",
        "data/a.png",
        "runs/a/b",
        "tuning/__pycache__/a.pyc",
    ):
        assert not in_context(name), name


def test_a_changed_py_file_invalidates_no_layer_of_dependencies():
    """The wheel's stage alone copies code, and what depends on it comes after all that takes minutes."""
    assert copied("base") == []
    assert set(copied("dependencies")) == {"constraints.txt", "pyproject.toml", "docker/requirements.py"}
    assert copied("wheel") == ["."]
    assert copied("runtime") == ["docker/entrypoint.sh"]
    origin = {step.stage: step.rest.split()[0] for step in steps() if step.word == "FROM"}
    assert origin["runtime"] == "dependencies"
    assert origin["cpu"] == origin["gpu"] == "runtime"
    runtime = [step for step in steps() if step.stage == "runtime"]
    (install,) = [number for number, step in enumerate(runtime) if "pip install" in step.rest]
    assert "--no-deps" in runtime[install].rest
    assert runtime[install - 1].rest.startswith("--from=wheel"), "a mount in its place isn't seen to change by buildah"
    assert not any(step.word in ("RUN", "COPY") for step in runtime[install + 1 :])
    changing = [number for number, step in enumerate(runtime) if step.word == "ARG"]
    assert min(changing) > install, "the commit's label would invalidate the layers after it"


def test_all_is_pinned():
    (base,) = [step.rest for step in steps() if step.word == "ARG" and step.rest.startswith("BASE=")]
    assert re.fullmatch(r"BASE=python:3\.11\.\d+-slim-\w+", base)
    installs = [step.rest for step in steps() if step.word == "RUN" and re.search(r"pip install", step.rest)]
    for line in installs:
        assert "-c constraints.txt" in line or "--no-deps" in line or re.search(r"install setuptools==\S+$", line), line
    (apt,) = [step.rest for step in steps() if "apt-get install" in step.rest]
    for package in re.search(r"--no-install-recommends ([^&]*)", apt)[1].split():  # type: ignore[index]
        assert "=" in package, package


def test_it_does_not_run_as_root_and_tells_its_health():
    last = {step.word: step.rest for step in steps() if step.stage == "runtime"}
    assert last["USER"] == "1000:1000", "a number, so that Kubernetes can see that it isn't root"
    assert "entrypoint.sh" in last["ENTRYPOINT"]
    assert '"health"' in last["HEALTHCHECK"]
    assert {"title", "version", "revision", "created", "licenses"} <= set(re.findall(r"image\.(\w+)=", last["LABEL"]))


def test_the_wheel_holds_all_packages_and_their_files(wheel, context):
    held = set(zipfile.ZipFile(wheel).namelist())
    tops = sorted({package.partition(".")[0] for package in PACKAGES})
    files = {str(path.relative_to(context)) for top in tops for path in (context / top).rglob("*") if path.is_file()}
    assert any(name.endswith(".html") for name in files)
    assert files <= held, sorted(files - held)


def test_the_installed_wheel_runs(wheel, tmp_path):
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    environment = os.environ | {"PYTHONPATH": str(site)}
    for module, words in (("tuning.run", ["--dry-run"]), ("analysis.report", ["--help"])):
        answer = subprocess.run(
            [sys.executable, "-m", module, *words],
            env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert answer.returncode == 0, answer.stderr
    where = [sys.executable, "-c", "import tuning; print(tuning.__file__)"]
    found = subprocess.run(where, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert found.startswith(str(site))


@pytest.fixture
def requirements(tmp_path):
    """Run docker/requirements.py as the image does, beside pyproject.toml."""
    shutil.copy(REQUIREMENTS, tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return lambda *options: subprocess.run(
        [sys.executable, str(tmp_path / "requirements.py"), *options], capture_output=True, text=True, check=False
    )


def test_requirements_are_the_projects(requirements):
    lines = requirements("--extras", "serve,onnx", "--packages", "boto3").stdout.splitlines()
    extras = PROJECT["project"]["optional-dependencies"]
    assert lines == [*PROJECT["project"]["dependencies"], *extras["serve"], *extras["onnx"], "boto3"]


def test_the_images_extras_exist(requirements):
    (asked,) = [step.rest for step in steps() if step.word == "ARG" and step.rest.startswith("EXTRAS=")]
    assert requirements("--extras", asked.removeprefix("EXTRAS=").strip('"')).returncode == 0


def test_an_unknown_extra_is_one_line(requirements):
    answer = requirements("--extras", "serve,nonsense")
    assert answer.returncode == 1
    assert answer.stderr.startswith("EXTRAS: pyproject.toml has no extra nonsense; it has ")
    assert len(answer.stderr.splitlines()) == 1


def test_torch_for_another_cuda_is_refused():
    import torch

    spec = importlib.util.spec_from_file_location("requirements", REQUIREMENTS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = torch.version.cuda or "none"
    module.check_cuda(found)
    with pytest.raises(SystemExit, match=rf"CUDA=11\.6, but this torch was built for {found}"):
        module.check_cuda("11.6")
