import hashlib
import io
import re
import stat
import threading
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from typer.testing import CliRunner

from trainable.data import _transfer, download
from trainable.data._transfer import fetch
from trainable.errors import UsageError, UserError

NOISE = np.random.default_rng(0).bytes(1_000_000)


class Server(ThreadingHTTPServer):
    """Serves `body` under every path that ends in `.zip`; the attributes say how well."""

    body = b""
    etag = '"v1"'
    ranges = True
    stop_after: list[int]
    """Bytes after which the next answers break off."""
    asked: list[str | None]
    """The Range header of each request so far."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/sets/tiny.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, total = self.server, len(self.server.body)
        server.asked.append(self.headers.get("Range"))
        if not self.path.endswith(".zip"):
            self.send_error(404)
            return
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in (None, server.etag)
        start = int(wanted[1]) if wanted and server.ranges and same else 0
        if start >= total:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(total - start))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        end = start + server.stop_after.pop(0) if server.stop_after else total
        with suppress(ConnectionError):  # the client may have seen enough in the headers
            self.wfile.write(server.body[start:end])

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.stop_after, server.asked, server.body = [], [], zipped()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def zipped(**members: bytes) -> bytes:
    """A zip of `tiny/` with noise, so that it doesn't fit in one packet, and of further members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in {"tiny/wnids.txt": b"n1\nn2\n", "tiny/noise": NOISE, **members}.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix != ".lock"}


def test_a_zip_is_fetched_verified_and_unpacked_and_nothing_else_is_left(server: Server, tmp_path: Path) -> None:
    sha256, md5 = hashlib.sha256(server.body).hexdigest(), hashlib.md5(server.body).hexdigest()
    folder = download.download(tmp_path / "data", server.url, sha256.upper(), md5)
    assert folder == tmp_path / "data" / "tiny"
    assert (folder / "noise").read_bytes() == NOISE
    assert names_in(tmp_path / "data") == {"tiny", "tiny/wnids.txt", "tiny/noise"}


def test_a_zip_without_a_folder_of_its_own_gets_one(server: Server, tmp_path: Path) -> None:
    server.body = zipped(**{"other/file": b"x"})
    folder = download.download(tmp_path, server.url)
    assert names_in(folder) == {"tiny", "tiny/wnids.txt", "tiny/noise", "other", "other/file"}


def test_what_is_there_already_is_said_and_not_fetched(server: Server, tmp_path: Path) -> None:
    first = CliRunner().invoke(download.app, ["--to", str(tmp_path), "--url", server.url])
    second = CliRunner().invoke(download.app, ["--to", str(tmp_path), "--url", server.url])
    assert (first.exit_code, second.exit_code, len(server.asked)) == (0, 0, 1)
    assert "tiny: ready" in first.output
    assert "tiny: already there, nothing to do" in second.output


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.stop_after = [300_000, 400_000]
    fetch(server.url, tmp_path / "tiny.zip.part")
    assert (tmp_path / "tiny.zip.part").read_bytes() == server.body
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in server.asked if asked]
    assert len(server.asked) == 3
    assert 200_000 < starts[0] <= 300_000 < starts[1] <= 700_000


def test_a_transfer_that_stands_still_is_kept_for_the_next_run(server: Server, tmp_path: Path) -> None:
    server.stop_after = [300_000, 0]
    with pytest.raises(UserError, match=r"tiny\.zip: the transfer broke off; [\d,]+ bytes are kept.*run .* again"):
        download.download(tmp_path, server.url)
    kept = (tmp_path / "tiny.zip.part").stat().st_size
    assert 200_000 < kept <= 300_000
    folder = download.download(tmp_path, server.url)
    assert server.asked == [None, f"bytes={kept}-", f"bytes={kept}-"]
    assert (folder / "noise").read_bytes() == NOISE
    assert names_in(tmp_path) == {"tiny", "tiny/wnids.txt", "tiny/noise"}


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "part").write_bytes(server.body[:1000])
    fetch(server.url, tmp_path / "part")
    assert server.asked == ["bytes=1000-"]
    assert (tmp_path / "part").read_bytes() == server.body


