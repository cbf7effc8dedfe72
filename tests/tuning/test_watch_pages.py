"""The study's pages while a search runs: a real optuna-dashboard, and its end with the process that began it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import optuna
import psutil
import pytest
import requests

from trainable.errors import UsageError
from tuning.study import journal_storage
from tuning.study_database import open_database
from tuning.watch_pages import check_pages, study_pages, watched_study

pytest.importorskip("optuna_dashboard", reason="needs optuna-dashboard: pip install -e '.[dashboard]'")

A_SEARCH_THAT_WAITS = """
import sys, time
from tuning.watch_pages import study_pages
with study_pages(sys.argv[1]) as url:
    print(url, flush=True)
    time.sleep(100)
"""


def studies(url: str) -> list[str]:
    answer = requests.get(f"{url}/api/studies", timeout=60)
    return [study["study_name"] for study in answer.json()["study_summaries"]]


def is_served(url: str) -> bool:
    try:
        return requests.get(url, timeout=60).ok
    except requests.ConnectionError:
        return False


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not condition():
        time.sleep(0.1)
    return condition()


@pytest.fixture
def journal(tmp_path) -> str:
    optuna.create_study(storage=journal_storage(tmp_path), study_name="mine")
    return str(tmp_path / "study.journal")


def test_the_pages_show_the_journal_and_end_with_the_search(journal):
    with study_pages(journal) as url:
        assert url.startswith("http://127.0.0.1:")
        assert studies(url) == ["mine"]
        assert "<html" in requests.get(f"{url}/dashboard/", timeout=60).text
    assert not is_served(url)


def test_the_pages_show_a_database(tmp_path):
    address = f"sqlite:///{tmp_path}/studies.db"
    storage = open_database(address)
    optuna.create_study(storage=storage, study_name="theirs")
    storage.engine.dispose()
    with study_pages(address) as url:
        assert studies(url) == ["theirs"]


def test_a_search_that_fails_ends_its_pages(journal):
    urls: list[str] = []

    def search() -> None:
        with study_pages(journal) as url:
            urls.append(url)
            assert is_served(url)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        search()
    assert not is_served(urls[0])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_pages_end_however_the_search_ends(journal, number):
    command = [sys.executable, "-c", A_SEARCH_THAT_WAITS, journal]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as search:
        url = search.stdout.readline().strip()
        assert is_served(url)
        (pages,) = psutil.Process(search.pid).children()
        os.killpg(search.pid, number)  # as a terminal does at Ctrl-C
        search.communicate(timeout=60)
    assert eventually(lambda: not pages.is_running() or pages.status() == psutil.STATUS_ZOMBIE)
    assert not is_served(url)


def test_a_search_is_watched_in_a_database_and_on_pages(make_plan, tmp_path, monkeypatch):
    address = f"sqlite:///{tmp_path}/studies.db"
    plan = make_plan(output=tmp_path, study=address)
    plan.folder.mkdir()
    optuna.create_study(storage=journal_storage(plan.folder), study_name="mine")
    said: list[str] = []
    with watched_study(plan, "1a2b", True, said.append):
        url = said[0].removeprefix("the study's pages: ")
        assert eventually(lambda: studies(url) == ["test-1a2b"])
    # the pages and the copy make their tables at once: one of the two may have to try again, once
    assert [line.partition("; ")[2] or line for line in said[1:]] in (
        [],
        ["the search goes on and tries again", f"--study {address}: the study is there again"],
    )


def test_pages_that_are_not_installed_are_told_with_what_to_do(monkeypatch):
    monkeypatch.setattr("tuning.watch_pages.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"optuna-dashboard isn't installed; pip install -e '.\[dashboard\]"):
        check_pages()
