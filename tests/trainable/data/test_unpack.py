"""Archives that are made to harm: refused in one line, and nothing of them stays."""

import io
import random
import tarfile
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from trainable.data._unpack import unpack
from trainable.errors import UserError


def refused(tmp_path: Path, content: bytes) -> str:
    """Why the archive isn't unpacked; nothing is left beside it."""
    archive = tmp_path / "tiny.zip"
    archive.write_bytes(content)
    with pytest.raises(UserError, match=r"tiny\.zip: ") as caught:
        unpack(archive, tmp_path / "tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.zip"]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def zipped(compression: int, **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_a_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    bomb = zipped(zipfile.ZIP_DEFLATED, zeros=bytes(120_000_000))
    assert "0.1 MB would become 120 MB, more than 100 times as much" in refused(tmp_path, bomb)


def test_a_bomb_of_overlapping_members_is_refused_by_its_ratio(tmp_path: Path) -> None:
    content = zipped(zipfile.ZIP_DEFLATED, zeros=bytes(1_000_000))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        directory = content[archive.start_dir :]
    entry, end = directory[: directory.index(b"PK\5\6")], directory[directory.index(b"PK\5\6") :]
    entries = b"".join(entry.replace(b"zeros", f"z{number:04}".encode()) for number in range(1000))
    counts = (1000).to_bytes(2, "little") * 2 + len(entries).to_bytes(4, "little")
    bomb = content[: archive.start_dir] + entries + end[:8] + counts + end[16:]
    assert "would become 1,000 MB" in refused(tmp_path, bomb)


def test_flat_drawings_are_unpacked_though_they_compress_well(tmp_path: Path) -> None:
    (tmp_path / "tiny.zip").write_bytes(zipped(zipfile.ZIP_DEFLATED, flat=bytes(5_000_000)))
    unpack(tmp_path / "tiny.zip", tmp_path / "tiny")
    assert (tmp_path / "tiny/flat").stat().st_size == 5_000_000


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's, about the second name
        archive.writestr("a.txt", b"shown")
        archive.writestr("a.txt", b"meant")
    assert "member 'a.txt' is there twice" in refused(tmp_path, buffer.getvalue())


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_archive_is_one_line_whatever_is_damaged(compression: int, tmp_path: Path) -> None:
    whole = zipped(compression, **{"tiny/é.txt": b"x" * 3000, "tiny/b.txt": random.Random(0).randbytes(500)})
    generator = random.Random(compression)
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        (tmp_path / "tiny.zip").write_bytes(damaged)
        with suppress(UserError):  # and nothing else
            unpack(tmp_path / "tiny.zip", tmp_path / f"tiny{generator.random()}")


def tarred(path: Path, *members: tarfile.TarInfo, content: bytes = b"") -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for member in members:
            member.size = len(content) if member.isfile() else 0
            archive.addfile(member, io.BytesIO(content) if member.isfile() else None)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, "/etc/passwd"
    return found


def tar_refused(tmp_path: Path, archive: Path) -> str:
    """Why the tar isn't unpacked; nothing is left beside it."""
    with pytest.raises(UserError, match=r"tiny\.tar") as caught:
        unpack(archive, tmp_path / "tiny")
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]
    return str(caught.value)


@pytest.mark.parametrize("name", ["../evil", "/evil", "tiny/../../evil", "..\\evil", "C:\\evil"])
def test_a_member_of_a_tar_that_leads_outside_is_refused(name: str, tmp_path: Path) -> None:
    archive = tarred(tmp_path / "tiny.tar", member("tiny/a.txt"), member(name), content=b"x")
    assert "is an absolute path, a link or leads outside of the folder" in tar_refused(tmp_path, archive)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_member_of_a_tar_that_is_no_file_is_refused(kind: bytes, tmp_path: Path) -> None:
    archive = tarred(tmp_path / "tiny.tar", member("tiny/a.txt"), member("tiny/b.txt", kind), content=b"x")
    assert "member 'tiny/b.txt' is an absolute path, a link or" in tar_refused(tmp_path, archive)


def test_a_name_that_is_twice_in_a_tar_is_refused(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "tiny.tar", member("tiny/a.txt"), member("./tiny/a.txt"), content=b"x")
    assert "is there twice" in tar_refused(tmp_path, archive)


def test_a_bomb_in_a_tar_is_refused_by_its_ratio(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "tiny.tar.gz", member("zeros"), content=bytes(120_000_000))
    assert "0.1 MB would become 120 MB, more than 100 times as much" in tar_refused(tmp_path, archive)


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_a_damaged_tar_is_one_line_whatever_is_damaged(ending: str, tmp_path: Path) -> None:
    content = random.Random(0).randbytes(3000)
    whole = tarred(tmp_path / f"tiny{ending}", member("tiny/é.txt"), member("tiny/b.txt"), content=content).read_bytes()
    generator = random.Random(1)
    for number in range(200):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        (tmp_path / f"tiny{ending}").write_bytes(damaged[: generator.randrange(len(whole))] if number % 2 else damaged)
        with suppress(UserError):  # and nothing else
            unpack(tmp_path / f"tiny{ending}", tmp_path / f"tiny{number}")


def test_every_cut_of_a_tar_is_noticed(tmp_path: Path) -> None:
    content = random.Random(0).randbytes(600)
    archive = tarred(tmp_path / "tiny.tar", *(member(f"tiny/{number}.txt") for number in range(3)), content=content)
    whole = archive.read_bytes()
    for length in range(0, 3 * 1536 + 1, 256):  # a header and two blocks of content each
        archive.write_bytes(whole[:length])
        with pytest.raises(UserError, match="cannot be unpacked"):
            unpack(archive, tmp_path / "tiny")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["colours/train/red/a.png", "colours/val/red/a.png"], {"train/red/a.png", "val/red/a.png"}),
        (["./train/red/a.png", "./val/red/a.png"], {"train/red/a.png", "val/red/a.png"}),
        (["train/red/a.png", "train/blue/a.png"], {"train/red/a.png", "train/blue/a.png"}),
    ],
)
def test_one_folder_at_the_top_is_left_out_unless_it_is_train(
    names: list[str], expected: set[str], tmp_path: Path
) -> None:
    unpack(tarred(tmp_path / "tiny.tar", *map(member, names), content=b"x"), tmp_path / "tiny")
    assert {path.relative_to(tmp_path / "tiny").as_posix() for path in tmp_path.rglob("*.png")} == expected
