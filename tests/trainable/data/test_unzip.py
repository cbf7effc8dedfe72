"""Archives that are made to harm: refused in one line, and nothing of them stays."""

import io
import random
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from trainable.data._unzip import unzip
from trainable.errors import UserError


def refused(tmp_path: Path, content: bytes) -> str:
    """Why the archive isn't unpacked; nothing is left beside it."""
    archive = tmp_path / "tiny.zip"
    archive.write_bytes(content)
    with pytest.raises(UserError, match=r"tiny\.zip: ") as caught:
        unzip(archive, tmp_path / "tiny")
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
    unzip(tmp_path / "tiny.zip", tmp_path / "tiny")
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
            unzip(tmp_path / "tiny.zip", tmp_path / f"tiny{generator.random()}")
