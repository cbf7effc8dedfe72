import re
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from trainable.architectures import (
    ARCHITECTURES,
    WithoutInitialValues,
    build_model,
    has_rate,
    normalisation,
    size_arguments,
    swin_window,
    timm_name,
    with_default_rates,
)
from trainable.config import DEFAULT_RATES, TrialConfig
from trainable.errors import UsageError, UserError

RATES = {"drop_rate": 0.2, "attn_drop_rate": 0.1, "drop_path_rate": 0.1}


def config(arch: str, **values) -> TrialConfig:
    return TrialConfig.model_validate({"data": "images", "arch": arch} | values)


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_builds_trains_and_answers_for_each_class(arch: str, size: int) -> None:
    if arch in ("resnet101", "resnet152") and size == 64:
        pytest.skip("as resnet50 at 64 px, but slow")
    values = with_default_rates({"data": "images", "arch": arch})
    model = build_model(TrialConfig.model_validate(values), num_classes=5, image_size=size)
    images = torch.rand(2, 3, size, size)
    with torch.inference_mode():
        assert model.eval()(images).shape == (2, 5)
        logits = model.train()(images)
    assert torch.is_tensor(logits)
    assert logits.shape == (2, 5)


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_resnets_have_a_small_stem_below_96_px(arch: str) -> None:
    model = build_model(config(arch), 3, 95)
    assert (model.conv1.kernel_size, model.conv1.stride, model.conv1.padding) == ((3, 3), (1, 1), (1, 1))
    assert model.conv1.out_channels == model.bn1.num_features
    assert isinstance(model.maxpool, nn.Identity)


def test_resnets_have_the_usual_stem_from_96_px() -> None:
    model = build_model(config("resnet18"), 3, 96)
    assert (model.conv1.kernel_size, model.conv1.stride) == ((7, 7), (2, 2))
    assert isinstance(model.maxpool, nn.MaxPool2d)


