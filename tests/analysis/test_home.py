"""Commands on experiments and ensembles that lie in a real S3 server's bucket."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from analysis import load_ensemble
from analysis.export import Export
from analysis.home import at_home
from trainable.address import open_place


@pytest.fixture(scope="module")
def address(s3, experiment: Path, exported: Export) -> str:
    """Of the experiment, with its export."""
    place = open_place(f"{s3.make_bucket()}/runs/tiny", "--storage")
    for root, folder in ((experiment, place), (exported.folder, place / "ensemble")):
        for path in root.rglob("*"):
            if path.is_file():
                (folder / path.relative_to(root).as_posix()).write_bytes(path.read_bytes())
    return str(place)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *map(str, arguments)], capture_output=True, text=True, check=False)


def test_a_table_of_an_experiment_elsewhere_is_that_of_its_folder(address, experiment):
    there, here = (run("analysis.experiment", folder, "--csv", "-") for folder in (address, experiment))
    assert (there.returncode, here.returncode) == (0, 0)
    assert there.stdout.replace(str(at_home(address)), str(experiment)) == here.stdout


def test_a_report_is_written_beside_the_experiment(address):
    done = run("analysis.report", address)
    assert done.returncode == 0, done.stderr
    assert f"copied   to {address}/report\n" in done.stdout
    assert "<html" in (open_place(address, "") / "report" / "index.html").read_text()


def test_an_ensemble_elsewhere_predicts_as_its_copy_here(address, exported):
    there, here = load_ensemble(f"{address}/ensemble", "cpu"), load_ensemble(exported.folder, "cpu")
    size = here.sizes[0]
    images = np.random.default_rng(0).integers(256, size=(4, size, size, 3), dtype=np.uint8)
    np.testing.assert_array_equal(there.predict(images), here.predict(images))


@pytest.mark.parametrize(
    ("command", "folder", "code", "error"),
    [
        ("analysis.report", "s3://none/runs/tiny", 1, "error: s3://none/runs/tiny: there is no such bucket"),
        ("analysis.predict", "foo://a/b", 2, "error: foo://a/b: foo:// is no storage that is known here"),
    ],
)
def test_a_wrong_address_is_told_in_a_line(s3, command, folder, code, error):
    done = run(command, folder, *(["/"] if command.endswith("predict") else []))
    assert (done.returncode, done.stderr.count("\n")) == (code, 1)
    assert done.stderr.startswith(error)


def test_what_is_new_is_copied_and_what_further_training_needs_is_not(address):
    copy = at_home(address)
    assert not list(copy.rglob("state.pt"))
    (open_place(address, "") / "0009-new" / "params.json").write_text("{}")
    assert at_home(address) == copy
    assert (copy / "0009-new" / "params.json").read_text() == "{}"
