"""Finding images in what a user names: order, what is left out, and what isn't held."""

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from analysis import images
from analysis.images import Source, find_images, images_below, in_order
from trainable.errors import UsageError, UserError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b/2.png", "b/1.JPG", "a/deep/3.webp", ".hidden/4.png", "b/.5.png", "b/notes.txt", "b/x.zip", "0.gif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*named: str) -> list[str]:
    return [source.name for source in find_images(named)]


def type_in(lines: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(lines)))


def test_folders_are_walked_in_order_without_hidden_and_other_files(tree: Path) -> None:
    assert names(".") == ["0.gif", "a/deep/3.webp", "b/1.JPG", "b/2.png"]
    assert names(str(tree / "b")) == [f"{tree}/b/1.JPG", f"{tree}/b/2.png"]


def test_a_link_that_leads_back_up_is_followed_once(tree: Path) -> None:
    (tree / "a" / "back").symlink_to(tree)
    assert names(".") == ["0.gif", "a/deep/3.webp", "b/1.JPG", "b/2.png"]


def test_a_file_counts_as_it_is_named_and_twice_where_it_is_named_twice(tree: Path) -> None:
    assert names("b/notes.txt", "b/2.png", "b/2.png") == ["b/notes.txt", "b/2.png", "b/2.png"]


def test_a_pattern_stands_for_what_the_shell_would_make_of_it(tree: Path) -> None:
    assert names("b/*") == ["b/1.JPG", "b/2.png", "b/notes.txt", "b/x.zip"]  # an empty zip is one that is broken
    assert names("?") == ["a/deep/3.webp", "b/1.JPG", "b/2.png"]
    assert names("**/*.[pJ]*") == ["b/1.JPG", "b/2.png"]
    assert names("**") == ["0.gif", "a/deep/3.webp", "b/1.JPG", "b/2.png", "b/notes.txt", "b/x.zip"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tree: Path) -> None:
    (tree / "[0].png").touch()
    assert names("[0].png") == ["[0].png"]


def test_a_dash_stands_for_the_lines_of_stdin(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(b"b\r\n\nnone.png\nodd\xff.png\n0.gif", monkeypatch)
    assert names("0.gif", "-") == ["0.gif", "b/1.JPG", "b/2.png", "none.png", os.fsdecode(b"odd\xff.png"), "0.gif"]


def test_a_list_on_stdin_is_read_no_further_than_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0

    def lines() -> Iterator[bytes]:
        nonlocal read
        for read in range(1, 1_000_000):
            yield b"%d.png\n" % read

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=lines()))
    found = find_images(["-"])
    assert [next(found).name for _ in range(3)] == ["1.png", "2.png", "3.png"]
    assert read == 3


def test_a_long_folder_is_sorted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "SORTED_NAMES", 3)
    taken: list[str] = []
    found = in_order(taken.append(name) or name for name in "fedcba")
    assert next(found) == "d"
    assert taken == ["f", "e", "d"]
    assert list(found) == ["e", "f", "a", "b", "c"]


def test_a_folder_that_cannot_be_listed_is_told_and_the_others_are_searched(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir  # permissions don't hold for root, whom tests may run as

    def refuse(folder: str) -> Iterator[os.DirEntry[str]]:
        if str(folder).endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(images.os, "scandir", refuse)
    assert list(images_below(".")) == [
        Source("0.gif"),
        Source("a/deep", error="the folder can't be listed (permission denied)"),
        Source("b/1.JPG"),
        Source("b/2.png"),
    ]


def test_what_is_not_there_is_an_error_before_anything_is_read(tree: Path) -> None:
    with pytest.raises(UsageError, match=r"^none: no such file or folder; give images, or folders, zips or patterns"):
        find_images(["0.gif", "none"])
    with pytest.raises(UsageError, match=r"^b/\*\.tif: no file matches; "):
        find_images(["0.gif", "b/*.tif"])


def test_no_image_at_all_is_an_error_that_names_the_places(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(b"", monkeypatch)
    (tree / "empty").mkdir()
    with pytest.raises(UserError, match=r"^empty, stdin: no images there; known are \.bmp, ") as caught:
        find_images(["empty", "-"])
    assert caught.value.exit_code == 1
    assert names("empty", "0.gif") == ["0.gif"]