@pytest.mark.parametrize("arch", ["resnet26d", "resnetv2_50", "resnet26t"])
def test_resnets_of_other_stems_keep_theirs(arch: str) -> None:
    model = build_model(config(arch), 3, 32).eval()
    with torch.inference_mode():
        assert model(torch.rand(1, 3, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize("arch", ["vit_small", "deit_small"])
@pytest.mark.parametrize(
    ("size", "asked", "patch"), [(16, None, 4), (32, None, 4), (64, None, 8), (64, 16, 16), (96, None, 16)]
)
def test_patches_are_an_eighth_of_small_images(arch: str, size: int, asked: int | None, patch: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(timm_name(arch), **size_arguments(arch, size, asked))
    assert model.patch_embed.patch_size == (patch, patch)
    assert model.patch_embed.img_size == (size, size)


def test_a_patch_that_does_not_divide_the_image_is_an_error() -> None:
    with pytest.raises(UserError, match="patch_size 5 doesn't divide the image size 32; give one that does"):
        build_model(config("vit_small", patch_size=5), 3, 32)


@pytest.mark.parametrize("arch", ["resnet18", "swin_tiny"])
def test_a_patch_size_for_a_model_without_is_an_error(arch: str) -> None:
    with pytest.raises(UserError, match=f"patch_size is for ViT and DeiT; {arch} has none: leave it out"):
        build_model(config(arch, patch_size=4), 3, 32)


def test_deit_has_its_distillation_head() -> None:
    with torch.device("meta"):
        model = timm.create_model(timm_name("deit_small"), num_classes=3, **size_arguments("deit_small", 32))
    assert model.head_dist.out_features == 3
    assert model.dist_token.shape == (1, 1, 384)


@given(image_size=st.integers(8, 1024))
def test_swins_window_divides_its_first_feature_map_where_a_window_above_3_does(image_size: int) -> None:
    window = swin_window(image_size)
    fitting = [candidate for candidate in range(4, 8) if (image_size // 4) % candidate == 0]
    assert window == max(fitting, default=7)


@given(image_size=st.integers(1, 32).map(lambda n: 32 * n))
def test_at_the_sizes_that_are_chosen_by_themselves_swins_window_is_at_least_4(image_size: int) -> None:
    assert swin_window(image_size) >= 4


@pytest.mark.parametrize(("size", "window"), [(32, 4), (64, 4), (96, 6), (224, 7)])
def test_swins_window_reaches_the_model(size: int, window: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(timm_name("swin_tiny"), **size_arguments("swin_tiny", size))
    assert model.layers[0].blocks[0].window_size == (window, window)
    assert model.patch_embed.img_size == (size, size)


@pytest.mark.parametrize("arch", ["test_vit3", "test_maxvit", "test_vit_relpos"])
def test_any_timm_model_that_takes_an_image_size_gets_it(arch: str) -> None:
    model = build_model(config(arch), 3, 64).eval()
    with torch.inference_mode():
        assert model(torch.rand(1, 3, 64, 64)).shape == (1, 3)


@pytest.mark.parametrize("arch", ["test_resnet", "resnet18"])
def test_a_rate_that_the_architecture_lacks_is_one_clear_error(arch: str) -> None:
    message = rf"^{arch} has no attn_drop_rate: leave it out \(got 0\.1\)$"
    with pytest.raises(UserError, match=message):
        build_model(config(arch, attn_drop_rate=0.1), 3, 32)


def test_a_rate_of_0_is_a_rate_too() -> None:
    with pytest.raises(UserError, match=r"has no attn_drop_rate: leave it out \(got 0\.0\)"):
        build_model(config("test_resnet", attn_drop_rate=0.0), 3, 32)


def test_rates_reach_the_model() -> None:
    model = build_model(config("test_vit", drop_rate=0.3, attn_drop_rate=0.4, drop_path_rate=0.5), 3, 32)
    assert model.head_drop.p == 0.3
    assert model.blocks[-1].attn.attn_drop.p == 0.4
    assert model.blocks[-1].drop_path1.drop_prob == 0.5


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_only_attention_models_have_a_rate_for_attention(arch: str) -> None:
    assert has_rate(arch, "attn_drop_rate") == (not arch.startswith("resnet"))
    assert has_rate(arch, "drop_rate")
    assert has_rate(arch, "drop_path_rate")


def test_open_rates_get_their_defaults_where_the_architecture_has_them() -> None:
    assert with_default_rates({"arch": "test_vit"}) == {"arch": "test_vit"} | DEFAULT_RATES
    filled = with_default_rates({"arch": "test_resnet", "drop_rate": 0.0, "drop_path_rate": None})
    assert filled == {"arch": "test_resnet", "drop_rate": 0.0, "drop_path_rate": DEFAULT_RATES["drop_path_rate"]}


def test_without_an_architecture_the_rates_are_those_of_the_default_one() -> None:
    assert with_default_rates({}) == DEFAULT_RATES


@pytest.mark.parametrize(("wrong", "near"), [("swin_tinny", "swin_tiny"), ("resnet19", "resnet18"), ("vit-small", "")])
def test_an_unknown_architecture_names_the_known_and_the_near_ones(wrong: str, near: str) -> None:
    known = ".*".join(ARCHITECTURES)
    with pytest.raises(UsageError, match=rf"'{wrong}' is unknown: .*known are {known} and every timm model") as error:
        timm_name(wrong)
    assert re.search(rf"did you mean .*{near}", str(error.value))


def test_a_name_like_no_other_gets_no_guess() -> None:
    with pytest.raises(UsageError, match="'§§§' is unknown: known are"):
        timm_name("§§§")


def weights_of(arch: str, seed: int, image_size: int = 32) -> dict[str, torch.Tensor]:
    return build_model(config(arch, seed=seed), 3, image_size).state_dict()


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left)


def test_no_initial_values_means_that_memory_is_left_as_it_was() -> None:
    left = torch.full((4, 4), 7.0)
    with WithoutInitialValues():
        for fill in (nn.init.kaiming_uniform_, torch.Tensor.uniform_, torch.Tensor.normal_):
            assert fill(left) is left
        assert left.unique().tolist() == [7.0]
        assert (left + 1).unique().tolist() == [8.0]
    assert nn.init.zeros_(left).unique().tolist() == [0.0]


@pytest.mark.parametrize("arch", [*ARCHITECTURES, "test_convnext"])
def test_a_model_without_initial_values_is_the_same_once_its_weights_are_loaded(arch: str) -> None:
    model = build_model(config(arch), 3, 32).eval()
    with WithoutInitialValues():
        other = build_model(config(arch), 3, 32).eval()
    other.load_state_dict(model.state_dict())
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(other(images), model(images), rtol=0, atol=0)


@pytest.mark.parametrize("arch", ["test_vit", "resnet18"])
def test_the_seed_alone_fixes_the_initial_weights(arch: str) -> None:
    torch.manual_seed(1)
    first = weights_of(arch, seed=7)
    torch.manual_seed(2)
    assert same(first, weights_of(arch, seed=7))
    assert not same(first, weights_of(arch, seed=8))


def test_building_a_model_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    weights_of("resnet18", seed=7)
    assert torch.equal(torch.get_rng_state(), state)


def test_normalisation_is_what_the_weights_expect() -> None:
    assert normalisation(timm.create_model("test_vit")) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert normalisation(timm.create_model("resnet18")) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def save_weights(path: Path, name: str, num_classes: int, **arguments) -> dict[str, torch.Tensor]:
    """Weights that no seed gives, of the timm model `name`, in a safetensors file."""
    weights = timm.create_model(name, num_classes=num_classes, **arguments).state_dict()
    generator = torch.Generator().manual_seed(0)
    for name, tensor in weights.items():
        if tensor.is_floating_point():
            weights[name] = torch.rand(tensor.shape, generator=generator) + 0.5
    save_file(weights, path)
    return weights


def test_a_local_resnet_gives_its_weights_but_not_its_head_and_the_centre_of_its_stem(tmp_path: Path) -> None:
    file = tmp_path / "resnet.safetensors"
    saved = save_weights(file, "resnet18", num_classes=7)
    weights = build_model(config("resnet18", pretrained=file), 3, 32).state_dict()
    assert torch.equal(weights["conv1.weight"], saved["conv1.weight"][:, :, 2:5, 2:5])
    fresh = weights_of("resnet18", seed=0)
    for name, tensor in weights.items():
        expected = fresh if name.startswith("fc") else saved
        assert name == "conv1.weight" or torch.equal(tensor, expected[name]), name


def test_at_96_px_a_local_resnet_keeps_its_whole_stem(tmp_path: Path) -> None:
    file = tmp_path / "resnet.safetensors"
    saved = save_weights(file, "resnet18", num_classes=3)
    weights = build_model(config("resnet18", pretrained=file), 3, 96).state_dict()
    assert torch.equal(weights["conv1.weight"], saved["conv1.weight"])


def test_a_local_vit_of_another_size_is_resized_with_its_patches_and_positions(tmp_path: Path) -> None:
    file = tmp_path / "vit.safetensors"
    saved = save_weights(file, "vit_small_patch16_224", num_classes=7)
    model = build_model(config("vit_small", pretrained=file), 3, 32)
    assert model.pos_embed.shape == (1, 8 * 8 + 1, 384)
    assert model.patch_embed.proj.weight.shape == (384, 3, 4, 4)
    assert model.head.weight.shape == (3, 384)
    assert torch.equal(model.blocks[3].mlp.fc1.weight, saved["blocks.3.mlp.fc1.weight"])
    assert torch.equal(model.pos_embed[:, 0], saved["pos_embed"][:, 0])  # the class token has no place to resize
    assert model.pos_embed.min() > 0.3  # interpolated from the file's 0.5 to 1.5, not initialised around 0


def test_a_local_swin_of_another_window_is_resized(tmp_path: Path) -> None:
    file = tmp_path / "swin.safetensors"
    name = "layers.0.blocks.0.attn.relative_position_bias_table"
    saved = save_weights(file, "swin_tiny_patch4_window7_224", num_classes=7)
    assert saved[name].shape[0] == 13 * 13
    model = build_model(config("swin_tiny", pretrained=file), 3, 32)
    table = model.get_parameter(name)
    assert table.shape[0] == 7 * 7
    assert 0.3 < table.min() < table.max() < 1.7
    assert torch.equal(model.layers[0].blocks[0].mlp.fc1.weight, saved["layers.0.blocks.0.mlp.fc1.weight"])


@pytest.mark.parametrize("classes", [3, 7])
def test_a_files_head_is_dropped_whatever_its_number_of_classes(tmp_path: Path, classes: int) -> None:
    file = tmp_path / "vit.safetensors"
    saved = save_weights(file, "test_vit", num_classes=classes)
    model = build_model(config("test_vit", pretrained=file), 3, 32)
    assert torch.equal(model.head.weight, weights_of("test_vit", seed=0)["head.weight"])
    assert torch.equal(model.cls_token, saved["cls_token"])


def test_a_local_file_of_torch_works_as_well(tmp_path: Path) -> None:
    saved = save_weights(tmp_path / "vit.safetensors", "test_vit", num_classes=3)
    torch.save(load_file(tmp_path / "vit.safetensors"), tmp_path / "vit.pth")
    model = build_model(config("test_vit", pretrained=tmp_path / "vit.pth"), 3, 32)
    assert torch.equal(model.cls_token, saved["cls_token"])


def test_a_missing_weights_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"--pretrained {tmp_path}/no\.pth: no such file; give a \.safetensors or"):
        build_model(config("test_vit", pretrained=tmp_path / "no.pth"), 3, 32)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_a_broken_weights_file_is_named_with_the_reason(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no weights")
    with pytest.raises(UserError, match=rf"test_vit: pretrained weights \({tmp_path}/{name}\) can't be loaded: \w+"):
        build_model(config("test_vit", pretrained=tmp_path / name), 3, 32)


def test_weights_of_another_architecture_are_refused_with_the_first_difference(tmp_path: Path) -> None:
    save_weights(tmp_path / "vit.safetensors", "test_vit", num_classes=3)
    with pytest.raises(UserError, match=r"can't be loaded: .*(Missing|Unexpected|size mismatch)"):
        build_model(config("test_resnet", pretrained=tmp_path / "vit.safetensors"), 3, 32)


@pytest.mark.parametrize("arch", ["resnet18", "vit_small", "deit_small", "swin_tiny"])
def test_images_may_be_half_and_three_quarters_of_the_size_with_progressive_resizing(arch: str) -> None:
    config = TrialConfig(data=Path("x"), arch=arch)
    model = build_model(config.model_copy(update={"progressive_resize": True}), 5, 64)
    plain = build_model(config, 5, 64)
    assert {name: each.shape for name, each in model.state_dict().items() if "mask" not in name} == {
        name: each.shape for name, each in plain.state_dict().items() if "mask" not in name
    }
    for side in (32, 48, 64):
        assert model(torch.zeros(2, 3, side, side)).shape == (2, 5)
    plain.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(model.eval()(images), plain.eval()(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arch", "size", "reason"),
    [
        ("vit_small", 40, r"images of 20 px first, which its patches of 5|images of \d+ px first"),
        ("resnet18", 30, "images of 15 px first"),
        ("test_maxvit", 64, "takes images of one size only"),
    ],
)
def test_progressive_resizing_is_refused_with_the_reason(arch: str, size: int, reason: str) -> None:
    with pytest.raises(UserError, match=f"^progressive_resize: {arch} .*({reason})"):
        build_model(
            TrialConfig(
                data=Path("x"), arch=arch, progressive_resize=True, patch_size=8 if arch == "vit_small" else None
            ),
            5,
            size,
        )
