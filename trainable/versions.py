"""Which libraries computed a result. Needs none of them imported."""

from importlib.metadata import version


def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide what a training computes."""
    return {name: version(name) for name in ("torch", "timm", "torchvision", "albumentations", "numpy")}
