"""Configurations as points of the unit cube."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Choice, Float, Int, Space, columns, encode, get_space, names, sample

SPACE = Space(
    name="mixed",
    dimensions=(
        Choice(name="arch", values=("resnet18", "swin_tiny")),
        Float(name="lr", low=1e-4, high=1e-2, log=True),
        Choice(name="batch_size", values=(128, 32, 64)),
        Float(name="attn_drop_rate", low=0.0, high=0.4, when={"arch": ("swin_tiny",)}),
        Int(name="depth", low=3, high=3),
    ),
)


def test_each_kind_of_dimension_has_its_place():
    assert columns(SPACE) == ["arch=resnet18", "arch=swin_tiny", "lr", "batch_size", "attn_drop_rate", "depth"]
    config = {"arch": "swin_tiny", "lr": 1e-3, "batch_size": 128, "attn_drop_rate": 0.1, "depth": 3}
    assert encode(SPACE, config) == pytest.approx([0, 1, 0.5, 1, 0.25, 0.5])
    assert encode(SPACE, {"arch": "resnet18", "lr": 1e-4, "batch_size": 32, "depth": 3}) == [1, 0, 0, 0, 0.5, 0.5]


@given(st.sampled_from(names()), st.integers(0, 10**6))
def test_every_configuration_is_a_point_of_the_unit_cube(name, seed):
    space = get_space(name)
    point = encode(space, sample(space, random.Random(seed)))
    assert len(point) == len(columns(space))
    assert all(0 <= place <= 1 for place in point)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_different_configurations_have_different_points(one, other):
    space = get_space("all")
    first, second = (sample(space, random.Random(seed)) for seed in (one, other))
    assert (encode(space, first) == encode(space, second)) == (first == second)
