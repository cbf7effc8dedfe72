"""The space that options make, and the weights that its architectures start from."""

import json
from types import SimpleNamespace

import pytest

import tuning.chosen_space as chosen_space_module
from search_spaces import get_space
from trainable.data.default import DIGITS
from trainable.data.lite import PACKAGES
from trainable.errors import UsageError
from tuning.chosen_space import choose_space, starting_point, takes_probes
from tuning.data import find_source
from tuning.resources import Hardware

CPU, GPU = Hardware(2, ()), Hardware(2, (10**10,))
LITE_ARCHS = {f"{arch}.in1k" for arch in PACKAGES}


@pytest.fixture
def choose(colour_folder, monkeypatch):
    """`choose(space="photos")` is what that option makes of the colours, or of another data set, on a machine."""
    monkeypatch.setattr(chosen_space_module, "given_options", lambda context: set(context))

    def chosen(hardware=CPU, data=colour_folder, given=(), **changes):
        values = {"space": "swin", "settings": None, "pretrained": None, "scheduler": None, "augment": "full"}
        asked = SimpleNamespace(**values | changes, progressive_resize=False, context=given)
        return choose_space(asked, find_source(data, 32), hardware, cheap=True)

    return chosen


def test_photos_on_a_cpu_are_the_small_end_of_what_has_weights(choose):
    space, weights = choose(space="photos")
    assert set(weights.found) == LITE_ARCHS  # offline, but for what pip brought
    assert set(space.dimensions[0].values) == LITE_ARCHS
    assert "mobilenetv4_conv_small.e2400_r224_in1k" in weights.missing
    assert "vit_base_patch14_dinov2.lvd142m" not in weights.missing


def test_photos_on_a_gpu_and_named_architectures_are_looked_up_whatever_they_cost(choose):
    assert "vit_base_patch14_dinov2.lvd142m" in choose(GPU, space="photos").weights.missing
    named = choose(space="photos", settings=["arch=vit_base_patch14_dinov2.lvd142m,tf_efficientnet_lite0.in1k"])
    assert "vit_base_patch14_dinov2.lvd142m" in named.weights.missing
    assert named.space.fixed == {"arch": "tf_efficientnet_lite0.in1k"}


def test_without_weights_training_is_from_scratch_with_the_geometry_of_the_images(choose):
    space, weights = choose(space="swin")
    assert not weights.found
    assert starting_point(weights, find_source(None, 32)) == {"pretrained": False}
    assert {each.name for each in space.dimensions} >= {"lr", "drop_path_rate"}
    assert not {"freeze", "backbone_lr"} & {each.name for each in space.dimensions}
    assert "all trainings start from scratch" in str(weights.note)


def test_digits_and_none_ask_nobody(choose):
    for options in ({"data": DIGITS}, {"pretrained": "none"}):
        assert choose(**options).weights.note is None


def test_weights_that_were_asked_for_and_are_not_there_are_an_error(choose):
    with pytest.raises(UsageError, match=r"--pretrained timm: has weights for no architecture of space swin \(not in"):
        choose(pretrained="timm")


def test_a_users_own_space_is_only_cut_to_what_has_weights(choose, tmp_path):
    values = ["tf_efficientnet_lite0", "test_resnet"]
    text = f'name = "mine"\n[[dimensions]]\nkind = "choice"\nname = "arch"\nvalues = {json.dumps(values)}\n'
    text += '[[dimensions]]\nkind = "float"\nname = "lr"\nlow = 1e-4\nhigh = 1e-2\n'
    (tmp_path / "mine.toml").write_text(text)
    space, weights = choose(space=str(tmp_path / "mine.toml"))
    assert space.fixed == {"arch": "tf_efficientnet_lite0"}
    assert space.dimensions == get_space(str(tmp_path / "mine.toml")).dimensions[1:]
    assert starting_point(weights, find_source(None, 32)) == {
        "pretrained": {"tf_efficientnet_lite0": "lite"},
        "head": "probe",
    }


def test_an_augmentation_that_is_given_does_not_vary(choose):
    varied = {each.name: each for each in choose(space="photos").space.dimensions}
    given = choose(space="photos", given=("augment",), augment="light")
    fixed = {each.name: each for each in given.space.dimensions}
    assert varied["augment"].values == ("light", "full")
    assert fixed["augment"].values == ("light",)


def test_more_images_than_memory_takes_have_no_probes(choose, colour_folder):
    source = find_source(colour_folder, 32)
    many = source._replace(train_images=10**6)
    assert takes_probes(source)
    assert not takes_probes(many)
    assert starting_point(choose(space="photos").weights, many)["head"] == "new"


def test_a_machine_that_is_not_known_is_taken_to_have_all_weights(choose):
    assert not choose(None, space="photos").weights.missing
