"""Images that lie in archives or on a storage: the same ones as in a folder, fetched once."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections import namedtuple
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import numpy as np
import pytest
import requests
import s3fs

from trainable.config import TrialConfig
from trainable.data import fetch as fetch_module
from trainable.data import origin as origin_module
from trainable.data.cache import CachedImages
from trainable.data.dataset import open_dataset, ready_dataset
from trainable.data.digits import IMAGES_TOTAL
from trainable.data.fetch import fetch
from trainable.data.origin import Origin, look_at
from trainable.errors import UsageError, UserError

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def archives(colour_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The coloured images as colours.zip, .tar and .tar.gz below one top folder, and as flat.zip without one."""
    folder = tmp_path_factory.mktemp("archives")
    for kind in ("zip", "tar", "gztar"):
        shutil.make_archive(str(folder / "colours"), kind, colour_folder.parent, colour_folder.name)
    shutil.make_archive(str(folder / "flat"), "zip", colour_folder)
    return folder


@pytest.fixture(scope="module")
def expected(colour_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> CachedImages:
    """What the folder itself is decoded to."""
    return open_dataset(colour_folder, cache_dir=tmp_path_factory.mktemp("expected")).cache


@pytest.fixture
def caches(tmp_path: Path) -> Path:
    return tmp_path / "caches"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin_module, "PATIENCE_S", 0.5)


def open_cache(data: str | Path, caches: Path, **options: object) -> CachedImages:
    return open_dataset(data, cache_dir=caches, progress=False, **options).cache


def assert_same(cache: CachedImages, expected: CachedImages) -> None:
    assert cache.fingerprint == expected.fingerprint
    assert (cache.names, cache.classes) == (expected.names, expected.classes)
    assert np.array_equal(cache.images, expected.images)
    assert np.array_equal(cache.labels, expected.labels)


def kept(caches: Path) -> set[str]:
    """The data sets in the cache folder, without their keys."""
    return {path.name.rpartition("-")[0] for path in caches.iterdir() if path.is_dir()}


@pytest.mark.parametrize("name", ["colours.zip", "colours.tar", "colours.tar.gz", "flat.zip"])
def test_a_local_archive_holds_the_same_images_as_the_folder(name, archives, caches, expected):
    assert_same(open_cache(archives / name, caches), expected)
    assert_same(open_cache((archives / name).as_uri(), caches), expected)
    stem = name.partition(".")[0]
    assert kept(caches) == {f"{stem}-32px", f"{stem}-files"}
    assert (archives / name).is_file()


@pytest.mark.parametrize("name", ["colours.zip", "colours.tar.gz", "flat.zip"])
def test_an_archive_on_a_storage_holds_the_same_images_as_the_folder(name, archives, caches, expected, s3, bucket):
    address = s3.upload(archives / name, bucket, f"sets/{name}")
    assert_same(open_cache(address, caches), expected)
    assert not list(caches.rglob("*.zip")) + list(caches.rglob("*.gz")), "the archive isn't kept beside its content"


