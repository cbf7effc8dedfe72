"""The study's copy in a database: a real PostgreSQL, or a file; and one that goes away."""

import os
import random
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from search_spaces import get_space, sample
from trainable.errors import UsageError, UserError
from tuning.study import StudyLog, new_journal
from tuning.study_database import StudyCopy, check_study_address, open_database

SPACE = get_space("swin")
CONFIG = sample(SPACE, random.Random(0))


class Cluster:
    """A PostgreSQL of the test's own, which can be stopped and started."""

    def __init__(self, folder: Path, programs: Path, user: list[str]) -> None:
        self.data = folder / "data"
        self.programs = programs
        self.user = user
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.address = f"postgresql://ann@127.0.0.1:{self.port}/postgres"
        secret = folder / "password"
        secret.write_text("correct horse")
        secret.chmod(0o644)
        self._run("initdb", "-U", "ann", "-A", "scram-sha-256", "--pwfile", str(secret), "--no-sync")

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self.user, str(self.programs / program), "-D", str(self.data), *arguments]
        log = self.data.parent / "output"
        with log.open("wb") as file:  # a server that pg_ctl starts would keep a pipe open
            code = subprocess.run(command, stdout=file, stderr=file, check=False, timeout=120).returncode
        assert code == 0, log.read_text()

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self._run("pg_ctl", "start", "-w", "-t", "100", "-o", options)

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-t", "100", "-m", "immediate")


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Cluster]:
    """A running cluster; PostgreSQL refuses to run as root, so a test as root runs it as nobody.

    Nobody can't look into pytest's folders.
    """
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("PostgreSQL isn't installed: apt-get install postgresql")
    pytest.importorskip("psycopg2", reason="needs psycopg2")
    with tempfile.TemporaryDirectory() as folder:
        user: list[str] = []
        if os.getuid() == 0:
            user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
            shutil.chown(folder, "nobody", "nogroup")
        cluster = Cluster(Path(folder), programs[-1], user)
        cluster.start()
        yield cluster
        cluster.stop()


@pytest.fixture(params=["file", "postgresql"])
def address(request, tmp_path, monkeypatch) -> str:
    if request.param == "file":
        return f"sqlite:///{tmp_path}/studies.db"
    monkeypatch.setenv("PGPASSWORD", "correct horse")
    return request.getfixturevalue("postgresql").address


@pytest.fixture
def log(tmp_path) -> StudyLog:
    return StudyLog("journal", SPACE, new_journal(tmp_path))


def make_copy(tmp_path: Path, address: str, said: list[str]) -> StudyCopy:
    return StudyCopy(tmp_path, f"{tmp_path.name}-1a2b", address, said.append)


def read(tmp_path: Path, address: str) -> list[optuna.trial.FrozenTrial]:
    storage = open_database(address)
    try:
        return optuna.load_study(study_name=f"{tmp_path.name}-1a2b", storage=storage).trials
    finally:
        storage.engine.dispose()


def facts(trials: list[optuna.trial.FrozenTrial]) -> list[tuple]:
    return [(t.state, t.params, t.distributions, t.user_attrs, t.intermediate_values, t.values) for t in trials]


def test_the_database_follows_the_journal(address, log, tmp_path):
    copy = make_copy(tmp_path, address, said := [])
    log.start("a", CONFIG)
    assert copy.catch_up()
    log.report("a", 1, 0.25)
    log.report("a", 2, 0.5)
    log.start("b", CONFIG)
    assert copy.catch_up()
    assert facts(read(tmp_path, address)) == facts(log.study.trials)
    log.end("a", TrialState.COMPLETE, 0.5)
    log.end("b", TrialState.FAIL)
    log.put_back("c", CONFIG, {1: 0.75}, TrialState.PRUNED)
    assert copy.catch_up()
    assert facts(read(tmp_path, address)) == facts(log.study.trials)
    assert [trial.state.name for trial in read(tmp_path, address)] == ["COMPLETE", "FAIL", "PRUNED"]
    assert said == []


