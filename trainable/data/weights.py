"""Pretrained weights: a file of this machine, or one at an address, brought into the cache folder once per machine."""

from pathlib import Path
from typing import Any, NamedTuple

from trainable.address import is_address, open_place
from trainable.config import TrialConfig
from trainable.data._room import Hold
from trainable.data.cache import default_cache_dir
from trainable.data.fetch import Known, fetch, open_fetched, recall, remember
from trainable.data.origin import Origin, asked, cache_name, stored
from trainable.errors import UsageError, UserError

OPTION = "--pretrained"


class Weights(NamedTuple):
    """A weights file, which stays there while `hold` lives."""

    file: Path
    hold: Hold | None


def open_weights(config: TrialConfig, progress: bool = False, fresh: bool = False) -> Weights | None:
    """The file that `config` starts from, fetched where it isn't here yet; None for timm's own weights, or none.

    `fresh` asks the storage of an address whether the file has changed; otherwise what this machine has of it is taken,
    so that a search's trials all start from the same weights. Raises UserError as `look_at_weights` and `fetch` do.
    """
    if isinstance(config.pretrained, bool):
        return None
    if not is_address(config.pretrained):
        return Weights(Path(config.pretrained), None)
    address, caches = str(config.pretrained), config.cache_dir or default_cache_dir()
    known = recall(caches, address)
    there = open_fetched(caches, cache_name(address), known.version) if known and not fresh else None
    if there is None:
        found = look_at_weights(address)
        if isinstance(found, Path):
            return Weights(found, None)
        there = fetch(found, caches, config.cache_bytes, progress)
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
