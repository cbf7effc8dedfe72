"""Stem, patch, window and side as dimensions."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import (
    contains,
    get_space,
    sample,
    start_point,
    usual_geometry,
    usual_patch,
    usual_window,
    with_batches_up_to,
    with_geometry,
)
from search_spaces.geometry import SMALL_IMAGE
from trainable import architectures

GEOMETRY = ("stem", "patch_size", "window_size", "progressive_resize")


@given(
    st.sampled_from(["resnet", "vit", "deit", "swin", "all"]),
    st.sampled_from([32, 48, 64, 96, 128, 224]),
    st.integers(),
)
def test_every_configuration_has_just_the_geometry_of_its_architecture(name, image_size, seed):
    space = with_geometry(get_space(name), image_size, cheap=bool(seed % 2))
    config = sample(space, random.Random(seed))
    contains(space, config)
    assert ("stem" in config) == config["arch"].startswith("resnet")
    assert "patch_size" not in config or config["arch"] in ("vit_small", "deit_small")
    assert "patch_size" not in config or image_size % config["patch_size"] == 0
    assert "window_size" not in config or config["arch"] == "swin_tiny"


def test_a_short_budget_starts_with_the_cheap_values_and_a_long_one_with_the_usual_ones():
    cheap, good = (start_point(with_geometry(get_space("resnet"), 64, cheap)) for cheap in (True, False))
    assert (cheap["stem"], cheap["progressive_resize"]) == ("full", True)
    assert (good["stem"], good["progressive_resize"]) == ("small", False)


def test_images_of_32_px_are_not_made_smaller():
    names = {dimension.name for dimension in with_geometry(get_space("all"), 32, cheap=True).dimensions}
    assert "progressive_resize" not in names
    assert {"stem", "patch_size", "window_size"} <= names


@pytest.mark.parametrize("image_size", [8, 28, 32, 48, 64, 95, 96, 128, 192, 224, 256])
def test_what_is_usual_is_what_trainings_take(image_size):
    assert usual_window(image_size) == architectures.swin_window(image_size)
    assert SMALL_IMAGE == architectures.SMALL_IMAGE
    if image_size % usual_patch(image_size) == 0:
        arguments = architectures.size_arguments("vit_small", image_size)
        assert arguments.get("patch_size", 16) == usual_patch(image_size)


def test_what_a_configuration_has_that_names_nothing():
    assert usual_geometry("resnet18", 64) == {"stem": "small", "progressive_resize": False}
    assert usual_geometry("swin_tiny", 64) == {"window_size": 4, "progressive_resize": False}
    assert usual_geometry("convnext_tiny", 64) == {}


@given(st.integers(1, 100_000))
def test_batches_are_at_most_so_large_and_there_are_two_sizes_if_possible(largest):
    (batches,) = [d for d in with_batches_up_to(get_space("swin"), largest).dimensions if d.name == "batch_size"]
    assert max(batches.values) <= largest
    assert batches.start in batches.values
    assert len(batches.values) >= min(2, largest)


def test_large_sets_keep_all_their_batch_sizes():
    assert with_batches_up_to(get_space("swin"), 1000) == get_space("swin")