def test_a_resumed_search_puts_its_study_in_the_place_of_the_old_one(address, tmp_path):
    for keys in ("abc", "ab"):
        log = StudyLog("journal", SPACE, new_journal(tmp_path))
        for key in keys:
            log.put_back(key, CONFIG, {1: 0.5}, TrialState.PRUNED)
        assert make_copy(tmp_path, address, []).catch_up()
    assert [trial.user_attrs["trial"] for trial in read(tmp_path, address)] == ["a", "b"]


def test_a_search_of_the_same_name_keeps_its_own_study(address, log, tmp_path):
    log.start("a", CONFIG)
    assert make_copy(tmp_path, address, []).catch_up()
    other = StudyCopy(tmp_path, f"{tmp_path.name}-9f9f", address, print)
    assert other.catch_up()
    assert len(read(tmp_path, address)) == 1


def test_a_thread_writes_while_the_search_goes_on_and_the_rest_at_its_end(address, log, tmp_path):
    with make_copy(tmp_path, address, said := []):
        log.start("a", CONFIG)
        log.report("a", 1, 0.5)
    assert facts(read(tmp_path, address)) == facts(log.study.trials)
    assert said == []


def test_a_database_that_goes_away_is_told_once_and_has_all_when_it_is_back(postgresql, log, tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "correct horse")
    copy = make_copy(tmp_path, postgresql.address, said := [])
    log.start("a", CONFIG)
    assert copy.catch_up()
    postgresql.stop()
    try:
        log.report("a", 1, 0.5)
        started = time.monotonic()
        assert not copy.catch_up()
        assert not copy.catch_up()
        assert time.monotonic() - started < 30
        assert len(said) == 1
        assert "the search goes on and tries again" in said[0]
    finally:
        postgresql.start()
    log.end("a", TrialState.PRUNED)
    assert copy.catch_up()
    assert said[1:] == [f"--study {postgresql.address}: the study is there again"]
    assert facts(read(tmp_path, postgresql.address)) == facts(log.study.trials)


def test_a_search_whose_database_stays_away_ends_and_says_so(log, tmp_path):
    address = f"sqlite:///{tmp_path}/not/there/studies.db"
    log.start("a", CONFIG)
    with make_copy(tmp_path, address, said := []):
        pass
    assert "can't be used" in said[0]
    assert said[-1] == f"the study in {address} isn't complete; a --resume writes it again"


def test_a_wrong_password_is_told_in_one_line_without_it(postgresql, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "battery staple")
    with pytest.raises(UserError, match=r"password authentication failed.*start it, mend the address") as caught:
        open_database(postgresql.address)
    assert "\n" not in str(caught.value)
    assert "staple" not in str(caught.value)


def test_nothing_listens_at_the_address():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(UserError, match=r"--study postgresql://.*can't be used \(.*refused"):
        open_database(f"postgresql://ann@127.0.0.1:{port}/studies")


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://ann:secret@db/studies",
        "postgresql://ann:@db/studies",
        "postgresql://db/studies?user=ann&password=secret",
    ],
)
def test_an_address_with_a_password_is_refused_without_repeating_it(address):
    with pytest.raises(UsageError, match=r"leave the password out.*PGPASSWORD") as caught:
        check_study_address(address)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("studies.db", "isn't a database's address; give postgresql://"),
        ("s3://bucket/study", "s3 isn't a kind of database that is known"),
        ("redis://host/0", "redis isn't a kind of database that is known"),
        ("sqlite://", "name a file that others can open"),
        ("sqlite:///:memory:", "name a file that others can open"),
        ("mysql://ann@db/studies", "isn't installed; pip install pymysql"),
    ],
)
def test_what_is_no_database_is_refused(address, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        check_study_address(address)


def test_a_file_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert check_study_address("sqlite:///studies.db") == f"sqlite:///{tmp_path}/studies.db"
    assert check_study_address("postgresql://ann@db:5433/studies") == "postgresql://ann@db:5433/studies"


def test_the_password_for_mysql_comes_from_the_environment(monkeypatch):
    """What MySQL's driver would be called with; there is no MySQL here."""
    asked: list[str] = []
    monkeypatch.setenv("MYSQL_PWD", "correct horse")
    monkeypatch.setattr("optuna.storages.RDBStorage", lambda url, engine_kwargs: asked.append(url))
    open_database("mysql+pymysql://ann@db/studies")
    assert asked == ["mysql+pymysql://ann:correct horse@db/studies"]