def test_a_folder_on_a_storage_holds_the_same_images_as_here(colour_folder, caches, expected, s3, bucket, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("no image")
    s3.upload(tmp_path / "other", bucket, "sets/colours")
    address = s3.upload(colour_folder, bucket, "sets/colours")
    assert_same(open_cache(address, caches), expected)
    assert s3.gets(f"/{bucket}/sets/colours/notes.txt") == 0, "only what belongs to a data set is fetched"


def test_a_folder_at_a_file_address_is_read_where_it_is(colour_folder, caches, expected):
    assert_same(open_cache(colour_folder.as_uri(), caches), expected)
    assert kept(caches) == {f"{colour_folder.name}-32px"}


def test_two_machines_agree_on_the_images_and_on_what_they_are_called(archives, tmp_path, s3, bucket):
    address = s3.upload(archives / "colours.zip", bucket, "colours.zip")
    first = open_cache(address, tmp_path / "first")
    second = open_cache(address, tmp_path / "second")
    assert (first.fingerprint, first.path.name) == (second.fingerprint, second.path.name)
    assert s3.gets(f"/{bucket}/colours.zip") == 2, "each has fetched it"


OPEN = """
import sys
from pathlib import Path
from trainable.data.dataset import open_dataset
cache = open_dataset(sys.argv[1], cache_dir=Path(sys.argv[2]), fresh=True).cache
print(cache.fingerprint, int(cache.images.sum()))
"""


def test_two_processes_at_once_fetch_once(archives, caches, expected, s3, bucket):
    address = s3.upload(archives / "colours.zip", bucket, "colours.zip")
    command = [sys.executable, "-c", OPEN, address, str(caches)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    outputs = [process.communicate(timeout=200)[0].split() for process in both]
    assert outputs == [[expected.fingerprint, str(int(expected.images.sum()))]] * 2
    assert s3.gets(f"/{bucket}/colours.zip") == 1


def test_what_is_here_needs_no_storage(archives, caches, expected, s3, bucket, impatient):
    address = s3.upload(archives / "colours.zip", bucket, "colours.zip")
    open_cache(address, caches)
    s3.stop()
    try:
        assert_same(open_cache(address, caches), expected)
        assert open_cache(address, caches, image_size=16).images.shape[1] == 16, "decoded from what was fetched"
        with pytest.raises(UserError, match=rf"^--data {address}: doesn't answer; check the address"):
            open_cache(address, caches, fresh=True)
    finally:
        s3.start()


def test_images_that_are_decoded_need_not_be_fetched_again(archives, caches, expected, s3, bucket):
    address = s3.upload(archives / "colours.zip", bucket, "colours.zip")
    open_cache(address, caches)
    shutil.rmtree(next(path for path in caches.glob("colours-files-*") if path.is_dir()))
    assert_same(open_cache(address, caches, fresh=True), expected)
    assert s3.gets(f"/{bucket}/colours.zip") == 1


def test_a_changed_archive_is_fetched_anew_when_it_is_looked_at(archives, caches, expected, s3, bucket, tmp_path):
    address = s3.upload(archives / "colours.zip", bucket, "colours.zip")
    open_cache(address, caches)
    shutil.unpack_archive(archives / "colours.zip", tmp_path / "changed")
    next((tmp_path / "changed").rglob("red0.png")).unlink()
    changed = shutil.make_archive(str(tmp_path / "changed"), "zip", tmp_path / "changed")
    s3.upload(Path(changed), bucket, "colours.zip")
    assert_same(open_cache(address, caches), expected)
    anew = open_cache(address, caches, fresh=True)
    assert len(anew.names) == len(expected.names) - 1
    assert open_cache(address, caches).fingerprint == anew.fingerprint != expected.fingerprint


def test_a_changed_file_of_equal_length_is_decoded_anew(caches, s3, bucket, colour_folder, expected):
    address = s3.upload(colour_folder, bucket, "colours")
    open_cache(address, caches)
    image = colour_folder / "train/red/red0.png"
    other = bytearray(image.read_bytes())
    other[200] ^= 255  # no longer decodable
    boto3.client("s3").put_object(Bucket=bucket, Key="colours/train/red/red0.png", Body=bytes(other))
    with pytest.raises(UserError, match=rf"^{address}: 1 of {len(expected.names)} images cannot be decoded"):
        open_cache(address, caches, fresh=True)


def slow_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transfer of very many requests."""
    monkeypatch.setattr(fetch_module, "PIECE_BYTES", 2000)
    monkeypatch.setattr(fetch_module, "BATCH_PIECES", 1)


def when_some_has_come(caches: Path, action: Callable[[], None]) -> threading.Thread:
    """Does it as soon as a part of an archive is here."""

    def wait() -> None:
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline:
            if any(path.stat().st_size > 20_000 for path in caches.glob("*.fetching/*.tar")):
                action()
                return
            time.sleep(0.001)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_storage_that_stops_for_a_while_is_waited_for(archives, caches, expected, s3, bucket, monkeypatch):
    address = s3.upload(archives / "colours.tar", bucket, "colours.tar")
    slow_pieces(monkeypatch)
    said = io.StringIO()  # capsys loses what another thread writes while it reads
    monkeypatch.setattr(sys, "stderr", said)

    def pause() -> None:
        s3.stop()
        deadline = time.monotonic() + 100
        while "doesn't answer" not in said.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
        s3.start()

    thread = when_some_has_come(caches, pause)
    cache = open_cache(address, caches)
    thread.join()
    assert_same(cache, expected)
    assert said.getvalue().count(f"{address}: doesn't answer; it is tried again for up to 5 minutes ...\n") == 1
    pieces = (archives / "colours.tar").stat().st_size / 2000
    assert pieces <= s3.gets(f"/{bucket}/colours.tar") < pieces + 5, "what has come isn't asked for again"


def test_a_transfer_that_broke_off_is_gone_on_with(archives, caches, expected, s3, bucket, monkeypatch, impatient):
    address = s3.upload(archives / "colours.tar", bucket, "colours.tar")
    slow_pieces(monkeypatch)
    thread = when_some_has_come(caches, s3.stop)
    try:
        with pytest.raises(UserError, match=rf"^--data {address}: doesn't answer; "):
            open_cache(address, caches)
    finally:
        thread.join()
        s3.start()
    before = s3.gets(f"/{bucket}/colours.tar")
    assert_same(open_cache(address, caches), expected)
    pieces = (archives / "colours.tar").stat().st_size / 2000
    assert before >= 10
    assert s3.gets(f"/{bucket}/colours.tar") < pieces + 5


def test_an_archive_that_changes_while_it_is_fetched_is_not_unpacked(archives, caches, s3, bucket, tmp_path):
    address = s3.upload(archives / "colours.tar", bucket, "colours.tar")
    seen = look_at(address)
    assert isinstance(seen, Origin)
    for content in (b"short", (archives / "colours.tar").read_bytes() + b"longer"):
        boto3.client("s3").put_object(Bucket=bucket, Key="colours.tar", Body=content)
        with pytest.raises(UserError, match=rf"^--data {address}: has changed while it was fetched; run .* again"):
            fetch(seen, caches, 0, progress=False)
        assert kept(caches) == set()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://no-such-bucket/images.zip", "there is no such bucket; make it, or mend the address"),
        ("s3://no-such-bucket/images", "there is no such bucket; make it, or mend the address"),
        ("s3://BUCKET/nothing.zip", "is not there"),
        ("s3://BUCKET/nothing", "is not there"),
        ("s3://BUCKET/there/notes.txt", r"is a file, neither a folder nor an archive \(.*\.zip\); give one of them"),
        ("s3://BUCKET/there", r"holds no images; expected train/<class>/\*\.jpg or <class>/\*\.jpg there"),
        ("s3://", "name a bucket: s3://BUCKET/FOLDER"),
        ("s4://bucket/images", "s4:// is no storage that is known here; try s3://"),
    ],
)
def test_an_address_that_leads_to_no_images_is_one_line(address, message, s3, bucket, caches):
    boto3.client("s3").put_object(Bucket=bucket, Key="there/notes.txt", Body=b"no image")
    address = address.replace("BUCKET", bucket)
    with pytest.raises(UserError, match=rf"^--data {address}: {message}$"):
        open_cache(address, caches)


def test_denied_access_is_one_line(s3, bucket, caches):
    requests.post(f"{s3.url}/moto-api/reset-auth", data=b"0", timeout=10)
    try:
        for address in (f"s3://{bucket}/images.zip", f"s3://{bucket}/images"):
            with pytest.raises(UserError, match=rf"^--data {address}: access is denied; check the credentials"):
                open_cache(address, caches)
    finally:
        requests.post(f"{s3.url}/moto-api/reset-auth", data=b"inf", timeout=10)


class OtherRegion(BaseHTTPRequestHandler):
    """What AWS says to a request that names another region than the bucket's; moto has but one."""

    def do_GET(self) -> None:
        body = b"<Error><Code>PermanentRedirect</Code><Message>use another endpoint</Message></Error>"
        self.send_response(301)
        self.send_header("x-amz-bucket-region", "eu-west-1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 the base class's name

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def test_a_bucket_in_another_region_is_one_line(s3, caches, monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), OtherRegion) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        s3fs.S3FileSystem.clear_instance_cache()
        try:
            with pytest.raises(UserError, match=r"^--data s3://abroad/images: is in another region; set AWS_DEFAULT"):
                open_cache("s3://abroad/images", caches)
        finally:
            s3fs.S3FileSystem.clear_instance_cache()
            server.shutdown()
            thread.join()


def no_archive(path: Path, _: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(10_000))


def cut_short(path: Path, archives: Path) -> None:
    path.write_bytes((archives / path.name).read_bytes()[:-20_000])


def without_images(path: Path, _: Path) -> None:
    path.with_name("empty").mkdir()
    path.with_name("empty").joinpath("notes.txt").write_text("no image")
    kind = {".zip": "zip", ".tar": "tar", ".gz": "gztar"}[path.suffix]
    made = shutil.make_archive(str(path.with_name("made")), kind, path.with_name("empty"))
    Path(made).replace(path)


@pytest.mark.parametrize("name", ["colours.zip", "colours.tar", "colours.tar.gz"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_archive, r"cannot be unpacked \(.+\); make the archive again"),
        (cut_short, r"cannot be unpacked \(.+\); make the archive again"),
        (without_images, r"no images in folders of classes; expected <class>/\*\.jpg in it"),
    ],
)
def test_an_archive_that_is_none_is_one_line(spoil, message, name, archives, caches, s3, bucket, tmp_path):
    spoil(tmp_path / name, archives)
    address = s3.upload(tmp_path / name, bucket, name)
    for data in (tmp_path / name, address):
        with pytest.raises(UserError, match=rf"^(--data )?{data}/?: {message}$"):
            open_cache(data, caches)
    assert not list(caches.glob("*.fetching"))


def test_a_tar_that_was_cut_between_two_images_is_not_taken_for_a_whole_one(archives, caches, tmp_path):
    with tarfile.open(archives / "colours.tar") as whole:
        cut = whole.getmembers()[60].offset
    (tmp_path / "cut.tar").write_bytes((archives / "colours.tar").read_bytes()[:cut])
    with pytest.raises(UserError, match=r"cut\.tar: cannot be unpacked \(its end is missing\); make the archive again"):
        open_cache(tmp_path / "cut.tar", caches)


def test_a_member_that_leads_outside_is_refused_on_a_storage_too(s3, bucket, caches, colour_folder):
    client = boto3.client("s3")
    client.upload_file(str(colour_folder / "train/red/red0.png"), bucket, "set/../../evil.png")
    with pytest.raises(UserError, match=rf"^s3://{bucket}/set: member '\.\./\.\./evil\.png' .* do not use it$"):
        open_cache(f"s3://{bucket}/set", caches)


def test_too_little_room_is_said_before_the_transfer(archives, caches, s3, bucket, monkeypatch):
    address = s3.upload(archives / "colours.zip", bucket, "colours.zip")
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(fetch_module.shutil, "disk_usage", lambda _: usage(1000))
    with pytest.raises(
        UserError, match=r"caches: the fetched images need 1\.\d MB but 0\.0 MB are free; .*--cache-dir"
    ):
        open_cache(address, caches)
    assert s3.gets(f"/{bucket}/colours.zip") == 0


FILL_UP = """
import resource, signal, sys
from pathlib import Path
from trainable.data.dataset import open_dataset
from trainable.errors import UserError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit is then an OSError, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    open_dataset(sys.argv[1], cache_dir=Path(sys.argv[2]))
except UserError as error:
    print(error)
"""


def test_a_disk_that_fills_up_is_one_line(archives, caches, s3, bucket):
    address = s3.upload(archives / "colours.tar", bucket, "colours.tar")
    command = [sys.executable, "-c", FILL_UP, address, str(caches)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    said = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200, check=True).stdout
    assert (
        said
        == f"{caches}: fetched images cannot be kept here (File too large); choose another folder with --cache-dir\n"
    )


def test_a_cache_folder_that_cannot_be_written_is_named(archives, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/caches: fetched images cannot be kept here \(Not a directory\); "):
        open_cache(archives / "colours.zip", tmp_path / "file" / "caches")


def test_a_local_file_that_is_no_archive_is_a_usage_error(tmp_path, caches):
    (tmp_path / "images.rar").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"images\.rar: is a file, neither a folder nor an archive"):
        open_cache(tmp_path / "images.rar", caches)


def test_a_node_is_made_ready_with_what_is_there_now(archives, caches, expected, s3, bucket):
    address = s3.upload(archives / "flat.zip", bucket, "images.zip")
    values = json.loads(TrialConfig(data=address, cache_dir=caches).model_dump_json())
    config = TrialConfig.model_validate(values)
    assert config.data == address
    assert ready_dataset(config) == expected.fingerprint
    s3.upload(archives / "colours.zip", bucket, "images.zip")
    before = kept(caches)
    assert ready_dataset(config) == expected.fingerprint
    assert kept(caches) == before
    assert len(list(caches.glob("images-files-*/fetched.json"))) == 2, "another archive, though with the same images"


def test_a_node_without_the_embedded_digits_writes_them(tmp_path, caches):
    config = TrialConfig(data=tmp_path / "elsewhere" / "data" / "digits", cache_dir=caches)
    fingerprint = ready_dataset(config)
    assert len(open_cache(config.data, caches).names) == IMAGES_TOTAL
    assert ready_dataset(config) == fingerprint


def test_a_node_without_the_images_says_so(tmp_path, caches):
    with pytest.raises(UserError, match=r"nowhere: no such folder; give the folder that holds the images"):
        ready_dataset(TrialConfig(data=tmp_path / "nowhere", cache_dir=caches))
