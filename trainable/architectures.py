"""Architectures by name, sized for the image: timm models with the stem, patch or window that small images need."""

import difflib
import math
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers.helpers import to_2tuple
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from trainable.config import ARCHITECTURES, DEFAULT_RATES, Stem, TrialConfig
from trainable.data.weights import open_weights
from trainable.errors import UsageError, UserError

SMALL_IMAGE = 96
"""Below this many pixels ResNets get the small stem and ViTs the small patches."""


FROZEN_SHARES = {"none": 0.0, "early": 1 / 2, "most": 5 / 6, "all": 1.0}
"""Of the layers, by `TrialConfig.freeze`."""
NORM_BATCH = 64
"""Smaller batches have no statistics to speak of: those of pretrained batch norms stay as they are."""


def timm_name(arch: str) -> str:
    """The timm model behind `arch`; an unknown name is an error that lists the nearest known ones."""
    name = ARCHITECTURES.get(arch, arch)
    if not timm.is_model(name):
        known = [*ARCHITECTURES, *timm.list_models()]
        near = difflib.get_close_matches(arch, known, n=3)
        hint = f"did you mean {', '.join(near)}? " if near else ""
        known_names = ", ".join(ARCHITECTURES)
        raise UsageError(f"architecture {arch!r} is unknown: {hint}known are {known_names} and every timm model")
    return name


