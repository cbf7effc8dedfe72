"""An experiment's files, brought from a real S3 server to this machine."""

import time

from rich.console import Console

from trainable.address import open_place
from trainable.experiment_files import bring_home, is_material, is_record, sizes_below

QUIET = Console(quiet=True)
FILES = {
    "experiment.json": b"{}",
    "0001-vit/result.json": b"{}\n",
    "0001-vit/checkpoint_000001/predictions.npz": b"logits",
    "0001-vit/checkpoint_000001/state.pt": b"state",
    ".validate_storage_marker": b"",
    "0001-vit/.result.json.7.tmp": b"{",
}


def test_what_differs_is_brought_and_nothing_else(s3, tmp_path):
    place = open_place(s3.make_bucket(), "--storage") / "runs" / "first"
    for name, content in FILES.items():
        (place / name).write_bytes(content)
    assert bring_home(place, tmp_path, is_record, QUIET) == 2
    assert sizes_below(tmp_path) == {"experiment.json": 2, "0001-vit/result.json": 3}
    assert bring_home(place, tmp_path, is_record, QUIET) == 0
    (place / "0001-vit/result.json").write_bytes(b"{}\n{}\n")
    assert bring_home(place, tmp_path, is_material, QUIET) == 2
    assert (tmp_path / "0001-vit/result.json").read_bytes() == b"{}\n{}\n"
    assert (tmp_path / "0001-vit/checkpoint_000001/predictions.npz").read_bytes() == b"logits"
    assert not (tmp_path / "0001-vit/checkpoint_000001/state.pt").exists()


def test_a_file_that_was_written_anew_with_as_many_bytes_is_brought_again(s3, tmp_path):
    place = open_place(s3.make_bucket(), "--storage") / "runs" / "first"
    (place / "ensemble/ensemble.json").write_text("old")
    assert bring_home(place, tmp_path, is_material, QUIET) == 1
    time.sleep(1.1)  # S3 tells whole seconds
    (place / "ensemble/ensemble.json").write_text("new")
    assert bring_home(place, tmp_path, is_material, QUIET) == 1
    assert (tmp_path / "ensemble/ensemble.json").read_text() == "new"


def test_a_folder_of_this_machine_is_a_place_too(tmp_path):
    (tmp_path / "shared/0001-vit").mkdir(parents=True)
    (tmp_path / "shared/0001-vit/params.json").write_text("{}")
    assert bring_home(tmp_path / "shared", tmp_path / "here", is_record, QUIET) == 1
    assert (tmp_path / "here/0001-vit/params.json").read_text() == "{}"
    assert sizes_below(tmp_path / "none") == {}
