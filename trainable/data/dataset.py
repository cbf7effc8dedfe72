"""A data set as trials see it: decoded images and the four splits."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from trainable.address import is_address
from trainable.config import USUAL_CACHE_BYTES, TrialConfig
from trainable.data._room import Hold
from trainable.data.cache import CachedImages, default_cache_dir, open_layout_cache, open_version_cache
from trainable.data.default import DIGITS
from trainable.data.digits import write_digits
from trainable.data.fetch import Fetched, Known, fetch, open_fetched, recall, remember
from trainable.data.layouts import ClassName, Layout, natural_image_size, read_layout
from trainable.data.origin import Origin, cache_name, look_at
from trainable.data.splits import SELECT_SHARE, SelectShare, Splits, make_splits
from trainable.data.weights import ready_weights
from trainable.errors import UserError


@dataclass(frozen=True, eq=False)
class Dataset:
    """Decoded images, and which rows of them belong to which split."""

    cache: CachedImages
    splits: Splits

    @property
    def classes(self) -> tuple[ClassName, ...]:
        """In the order of the labels."""
        return self.cache.classes

    @property
    def num_classes(self) -> int:
        """At least 2."""
        return len(self.cache.classes)

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return int(self.cache.images.shape[1])


class _Wanted(NamedTuple):
    data: Path | str
    image_size: int | None
    caches: Path
    cache_bytes: int
    skip_bad_images: bool
    progress: bool


class Files(NamedTuple):
    """A data set's files on this machine, listed; fetched ones stay while `hold` lives."""

    layout: Layout
    hold: Hold | None


def open_files(
    data: Path | str,
    cache_dir: Path | None = None,
    cache_bytes: int = USUAL_CACHE_BYTES,
    progress: bool = True,
) -> Files:
    """The files as they are, not decoded: where they lie, or fetched or unpacked, once per machine.

    Raises UserError, as `look_at`, `fetch` and `read_layout` do.
    """
    found = look_at(data)
    if isinstance(found, Path):
        return Files(read_layout(found), None)
    fetched = fetch(found, cache_dir or default_cache_dir(), cache_bytes, progress)
    with _named(data, fetched.root):
        return Files(read_layout(fetched.root), fetched.hold)


def open_dataset(
    data: Path | str,
    image_size: int | None = None,
    seed: int = 0,
    cache_dir: Path | None = None,
    skip_bad_images: bool = False,
    progress: bool = True,
    cache_bytes: int = USUAL_CACHE_BYTES,
    fresh: bool = False,
    select_share: SelectShare = SELECT_SHARE,
) -> Dataset:
    """Fetches, lists and decodes (once per machine) the data set in a folder or archive, here or elsewhere; splits it.

    `image_size` None takes the size of the images, see `natural_image_size`; `seed` and `select_share` fix the
    splits. `fresh` asks the storage of an address whether it has changed; otherwise what this machine has of it is
    taken, if it has any, so that a search's trials all see the same images. `cache_bytes` is as in `open_layout_cache`.
    Raises UserError, as `look_at`, `fetch`, `open_cache` and `make_splits` do.
    """
    wanted = _Wanted(data, image_size, cache_dir or default_cache_dir(), cache_bytes, skip_bad_images, progress)
    cache = _open_images(wanted, fresh)
    return Dataset(cache, make_splits(cache.labels, cache.published, cache.classes, seed, select_share))


def open_images_of(config: TrialConfig, progress: bool = True, fresh: bool = False) -> Dataset:
    """The data set of a configuration; `progress` and `fresh` are as in `open_dataset`.

    `fresh` fetches its pretrained weights too, so that no trial waits for them.
    """
    dataset = open_dataset(
        config.data,
        config.image_size,
        config.seed,
        config.cache_dir,
        config.skip_bad_images,
        progress,
        config.cache_bytes,
        fresh,
        config.select_share,
    )
    if fresh:
        ready_weights(config, progress)
    return dataset


def ready_dataset(config: TrialConfig, progress: bool = False) -> str:
    """Makes a configuration's images ready on this machine, as they are now; returns their fingerprint.

    Machines with the same images return the same one. Raises UserError as `open_dataset` does.
    """
    return open_images_of(config, progress, fresh=True).cache.fingerprint


def _open_images(wanted: _Wanted, fresh: bool) -> CachedImages:
    known = recall(wanted.caches, wanted.data)
    if known is not None and not fresh and is_address(wanted.data):
        cached = _open_known(wanted, known)
        if cached is not None:
            return cached
    found = look_at(wanted.data)
    if isinstance(found, Origin):
        return _open_origin(wanted, found, known)
    if not found.exists() and found.parts[-2:] == DIGITS.parts:
        _write_digits_here(found)
    layout = read_layout(found)
    return _decode(wanted, layout, wanted.image_size or natural_image_size(layout))


def _write_digits_here(folder: Path) -> None:
    """They were written on the machine that began the search; any other can write them too."""
    try:
        write_digits(folder)
    except OSError as error:
        raise UserError(f"{folder}: the digits can't be written there ({error.strerror}); mend it") from error


def _open_origin(wanted: _Wanted, origin: Origin, known: Known | None) -> CachedImages:
    if known is None or known.version != origin.version:
        known = Known(origin.version, None)
    cached = _open_known(wanted, known)
    if cached is None:
        return _decode_fetched(wanted, fetch(origin, wanted.caches, wanted.cache_bytes, wanted.progress))
    latest = recall(wanted.caches, wanted.data)
    if latest is None or latest.version != known.version:
        remember(wanted.caches, wanted.data, known)
    return cached


def _open_known(wanted: _Wanted, known: Known) -> CachedImages | None:
    """From what is decoded, or was fetched; None where neither is here."""
    name, size = cache_name(str(wanted.data)), wanted.image_size or known.image_size
    if size is not None:
        told = str(wanted.data)
        cached = open_version_cache(name, known.version, size, wanted.caches, wanted.skip_bad_images, told)
        if cached is not None:
            return cached
    fetched = open_fetched(wanted.caches, name, known.version)
    return None if fetched is None else _decode_fetched(wanted, fetched)


def _decode_fetched(wanted: _Wanted, fetched: Fetched) -> CachedImages:
    with _named(wanted.data, fetched.root):
        layout = read_layout(fetched.root)
        natural = natural_image_size(layout)
        cached = _decode(wanted, layout, wanted.image_size or natural, fetched.version)
    remember(wanted.caches, wanted.data, Known(fetched.version, natural))
    return cached


def _decode(wanted: _Wanted, layout: Layout, size: int, version: str | None = None) -> CachedImages:
    caches, skip, progress, most = wanted.caches, wanted.skip_bad_images, wanted.progress, wanted.cache_bytes
    return open_layout_cache(layout, size, caches, skip, progress, most, version)


@contextmanager
def _named(data: Path | str, root: Path) -> Iterator[None]:
    """Errors name what the user named, and not where it was fetched to."""
    try:
        yield
    except UserError as error:
        raise type(error)(str(error).replace(str(root), str(data))) from None
