"""docker/ray-up/cluster.yaml, by what `ray up` itself checks before it asks a cloud for anything."""

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

CLUSTER = Path(__file__).parents[2] / "docker/ray-up/cluster.yaml"


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load(CLUSTER.read_text())


def test_ray_takes_it(cluster):
    validate_config(prepare_config(cluster))


def test_the_check_can_fail(cluster):
    broken = copy.deepcopy(cluster)
    broken["available_node_types"]["gpu"]["spot"] = True
    with pytest.raises(jsonschema.ValidationError, match="spot"):
        validate_config(prepare_config(broken))


def test_workers_are_spot_machines_that_come_and_go(cluster):
    workers = {
        name: kind for name, kind in cluster["available_node_types"].items() if name != cluster["head_node_type"]
    }
    assert set(workers) == {"gpu", "cpu"}
    for kind in workers.values():
        assert kind["min_workers"] == 0
        assert kind["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    head = cluster["available_node_types"]["head"]
    assert "InstanceMarketOptions" not in head["node_config"], "the search would be cut off with it"
    assert head["resources"] == {"CPU": 0, "GPU": 0}


def test_the_cluster_asks_for_a_token(cluster):
    assert "--env RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]
    assert "/home/tune/.ray/auth_token" in cluster["file_mounts"]
    assert not any("0.0.0.0" in command for command in cluster["head_start_ray_commands"])
