"""Pretrained weights: a file of this machine, or one at an address, brought into the cache folder once per machine."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from trainable.address import is_address, open_place
from trainable.config import ARCHITECTURES, LITE, TrialConfig
from trainable.data._room import Hold
from trainable.data.cache import default_cache_dir
from trainable.data.fetch import Known, fetch, open_fetched, recall, remember
from trainable.data.lite import lite_weights
from trainable.data.origin import Origin, asked, cache_name, stored
from trainable.errors import UsageError, UserError

OPTION = "--pretrained"
WEIGHTS_FILE = "model.safetensors"
"""Of each repository on timm's hub."""
ENDINGS = (".safetensors", ".pth", ".pt", ".bin")


class Weights(NamedTuple):
    """A weights file, which stays there while `hold` lives."""

    file: Path
    hold: Hold | None


def open_weights(config: TrialConfig, progress: bool = False, fresh: bool = False) -> Weights | None:
    """The file that `config` starts from, fetched where it isn't here yet; None for timm's own weights, or none.

    `fresh` asks the storage of an address whether the file has changed; otherwise what this machine has of it is taken,
    so that a search's trials all start from the same weights. Raises UserError as `look_at_weights` and `fetch` do, and
    where a folder has no weights of the architecture.
    """
    source, caches = config.starts_from, config.cache_dir or default_cache_dir()
    if isinstance(source, bool):
        return None
    if source == LITE:
        return Weights(lite_weights(config.arch, caches), None)
    if not is_address(source):
        return Weights(file_for(config.arch, Path(source)), None)
    return _open_address(str(source), caches, config.cache_bytes, progress, fresh)


def ready_weights(config: TrialConfig, progress: bool = False) -> None:
    """Bring here what `config` may start from: of a table of architectures, the weights of all of them.

    UserError where some can't be had.
    """
    archs = list(config.pretrained) if isinstance(config.pretrained, dict) else [config.arch]
    for arch in archs:
        own = config.model_copy(update={"arch": arch})
        if own.starts_from is True:
            download_from_hub(arch)
        else:
            open_weights(own, progress, fresh=True)


def download_from_hub(arch: str) -> Path:
    """timm's published weights of an architecture, in its cache; UserError where they can't be had."""
    import timm
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    name = ARCHITECTURES.get(arch, arch)
    published = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if published is None or not published.hf_hub_id:
        raise UserError(f"{arch}: timm publishes no weights of it; give a file, or {OPTION} none")
    try:
        return Path(hf_hub_download(published.hf_hub_id, published.hf_hub_filename or WEIGHTS_FILE))
    except LocalEntryNotFoundError:
        why = "HF_HUB_OFFLINE is set" if hub_is_off() else "its hub is out of reach"
        reason = f"they aren't in timm's cache, and {why}"
    except HfHubHTTPError as error:
        reason = f"its hub says {error.response.status_code}"
    except Exception as error:  # of its HTTP client, whichever that is, of the disk, or of a checksum
        reason = " ".join(str(error).split())[:200] or type(error).__name__
    raise UserError(
        f"{arch}: the weights {published.hf_hub_id} can't be had: {reason}; "
        f"download them elsewhere and give their folder: {OPTION} FOLDER"
    )


def hub_is_off() -> bool:
    """Whether the user says that the hub isn't to be asked."""
    return os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")


def file_for(arch: str, place: Path) -> Path:
    """A file as it is; in a folder, that of the architecture; UserError if it has none."""
    if not place.is_dir():
        return place
    found = files_in(place, arch)
    if not found:
        name = ARCHITECTURES.get(arch, arch)
        raise UserError(f"{OPTION} {place}: has no weights of {arch}; put {name}.safetensors there")
    return found[0]


def files_in(folder: Path, arch: str) -> list[Path]:
    """The files of a folder that are named as the architecture is, ours or timm's, with timm's tag or without."""
    names = dict.fromkeys([ARCHITECTURES.get(arch, arch), arch, ARCHITECTURES.get(arch, arch).split(".")[0]])
    return [
        path
        for name in names
        for pattern in (f"{name}{{}}", f"{name}.*{{}}")
        for ending in ENDINGS
        for path in sorted(folder.glob(pattern.format(ending)))
    ]


def _open_address(address: str, caches: Path, cache_bytes: int, progress: bool, fresh: bool) -> Weights:
    known = recall(caches, address)
    there = open_fetched(caches, cache_name(address), known.version) if known and not fresh else None
    if there is None:
        found = look_at_weights(address)
        if isinstance(found, Path):
            return Weights(found, None)
        there = fetch(found, caches, cache_bytes, progress)
        remember(caches, address, Known(there.version, None))
    return Weights(next(there.root.iterdir()), there.hold)


def look_at_weights(address: str) -> Path | Origin:
    """The file of this machine at a file:// address, or what has to be fetched.

    Raises:
        UsageError: The address can't be meant, or names a folder.
        UserError: The storage says no, or doesn't answer for minutes.
    """
    place = open_place(address, OPTION)
    return place if isinstance(place, Path) else asked(address, lambda: _listed(address, place), OPTION)


def _listed(address: str, place: Any) -> Origin:
    info = place.fs.info(place.path)
    if info["type"] != "file":
        raise UsageError(f"{OPTION} {address}: is a folder; name a .safetensors or .pth file in it")
    if not info.get("size"):
        raise UserError(f"{OPTION} {address}: is empty, or its server doesn't say how long it is; give another address")
    return Origin(address, place.parent, False, (stored(place.name, info),), OPTION, look_at_weights)
