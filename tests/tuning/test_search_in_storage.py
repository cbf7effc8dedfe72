"""A real search on a real cluster of three nodes, kept in a real S3 server, while storage, a node and its driver go."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from analysis import load_ensemble
from trainable.address import open_place

pytestmark = pytest.mark.timeout(900)

OUTAGE_S = 30


@pytest.fixture(scope="module")
def cluster(s3) -> Iterator:
    """A head without slots, and two nodes with one each."""
    from ray.cluster_utils import Cluster

    common = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster()
    cluster.add_node(node_ip_address="127.0.0.1", num_cpus=0, **common)
    for address in ("127.0.0.2", "127.0.0.3"):
        cluster.add_node(node_ip_address=address, num_cpus=1, **common)
    yield cluster
    cluster.shutdown()


def search(folder: Path, *arguments: object) -> subprocess.Popen:
    """The command, from a folder of its own: another machine to it."""
    folder.mkdir()
    command = [sys.executable, "-m", "tuning.run", *map(str, arguments)]
    with (folder / "log.txt").open("w") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen, log: Path) -> None:
    patience = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < patience, log.read_text()
        time.sleep(0.3)


def epochs_in(place) -> dict[tuple[str, int], int]:
    """When each epoch of each trial ended."""
    lines = [line for path in place.glob("*/result.json") for line in path.read_text().splitlines()]
    return {(record["trial_id"], record["epoch"]): record["timestamp"] for record in map(json.loads, lines)}


def test_nothing_is_lost_where_storage_a_node_and_the_driver_go(
    cluster, s3, tmp_path, colour_folder, tiny_space, monkeypatch
):
    (tmp_path / "tiny.toml").write_text(tiny_space)
    storage = f"{s3.make_bucket()}/runs"
    place = open_place(storage, "--storage") / "far"
    here, there = tmp_path / "here", tmp_path / "there"
    on_cluster = ["--address", cluster.address, "--storage", storage]
    first = search(
        here, "--space", tmp_path / "tiny.toml", "--data", colour_folder, "--trials", 16, "--epochs", 6,
        "--name", "far", "--wandb", "off", *on_cluster,
    )  # fmt: skip
    wait_for(lambda: len(list(place.glob("*/checkpoint_*/trial.json"))) >= 2, first, here / "log.txt")

    s3.stop()
    time.sleep(OUTAGE_S)
    s3.start()
    known = len(epochs_in(place))
    wait_for(lambda: len(epochs_in(place)) >= known + 2, first, here / "log.txt")
    assert "failed" not in (here / "log.txt").read_text()

    cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
    cluster.add_node(node_ip_address="127.0.0.4", num_cpus=1, object_store_memory=80 * 2**20)
    known = len(epochs_in(place))
    wait_for(lambda: len(epochs_in(place)) >= known + 2, first, here / "log.txt")
    first.kill()
    first.wait()
    before = epochs_in(place)
    assert not list((here / "runs" / "far").rglob("model.safetensors"))

    second = search(there, "--resume", "far", *on_cluster)
    assert second.wait(400) == 0, (there / "log.txt").read_text()
    log, after = (there / "log.txt").read_text(), epochs_in(place)
    assert f"{len(before)} epochs are known" in log
    assert before.keys() <= after.keys()
    again = {trial for (trial, epoch), stamp in before.items() if after[trial, epoch] != stamp}
    assert len(again) <= 2, "only trials that ran may have epochs since their last checkpoint"
    assert len({trial for trial, _ in after}) == 16
    assert (place / "report" / "index.html").exists()
    assert load_ensemble(f"{place}/ensemble", "cpu").members
    assert epochs_in(there / "runs" / "far") == after
