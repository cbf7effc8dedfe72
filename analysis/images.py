"""Finds the images in what a user names (files, folders, zips, patterns, a list on stdin), one after the other.

The list of images is never held, so nothing is told apart from what came before: an image that is named twice is
found twice. What is held: the names of a folder in sorting (at most 100,000, a longer folder is sorted in parts), all
names of a folder that a pattern looks through, the folders that were seen, and the directory of a zip.
"""

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from analysis.archives import Member, image_members
from trainable.data.files import EXTENSIONS
from trainable.errors import UsageError, UserError

STDIN = "-"
ZIP = ".zip"
SORTED_NAMES = 100_000

Name = TypeVar("Name", str, tuple[str, bool])


class Source(NamedTuple):
    """Where an image is."""

    name: str
    """Path of its file; of a member of a zip, the zip's path, a slash and the member's name."""
    member: Member | None = None
    error: str = ""
    """Why it can't be read, where that is known already."""


def find_images(named: Iterable[str]) -> Iterator[Source]:
    """The images of all that is named, in this order, as they are asked for.

    A file counts as it is, also where it turns out to be no image. Folders are searched with all folders below, those
    behind links too, each folder once: in each the files come first, sorted. There, names that start with a dot and
    files that aren't images by their extension are left out, zips too. A pattern of the shell that names no file
    stands for what it matches. `-` stands for the lines of stdin: files, folders and zips.

    UsageError at once where a path isn't there or a pattern matches nothing, UserError where there is no image at all.
    """
    named = list(named)
    for each in named:
        if is_pattern(each):
            if next(glob.iglob(each, recursive=True), None) is None:
                raise UsageError(f"{each}: no file matches; ** stands for any number of folders")
        elif each != STDIN and not os.path.exists(each):
            raise UsageError(f"{each}: no such file or folder; give images, or folders, zips or patterns of images")
    found = chain.from_iterable(_named(each) for each in named)
    first = next(found, None)
    if first is None:
        places = ", ".join("stdin" if each == STDIN else each for each in named)
        raise UserError(f"{places}: no images there; known are {', '.join(sorted(EXTENSIONS))}")
    return chain([first], found)


def is_pattern(named: str) -> bool:
    """Whether this is a pattern of the shell, and not a file that is called so."""
    return glob.has_magic(named) and not os.path.lexists(named)


def images_at(path: str) -> Iterator[Source]:
    """The images of one file, folder or zip."""
    if os.path.isdir(path):
        yield from images_below(path)
    elif path.lower().endswith(ZIP):
        yield from images_in_zip(path)
    else:
        yield Source(path)


def images_below(root: str) -> Iterator[Source]:
    """Image files in `root` and the folders below it; one with an error for a folder that can't be listed."""
    waiting, seen = [root], set()
    while waiting:
        folder = waiting.pop()
        below = []
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:  # a link that leads back up
                continue
            seen.add((status.st_dev, status.st_ino))
            for name, is_folder in in_order(_visible(folder)):
                path = name if folder == os.curdir else os.path.join(folder, name)
                if is_folder:
                    below.append(path)
                elif os.path.splitext(name)[1].lower() in EXTENSIONS:
                    yield Source(path)
        except OSError as error:
            yield Source(folder, error=f"the folder can't be listed ({(error.strerror or str(error)).lower()})")
        waiting += sorted(below, reverse=True)


def images_in_zip(path: str) -> Iterator[Source]:
    """The images of a zip; one with an error where it is broken."""
    try:
        for member in image_members(path):
            yield Source(f"{path}/{member.info.filename}", member)
    except UserError as error:
        yield Source(path, error=str(error))


def in_order(names: Iterable[Name]) -> Iterator[Name]:
    """The names sorted; where there are more than `SORTED_NAMES`, in parts of so many."""
    names = iter(names)
    for part in iter(lambda: list(islice(names, SORTED_NAMES)), []):
        yield from sorted(part)


def _named(named: str) -> Iterator[Source]:
    if named == STDIN:
        for line in sys.stdin.buffer:
            if path := os.fsdecode(line.rstrip(b"\r\n")):
                yield from images_at(path)
    elif is_pattern(named):
        for path in in_order(glob.iglob(named, recursive=True)):
            # behind ** the files of a folder are matches of their own
            if "**" not in named or not os.path.isdir(path):
                yield from images_at(path)
    else:
        yield from images_at(str(Path(named)))


def _visible(folder: str) -> Iterator[tuple[str, bool]]:
    """Names in a folder that don't start with a dot, and whether each is a folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                yield entry.name, entry.is_dir()
