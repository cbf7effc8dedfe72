"""Whether W&B is used, and how."""

import pytest

from trainable.errors import UsageError
from tuning.tracking import api_key_is_configured, choose_wandb_mode, wandb_callback


@pytest.fixture(autouse=True)
def no_key(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return tmp_path / "netrc"


def test_without_a_key_wandb_is_off_unless_asked_for():
    assert choose_wandb_mode(None) == "off"
    assert choose_wandb_mode("offline") == "offline"


def test_online_without_a_key_says_what_to_do():
    with pytest.raises(UsageError, match="wandb login"):
        choose_wandb_mode("online")


def test_a_key_in_the_environment_means_online(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert choose_wandb_mode(None) == "online"
    assert choose_wandb_mode("off") == "off"


def test_a_key_left_by_wandb_login_is_found(no_key):
    assert not api_key_is_configured()
    no_key.write_text("machine api.wandb.ai\n  login user\n  password secret\n")
    assert api_key_is_configured()


def test_the_callback_groups_by_experiment_and_can_go_on(make_plan, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    callback = wandb_callback(make_plan(wandb="offline"))
    assert callback.group == "test"
    assert callback.kwargs["resume"] == "allow"
    assert "train_loss" not in callback.excludes
