"""Places by address, and what is said of a storage that can't be used; asked of a real S3 server."""

from pathlib import Path

import pytest

from trainable.address import delete_tree, is_address, is_outage, open_place, patiently, storage_errors
from trainable.errors import UsageError, UserError


@pytest.fixture
def bucket(s3) -> str:
    return s3.make_bucket()


def test_a_path_and_a_file_address_are_places_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_place("runs", "--storage") == tmp_path / "runs"
    assert open_place(f"file://{tmp_path}/runs", "--storage") == tmp_path / "runs"
    assert is_address("s3://a/b")
    assert not is_address(Path("a/b"))


def test_a_folder_in_a_bucket_is_read_written_and_deleted_as_one_here(bucket):
    place = open_place(f"{bucket}/runs/", "--storage") / "first"
    (place / "checkpoint_000001" / "state.pt").write_bytes(b"state")
    (place / "params.json").write_text("{}")
    assert sorted(path.name for path in place.iterdir()) == ["checkpoint_000001", "params.json"]
    assert [path.name for path in place.glob("checkpoint_*/*")] == ["state.pt"]
    assert (place / "params.json").stat().st_size == 2
    delete_tree(place / "checkpoint_000001")
    assert [path.name for path in place.iterdir()] == ["params.json"]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://", "--storage s3://: name a bucket"),
        ("foo://bucket/runs", "--storage foo://bucket/runs: foo:// is no storage that is known here"),
        ("s3://ann:secret@bucket/runs", r"--storage s3://\.\.\.: holds a password"),
        ("gs://bucket/runs", "another library is needed: .*gcsfs"),
    ],
)
def test_an_address_that_cant_be_meant_is_refused(address, message):
    with pytest.raises(UsageError, match=message):
        open_place(address, "--storage")


def test_a_bucket_that_isnt_there_is_named(s3):
    with pytest.raises(UserError, match=r"^--storage s3://none/x: there is no such bucket; make it, or mend the add"):
        write("s3://none/x")


def test_wrong_credentials_and_another_region_are_told_apart(bucket, monkeypatch):
    """The server takes all credentials, so what S3 says is raised as its client does."""
    from botocore.exceptions import ClientError, NoCredentialsError

    def answer(code: str) -> ClientError:
        return ClientError({"Error": {"Code": code, "Message": ""}}, "PutObject")

    for error, message in (
        (PermissionError("Access Denied"), "access is denied"),
        (answer("InvalidAccessKeyId"), "access is denied"),
        (answer("PermanentRedirect"), "is in another region; set AWS_DEFAULT_REGION"),
        (answer("AuthorizationHeaderMalformed"), "is in another region"),
        (NoCredentialsError(), "no credentials"),
    ):
        with pytest.raises(UserError, match=f"^--storage {bucket}: {message}"), storage_errors("--storage", bucket):
            raise error


def test_what_says_nothing_of_a_storage_stays_what_it_is():
    with pytest.raises(ZeroDivisionError), storage_errors("--storage", "s3://bucket"):
        raise ZeroDivisionError
    with pytest.raises(UsageError, match=r"^mine$"), storage_errors("--storage", "s3://bucket"):
        raise UsageError("mine")


def test_a_server_that_is_gone_is_an_outage_for_both_clients(s3, bucket):
    from pyarrow.fs import FileSystem

    filesystem, path = FileSystem.from_uri(f"{bucket}/x")
    s3.stop()
    try:
        with pytest.raises(OSError, match="NETWORK_CONNECTION") as raised:
            filesystem.get_file_info(path)
        assert is_outage(raised.value)
        with pytest.raises(UserError, match="doesn't answer; check the address"):
            write(f"{bucket}/x")
    finally:
        s3.start()


def test_an_outage_is_waited_for_and_other_errors_are_not(monkeypatch):
    answers = [ConnectionError("no"), OSError("AWS Error SLOW_DOWN during PutObject"), "done"]

    def act() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert patiently(act) == "done"
    answers += [PermissionError("no"), "never asked for"]
    with pytest.raises(PermissionError):
        patiently(act)
    answers[:] = [ConnectionError("no")] * 9
    with pytest.raises(ConnectionError):
        patiently(act, patience_s=0.1)


def write(address: str) -> None:
    with storage_errors("--storage", address):
        (open_place(address, "--storage") / "file").write_text("")
