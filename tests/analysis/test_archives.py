"""Images in zips: in place, in order, and no more of them than memory can take."""

import struct
import zipfile
from pathlib import Path

import pytest

from analysis.archives import MOST_BYTES, image_members, read_member
from analysis.images import Source, find_images
from trainable.data.decode import BadImage
from trainable.errors import UserError


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_images_are_found_by_their_ending_in_the_order_of_the_zip(tmp_path: Path) -> None:
    members = {
        "b/2.png": b"two",
        "a/1.JPG": b"one",
        "notes.txt": b"",
        "__MACOSX/b/._2.png": b"",
        ".x/3.png": b"",
        "e/": b"",
    }
    path = zipped(tmp_path / "x.ZIP", **members)
    found = list(find_images([str(path)]))
    assert [source.name for source in found] == [f"{path}/b/2.png", f"{path}/a/1.JPG"]
    assert [read_member(source.member) for source in found if source.member] == [b"two", b"one"]


def test_a_member_that_leads_outside_is_only_a_name(tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    path = zipped(folder / "x.zip", **{"../../up.png": b"up", "/root.png": b"root"})
    assert [read_member(member) for member in image_members(str(path))] == [b"up", b"root"]
    assert [each.name for each in find_images([str(path)])] == [f"{path}/../../up.png", f"{path}//root.png"]
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["deep", "x.zip"]


def test_a_broken_zip_is_one_source_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_text("no zip")
    with pytest.raises(UserError, match=r"^not an intact zip \(File is not a zip file\)$"):
        list(image_members(str(path)))
    assert list(find_images([str(path)])) == [Source(str(path), error="not an intact zip (File is not a zip file)")]


def test_a_zip_without_images_is_an_error(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", **{"notes.txt": b"text"})
    with pytest.raises(UserError, match=f"^{path}: no images there; "):
        find_images([str(path)])


def test_a_member_that_is_too_large_is_refused_by_what_it_says_to_be(tmp_path: Path) -> None:
    (member,) = image_members(str(zipped(tmp_path / "x.zip", **{"bomb.png": bytes(int(MOST_BYTES) + 1)})))
    with pytest.raises(BadImage, match=r"^100 MB in its zip, more than 100$"):
        read_member(member)


def test_a_member_that_is_larger_than_it_says_is_not_read_further(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", **{"bomb.png": bytes(1_000_000)})
    content = path.read_bytes().replace(struct.pack("<L", 1_000_000), struct.pack("<L", 1000))
    path.write_bytes(content)
    (member,) = image_members(str(path))
    with pytest.raises(BadImage, match=r"can't be unpacked \(Bad CRC-32"):
        read_member(member)


def test_a_damaged_or_encrypted_member_gives_its_reason(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", **{"1.png": b"content" * 100})
    content = bytearray(path.read_bytes())
    content[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    (member,) = image_members(str(path))
    with pytest.raises(BadImage, match=r"^can't be unpacked "):
        read_member(member)
    member.info.flag_bits |= 1
    with pytest.raises(BadImage, match=r"^can't be unpacked \("):
        read_member(member)