def test_a_file_that_changed_meanwhile_starts_again(server: Server, tmp_path: Path) -> None:
    server.stop_after = [300_000, 0]
    with pytest.raises(UserError, match="broke off"):
        fetch(server.url, tmp_path / "part")
    server.body, server.etag = NOISE[::-1], '"v2"'
    fetch(server.url, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == NOISE[::-1]


def test_a_file_of_another_length_starts_again_where_the_server_names_no_version(
    server: Server, tmp_path: Path
) -> None:
    server.etag, server.stop_after = "", [300_000, 0]
    with pytest.raises(UserError, match="broke off"):
        fetch(server.url, tmp_path / "part")
    server.body = NOISE[::-1]
    fetch(server.url, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == NOISE[::-1]


@pytest.mark.parametrize("extra", [b"", b"of another file"])
def test_a_part_that_is_as_long_as_the_file_or_longer_is_checked_with_the_server(
    server: Server, tmp_path: Path, extra: bytes
) -> None:
    (tmp_path / "part").write_bytes(server.body + extra)
    fetch(server.url, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == server.body
    assert len(server.asked) == (2 if extra else 1)


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_wrong_checksum_deletes_the_download_and_unpacks_nothing(server: Server, tmp_path: Path, kind: str) -> None:
    with pytest.raises(UserError, match=rf"{kind} is [0-9a-f]+ instead of 1234: .*deleted.*again"):
        download.download(tmp_path, server.url, **{kind: "1234"})
    assert names_in(tmp_path) == set()


def test_the_default_address_has_its_checksum(monkeypatch: pytest.MonkeyPatch, server: Server, tmp_path: Path) -> None:
    monkeypatch.setattr(download, "URL", server.url)
    with pytest.raises(UserError, match=f"md5 is .* instead of {download.URL_MD5}"):
        download.download(tmp_path, server.url)


def test_a_file_that_is_not_there_is_said(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the server answers 404 Not Found; check --url"):
        fetch(server.url.replace("tiny.zip", "tiny.rar"), tmp_path / "part")
    assert names_in(tmp_path) == set()


def test_no_network_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^http://127\.0\.0\.1:9/tiny\.zip: no connection; check the network .*$"):
        download.download(tmp_path, "http://127.0.0.1:9/tiny.zip")


def test_too_little_room_is_said_before_the_transfer(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(_transfer.shutil, "disk_usage", lambda _: usage(2_000_000))
    with pytest.raises(UserError, match=r"archive and content need 3 MB but 2 MB are free; .*--to"):
        download.download(tmp_path, server.url)
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize("name", ["../evil", "/evil", "tiny/../../evil", "..\\evil", "C:\\evil", "C:evil"])
def test_a_member_that_leads_outside_is_refused(server: Server, tmp_path: Path, name: str) -> None:
    server.body = zipped(**{name: b"x"})
    with pytest.raises(UserError, match="is an absolute path, a link or leads outside of the folder"):
        download.download(tmp_path / "data", server.url)
    assert not (tmp_path / "data" / "tiny").exists()
    assert not list(tmp_path.rglob("*evil*"))


def test_a_link_is_refused(server: Server, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("tiny/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc")
    server.body = buffer.getvalue()
    with pytest.raises(UserError, match="'tiny/link' is an absolute path, a link or"):
        download.download(tmp_path, server.url)


@pytest.mark.parametrize("offset", [0, 500_000])
def test_a_damaged_zip_is_refused_and_no_folder_appears(server: Server, tmp_path: Path, offset: int) -> None:
    damaged = bytearray(server.body)
    damaged[offset : offset + 100 if offset else None] = b"\0" * (100 if offset else 1000)
    server.body = bytes(damaged)
    with pytest.raises(UserError, match=r"cannot be unpacked \(.*\); delete it and run the command again"):
        download.download(tmp_path, server.url)
    assert not (tmp_path / "tiny").exists()


def test_a_local_zip_is_unpacked_by_path_and_by_file_address_and_kept(tmp_path: Path) -> None:
    archive = tmp_path / "a b" / "tiny.zip"
    archive.parent.mkdir()
    archive.write_bytes(zipped())
    for to, url in (("one", str(archive)), ("two", archive.as_uri())):
        assert (download.download(tmp_path / to, url) / "noise").read_bytes() == NOISE
    with pytest.raises(UserError, match=r"md5 is .*; delete it and run the command again"):
        download.download(tmp_path / "three", str(archive), md5="1234")
    assert archive.exists()


def test_a_zip_that_was_put_there_by_hand_is_used_and_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / "tiny.zip").write_bytes(server.body)
    download.download(tmp_path, server.url)
    assert server.asked == []
    assert (tmp_path / "tiny.zip").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://example.org/tiny.zip", "ftp is not supported"),
        ("http://example.org/tiny.tar", r"must end in \.zip"),
        ("nowhere/tiny.zip", "no such file"),
    ],
)
def test_an_address_that_cannot_be_meant_is_a_usage_error(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        download.download(tmp_path, url)


def test_a_second_download_at_once_is_refused(server: Server, tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / "tiny.lock"),
        pytest.raises(UserError, match="another download is running; wait for it to end"),
    ):
        download.download(tmp_path, server.url)


def test_a_folder_that_cannot_be_written_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/tiny: cannot be written \(.*\); mend it or change --to"):
        download.download(tmp_path / "file", server.url)