def size_arguments(
    arch: str, image_size: int, patch_size: int | None = None, window_size: int | None = None
) -> dict[str, Any]:
    """timm arguments that fit `arch` to square images of `image_size` pixels.

    UserError for a patch or a window that the architecture lacks, or that doesn't fit.
    """
    name = timm_name(arch)
    if window_size is not None and not name.startswith("swin_"):
        raise UserError(f"window_size is for Swin; {arch} has none: leave it out")
    if name.startswith(("vit_", "deit_")):
        if patch_size is None and image_size < SMALL_IMAGE:
            patch_size = max(4, image_size // 8)
        if patch_size is not None and image_size % patch_size:
            raise UserError(f"patch_size {patch_size} doesn't divide the image size {image_size}; give one that does")
        return {"img_size": image_size} | ({"patch_size": patch_size} if patch_size else {})
    if patch_size is not None:
        raise UserError(f"patch_size is for ViT and DeiT; {arch} has none: leave it out")
    if name.startswith("swin_"):
        return {"img_size": image_size, "window_size": window_size or swin_window(image_size)}
    return {"img_size": image_size} if takes(arch, "img_size", image_size) else {}


def resizing_arguments(arch: str, image_size: int, patch_size: int | None) -> dict[str, Any]:
    """timm arguments that let `arch` train on half and three quarters of `image_size` too.

    UserError for one that can't: its position embedding or its windows are made for a single size.
    """
    name = timm_name(arch)
    grain = 4
    if name.startswith(("vit_", "deit_")):
        grain = patch_size or int(re.findall(r"patch(\d+)", name)[0])
    wrong = [size for size in (image_size // 2, image_size * 3 // 4) if size % grain or image_size % 4]
    if wrong:
        raise UserError(
            f"progressive_resize: {arch} would train on images of {wrong[0]} px first, and {grain} px have to divide "
            f"that, and 4 px the whole {image_size}; choose another --image-size, or leave it out"
        )
    if name.startswith(("vit_", "deit_")):
        return {"dynamic_img_size": True}
    if name.startswith("swin_"):
        return {"strict_img_size": False}
    if takes(arch, "img_size", image_size):
        raise UserError(f"progressive_resize: {arch} takes images of one size only; leave it out for this architecture")
    return {}


def swin_window(image_size: int) -> int:
    """The largest window of at most 7 that divides the first feature map (image / 4): other windows pad.

    Where none above 3 does, it is 7 all the same: windows of one or two patches would attend to almost nothing.
    """
    feature_map = max(1, image_size // 4)
    return max((window for window in range(4, 8) if feature_map % window == 0), default=7)


def has_rate(arch: str, rate: str) -> bool:
    """Whether `arch` has the dropout rate."""
    return takes(arch, rate, 0.1)


@cache
def takes(arch: str, argument: str, value: float) -> bool:
    """Whether timm builds `arch` with such an argument; asked of timm itself, without allocating weights."""
    arguments: dict[str, Any] = {argument: value}
    try:
        with torch.device("meta"):
            timm.create_model(timm_name(arch), **arguments)
    except TypeError as error:
        if argument in str(error):
            return False
        raise
    return True


def with_default_rates(values: dict[str, Any]) -> dict[str, Any]:
    """Fill the dropout rates that `values` leaves open, where the architecture has them."""
    open_rates = {name: rate for name, rate in DEFAULT_RATES.items() if values.get(name) is None}
    arch = values.get("arch", TrialConfig.model_fields["arch"].default)
    return values | {name: rate for name, rate in open_rates.items() if has_rate(arch, name)}


def build_model(config: TrialConfig, num_classes: int, image_size: int) -> nn.Module:
    """The model of `config` for uint8 images normalised to (batch, 3, image_size, image_size) floats.

    Its initial weights are fixed by `config.seed`. UserError where a rate is set that the architecture lacks.
    """
    rates = {name: getattr(config, name) for name in DEFAULT_RATES}
    for name, rate in rates.items():
        if rate is not None and not has_rate(config.arch, name):
            raise UserError(f"{config.arch} has no {name}: leave it out (got {rate})")
    arguments = {name: rate for name, rate in rates.items() if rate is not None}
    arguments |= size_arguments(config.arch, image_size, config.patch_size, config.window_size)
    if config.progressive_resize:
        arguments |= resizing_arguments(config.arch, image_size, arguments.get("patch_size"))
    weights = open_weights(config)
    arguments |= pretrained_arguments(config.starts_from is True if weights is None else weights.file)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = _create(config, arguments | {"num_classes": num_classes})
        if weights is not None:
            check_weights_match(model, config, weights.file)
        if choose_stem(model, config, image_size) == "small":
            shrink_stem(model, keep_weights=config.starts_from is not False)
    for parameter in frozen_parameters(model, config):
        parameter.requires_grad_(False)
    return model


def frozen_parameters(model: nn.Module, config: TrialConfig) -> list[nn.Parameter]:
    """Those that aren't trained: of the first layers, as timm groups them, or in the model's order."""
    if config.freeze == "none":
        return []
    if config.starts_from is False:
        raise UserError(f"freeze = {config.freeze}: without pretrained weights there is nothing to keep; leave it out")
    if hasattr(model, "group_matcher"):
        matcher = model.group_matcher(coarse=False)  # type: ignore[operator]  # of most of timm's models
        layers = list(timm.models.group_parameters(model, matcher).values())
    else:
        layers = [[name] for name, _ in model.named_parameters()]
    kept = parameter_ids(_heads(model))
    named = dict(model.named_parameters())
    count = math.floor(FROZEN_SHARES[config.freeze] * len(layers))
    first = [named[name] for layer in layers[:count] for name in layer]
    return [each for each in first if id(each) not in kept]


def _heads(model: nn.Module) -> tuple[nn.Module, ...]:
    """What timm calls the classifier: two modules of a distilled model, which may have layers within."""
    found = model.get_classifier()  # type: ignore[operator]  # timm's models have it
    return found if isinstance(found, tuple) else (found,)


def classifiers(model: nn.Module) -> list[nn.Linear]:
    """The last layers of a timm model, whose mean is its logits: one, or two of a distilled model.

    UserError if they hold no linear layer: on frozen features of such a model no head can be trained.
    """
    layers = []
    for part in _heads(model):
        linear = [each for each in part.modules() if isinstance(each, nn.Linear)]
        if not linear:
            raise UserError(
                f"its classifier is {type(part).__name__}, without a linear layer: it can't start from a probe (head) "
                "or be one (freeze)"
            )
        layers.append(linear[-1])
    return layers


def parameter_ids(modules: Iterable[nn.Module]) -> set[int]:
    """The `id` of each parameter in the modules."""
    return {id(each) for module in modules for each in module.parameters()}


def frozen_modules(model: nn.Module, config: TrialConfig) -> list[nn.Module]:
    """Modules that stay as in evaluation: those of frozen layers, and batch norms if batches are too small for them."""
    if config.starts_from is False:
        return []
    small = config.batch_size < NORM_BATCH
    return [
        module
        for module in model.modules()
        if (small and isinstance(module, _BatchNorm))
        or (module._parameters and not any(each.requires_grad for each in module.parameters()))
    ]


def choose_stem(model: nn.Module, config: TrialConfig, image_size: int) -> Stem:
    """The stem that the model gets: as configured, else small for small images; UserError if it has no such stem."""
    # resnet50d and the like have stems of their own
    has_plain_stem = timm_name(config.arch).startswith("resnet") and isinstance(
        getattr(model, "conv1", None), nn.Conv2d
    )
    if config.stem is not None and not has_plain_stem:
        raise UserError(f"stem is for plain ResNets; {config.arch} has none: leave it out (got {config.stem})")
    usual: Stem = "small" if has_plain_stem and image_size < SMALL_IMAGE else "full"
    return config.stem or usual


def pretrained_arguments(pretrained: bool | Path) -> dict[str, Any]:
    """timm arguments for weights from nowhere (False), timm's hub (True) or a file."""
    if isinstance(pretrained, bool):
        return {"pretrained": pretrained}
    if not pretrained.is_file():
        raise UserError(f"--pretrained {pretrained}: no such file; give a .safetensors or .pth file, or no path")
    return {"pretrained": True, "pretrained_cfg_overlay": {"file": str(pretrained)}}


def check_weights_match(model: nn.Module, config: TrialConfig, file: Path) -> None:
    """UserError where a file holds another architecture's weights: timm would only log it and train from scratch.

    A file may lack a head or name some layers otherwise, so half of the model's names must be in it.
    """
    wanted, there = set(model.state_dict()), set(timm.models.load_state_dict(str(file)))
    missing = sorted(wanted - there)
    if len(missing) > len(wanted) / 2:
        raise UserError(
            f"{config.arch}: pretrained weights ({config.starts_from}) can't be loaded: Missing {len(missing)} of its "
            f"{len(wanted)} names, the first is {missing[0]}; give a file of the same architecture"
        )


def _create(config: TrialConfig, arguments: dict[str, Any]) -> nn.Module:
    try:
        return timm.create_model(timm_name(config.arch), **arguments)
    except Exception as error:  # timm's models raise whatever their constructors happen to
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        is_file = not isinstance(config.starts_from, bool)
        if is_file and "weights_only" in reason:  # timm's advice is to read it all the same
            raise UserError(
                f"{config.arch}: pretrained weights ({config.starts_from}) can't be loaded: no weights, or a pickle of "
                "more than tensors and plain values, which could run code and isn't read; give a .safetensors file"
            ) from None
        if config.starts_from is False:
            raise UserError(f"{config.arch}: timm can't build it with {arguments}: {reason}") from error
        raise UserError(
            f"{config.arch}: pretrained weights ({config.starts_from}) can't be loaded: {reason}; "
            "download them first and give the file: --pretrained FILE"
        ) from error


def shrink_stem(model: nn.Module, keep_weights: bool) -> None:
    """Give a ResNet a 3x3 stride-1 stem without max-pool (He et al. 2016, section 4.2), for small images.

    With `keep_weights`, the new kernel is the centre of the pretrained 7x7 one.
    """
    old = model.get_submodule("conv1")
    assert isinstance(old, nn.Conv2d)
    stem = nn.Conv2d(old.in_channels, old.out_channels, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    if keep_weights:
        top, left = ((side - 3) // 2 for side in to_2tuple(old.kernel_size))
        stem.weight.data.copy_(old.weight.data[:, :, top : top + 3, left : left + 3])
    model.set_submodule("conv1", stem)
    model.set_submodule("maxpool", nn.Identity())


class WithoutInitialValues(TorchFunctionMode):
    """While it is entered, weights get no initial values, which are most of a model's building.

    For models whose weights are all loaded next: until then they hold whatever was in memory.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do all that torch is asked for but that."""
        kwargs = kwargs or {}
        if func in FILLED_AT_RANDOM or getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


FILLED_AT_RANDOM = (torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.erfinv_)
"""What timm's own layers begin with."""


def normalisation(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (3 channels each, for pixels in 0..1) that the model's weights expect."""
    data_config = timm.data.resolve_model_data_config(model)
    return tuple(data_config["mean"]), tuple(data_config["std"])
