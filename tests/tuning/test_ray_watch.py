"""A cluster that is gone, or open to strangers."""

import pytest
import ray

from trainable.errors import UserError
from tuning.ray_watch import RayWatch, open_to_strangers


@pytest.mark.parametrize("address", [None, "auto", "localhost:6379", "127.0.0.1:6379", "[::1]:6379"])
def test_a_cluster_on_this_machine_needs_no_warning(monkeypatch, address):
    monkeypatch.setattr("tuning.ray_watch.is_token_auth_enabled", lambda: False)
    assert open_to_strangers(address) is None


@pytest.mark.parametrize("address", ["10.0.0.7:6379", "ray://head:10001", "[2001:db8::1]:6379"])
def test_a_cluster_elsewhere_without_a_token_is_warned_of(monkeypatch, address):
    monkeypatch.setattr("tuning.ray_watch.is_token_auth_enabled", lambda: False)
    assert address in open_to_strangers(address)
    monkeypatch.setattr("tuning.ray_watch.is_token_auth_enabled", lambda: True)
    assert open_to_strangers(address) is None


@pytest.fixture
def watch(monkeypatch) -> RayWatch:
    monkeypatch.setattr(ray, "get_runtime_context", lambda: type("Context", (), {"get_node_id": lambda self: "here"})())
    return RayWatch("swin")


def test_a_search_goes_on_while_its_node_is_there(monkeypatch, watch):
    monkeypatch.setattr(ray, "nodes", lambda: [{"NodeID": "here", "Alive": True}, {"NodeID": "there", "Alive": False}])
    watch.on_step_end(0, [])


def test_a_search_whose_node_has_left_the_cluster_ends(monkeypatch, watch):
    monkeypatch.setattr(ray, "nodes", lambda: [{"NodeID": "here", "Alive": False}])
    with pytest.raises(UserError, match=r"Ray has crashed here.*--resume swin"):
        watch.on_step_end(0, [])
