"""Seconds of an epoch, from the narrowest group that was seen."""

import pytest
from tuning.epoch_cost import EpochCost


def test_the_narrowest_group_that_was_seen_tells():
    cost = EpochCost()
    assert cost.predict([{"arch": "resnet18"}]) == [1.0]
    cost.add({"arch": "resnet18", "batch_size": 32}, 10)
    cost.add({"arch": "resnet18", "batch_size": 64}, 6)
    cost.add({"arch": "resnet18", "batch_size": 64}, 8)
    cost.add({"arch": "swin_tiny", "batch_size": 64}, 2)
    configs = [
        {"arch": "resnet18", "batch_size": 64},
        {"arch": "resnet18", "batch_size": 256},
        {"arch": "vit_small", "batch_size": 64},
        {"lr": 0.1},
    ]
    assert cost.predict(configs) == pytest.approx([7, 8, 6.5, 6.5])
