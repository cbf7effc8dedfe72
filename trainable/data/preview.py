"""What a data set holds, told before it is fetched: from its listing, and the headers of a few of its images.

A tree of empty files with the names of the listing is read like the data set itself, so that whatever is wrong with
its layout is found before anything is transferred.
"""

import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, NamedTuple

from trainable.data._unpack import Told, archive_ending, check_stays_inside, only_folder
from trainable.data.cache import default_cache_dir
from trainable.data.fetch import Known, open_fetched, recall
from trainable.data.layouts import Layout, natural_image_size, read_layout, size_sample
from trainable.data.origin import OPTION, TEXTS, Origin, asked, is_wanted
from trainable.errors import UserError

LARGEST_READ = 2**26
"""Bytes of a file that are read for its header."""
BLOCK_BYTES = 2**20
"""What is read of a zip at a time."""

Contents = Callable[[list[str]], dict[str, bytes]]
"""Reads files of the data set by their names, as far as they have a content of usual length."""


class Preview(NamedTuple):
    """A data set before it is here. Both are None where only unpacking tells: what a tar holds is told nowhere."""

    layout: Layout | None
    """Its root is of no use."""
    image_size: int | None
    """The images' own, in pixels."""


def preview(origin: Origin, image_size: int | None, cache_dir: Path | None) -> Preview:
    """What can be told of `origin`; its images' size only where `image_size` doesn't give it.

    Raises UserError where its content is none of the known layouts, as `read_layout` does.
    """
    caches = cache_dir or default_cache_dir()
    fetched = open_fetched(caches, origin.name, origin.version)
    if fetched is not None:
        layout = _read(origin, fetched.root)
        return Preview(layout, image_size or natural_image_size(layout))
    if not origin.is_archive:
        files = {file.path: file for file in origin.files}

        def read(names: list[str]) -> dict[str, bytes]:
            usual = [name for name in names if 0 < files[name].size_bytes <= LARGEST_READ]
            contents = origin.read([(files[name], 0, files[name].size_bytes) for name in usual]) if usual else []
            return dict(zip(usual, contents, strict=True))

        return _from_names(origin, list(files), read, image_size)
    if archive_ending(origin.files[0].path) == ".zip":
        return asked(origin.text, lambda: _of_zip(origin, image_size))
    known = recall(caches, origin.text) or Known("", None)
    return Preview(None, image_size or (known.image_size if known.version == origin.version else None))


def _of_zip(origin: Origin, image_size: int | None) -> Preview:
    """Its directory lies at its end."""
    try:
        with _open(origin) as file, zipfile.ZipFile(file) as archive:
            sizes = {member.filename: member.file_size for member in archive.infolist() if is_wanted(member.filename)}

            def read(names: list[str]) -> dict[str, bytes]:
                return {name: archive.read(name) for name in names if sizes[name] <= LARGEST_READ}

            return _from_names(origin, list(sizes), read, image_size)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError, RuntimeError) as error:
        raise UserError(f"{OPTION} {origin.text}: cannot be unpacked ({error}); make the archive again") from None


@contextmanager
def _open(origin: Origin) -> Iterator[IO[bytes]]:
    if isinstance(origin.place, Path):
        with origin.place.open("rb") as file:
            yield file
    else:
        with origin.place.fs.open(origin.place.path, "rb", block_size=BLOCK_BYTES) as file:
            yield file


def _from_names(origin: Origin, names: list[str], read: Contents, image_size: int | None) -> Preview:
    for name in names:
        check_stays_inside(Told(f"{OPTION} {origin.text}"), name)
    with TemporaryDirectory() as temporary:
        tree = Path(temporary)
        try:
            for folder in {Path(name).parent for name in names}:
                (tree / folder).mkdir(parents=True, exist_ok=True)
            for name in names:
                (tree / name).touch(exist_ok=False)
        except OSError as error:  # a name is too long, or is a file's and a folder's
            raise UserError(f"{OPTION} {origin.text}: cannot be unpacked ({error.strerror})") from None
        _fill(tree, read([name for name in names if name.rpartition("/")[2] in TEXTS]))
        root = only_folder(tree) if origin.is_archive else tree
        layout = _read(origin, root)
        if image_size is None:
            prefix = "" if root == tree else f"{root.name}/"
            _fill(tree, read([prefix + example.path for example in size_sample(layout)]))
            image_size = natural_image_size(layout)
        return Preview(layout, image_size)


def _fill(tree: Path, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        (tree / name).write_bytes(content)


def _read(origin: Origin, root: Path) -> Layout:
    try:
        return read_layout(root)
    except UserError as error:
        raise type(error)(str(error).replace(str(root), origin.text)) from None
