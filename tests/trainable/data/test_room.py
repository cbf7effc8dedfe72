"""The cache folder's limit: what was used least recently goes, what is in use stays."""

import fcntl
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainable.data import _room
from trainable.data._room import FETCHED, MANIFEST, USED, entries, evict, hold, is_held, reserve
from trainable.data.dataset import open_dataset
from trainable.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[3]
KEY = "0123456789abcdef"


@pytest.fixture
def caches(tmp_path: Path) -> Path:
    folder = tmp_path / "caches"
    folder.mkdir()
    return folder


def add(caches: Path, name: str, size_bytes: int, used: int | None = 1, record: str = MANIFEST) -> Path:
    """A data set of that size, last used at a time; None: by a version of the program that noted none."""
    folder = caches / f"{name}-{KEY}"
    folder.mkdir()
    (folder / record).write_text(json.dumps({"sizes_bytes": {"images.npy": size_bytes}}))
    if used is not None:
        hold(folder).release()
        os.utime(f"{folder}{USED}", (used, used))
    return folder


SETS = st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=8)
"""Size of each data set, from the least to the most recently used, and whether it is in use."""


@settings(deadline=None, max_examples=60)
@given(sets=SETS, needed=st.integers(0, 100), most=st.integers(1, 150), order=st.randoms(use_true_random=False))
def test_the_least_recently_used_go_until_the_new_one_fits_and_none_that_is_in_use(sets, needed, most, order):
    with tempfile.TemporaryDirectory() as temporary:
        caches = Path(temporary)
        numbers = list(range(len(sets)))
        order.shuffle(numbers)  # neither names nor the order of creation tell what was used last
        folders = {age: add(caches, f"set{numbers[age]}", size, 1000 + age) for age, (size, _) in enumerate(sets)}
        holds = [hold(folders[age]) for age, (_, in_use) in enumerate(sets) if in_use]
        for age, folder in folders.items():
            os.utime(f"{folder}{USED}", (1000 + age, 1000 + age))
        total, in_use_bytes = sum(size for size, _ in sets), sum(size for size, in_use in sets if in_use)
        if in_use_bytes + needed > most:
            with pytest.raises(UserError, match="--cache-size is"):
                reserve(caches / f"new-{KEY}", needed, most)
            assert all(folder.is_dir() for folder in folders.values()), "nothing goes where that doesn't help"
        else:
            holds.append(reserve(caches / f"new-{KEY}", needed, most))
            gone = [age for age, folder in folders.items() if not folder.exists()]
            free = [age for age, (_, in_use) in enumerate(sets) if not in_use]
            assert gone == free[: len(gone)], "in the order of their last use"
            excess = total + needed - most
            freed = [sets[age][0] for age in gone]
            assert sum(freed) >= excess
            assert not gone or sum(freed[:-1]) < excess, "not more than need be"
            assert sum(entry.size_bytes for entry in entries(caches)) <= most
        for each in holds:
            each.release()


def test_what_goes_is_said_in_a_line(caches, capfd):
    old = add(caches, "old-32px", 3_000_000_000, record=FETCHED)
    reserve(caches / f"new-{KEY}", 2_000_000_000, 4_000_000_000).release()
    expected = (
        f"{old}: 3 GB of images that were used least recently are deleted from the cache, to make room "
        "(--cache-size 4 GB)\n"
    )
    assert capfd.readouterr().err == expected
    assert not old.exists()
    assert not Path(f"{old}{USED}").exists()


def test_too_small_a_limit_is_said_with_what_is_in_use(caches):
    in_use = hold(add(caches, "other-32px", 3_000_000_000))
    message = (
        f"{caches}: colours-32px needs 2 GB beside the 3 GB that are in use, but --cache-size is 4 GB; raise it, or "
        "give 0 for no limit"
    )
    with pytest.raises(UserError) as caught:
        reserve(caches / f"colours-32px-{KEY}", 2_000_000_000, 4_000_000_000)
    assert str(caught.value) == message
    in_use.release()


def test_without_a_limit_nothing_goes(caches):
    folder = add(caches, "old", 10**15)
    reserve(caches / f"new-{KEY}", 10**15, 0).release()
    assert folder.is_dir()


def test_what_is_being_made_counts_as_large_as_it_will_be(caches):
    first = reserve(caches / f"first-{KEY}", 60, 100)
    with pytest.raises(UserError, match="needs 50 bytes beside the 60 bytes that are in use"):
        reserve(caches / f"second-{KEY}", 50, 100)
    first.release()
    scratch = caches / f"first-{KEY}.fetching"
    scratch.mkdir()  # broken off
    (scratch / "images.zip").write_bytes(b"x" * 51)
    reserve(caches / f"second-{KEY}", 50, 150).release()
    assert scratch.exists(), "it may go on"
    reserve(caches / f"second-{KEY}", 50, 100).release()
    assert not scratch.exists()


RESERVE_AND_WAIT = """
import sys
from pathlib import Path
from trainable.data._room import reserve
held = reserve(Path(sys.argv[1]), 60, 100)
print("reserved", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_had_reserved_counts_no_more(caches):
    unfinished = caches / f"a-{KEY}"
    command = [sys.executable, "-c", RESERVE_AND_WAIT, str(unfinished)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert other.stdout.readline() == "reserved\n"
        assert [entry.size_bytes for entry in entries(caches)] == [60]
    finally:
        other.kill()
        other.communicate()
    assert [entry.size_bytes for entry in entries(caches)] == [0]
    there = add(caches, "b", 50, int(time.time()) + 100)
    reserve(caches / f"c-{KEY}", 50, 100).release()
    assert there.is_dir(), "there was room enough"


def test_a_making_that_fails_holds_nothing_while_its_error_is_kept(caches, tmp_path):
    archive = tmp_path / "images.zip"
    archive.write_bytes(b"no archive")
    with pytest.raises(UserError) as caught:
        open_dataset(archive, 32, cache_dir=caches, progress=False)
    [entry] = entries(caches)
    assert not is_held(entry.folder), caught.traceback
    assert entry.size_bytes == 0


def test_what_an_earlier_version_left_goes_by_the_time_it_was_made(caches):
    old, older = add(caches, "old", 60, None), add(caches, "older", 60, None)
    os.utime(old / MANIFEST, (2000, 2000))
    os.utime(older / MANIFEST, (1000, 1000))
    held = hold(add(caches, "held", 1))
    reserve(caches / f"new-{KEY}", 30, 100).release()
    assert (old.exists(), older.exists()) == (True, False)
    assert {entry.folder: entry.used_ns for entry in entries(caches)}[old] == 2000 * 10**9, "looking isn't using"
    held.release()


def test_folders_of_others_are_never_touched(caches):
    for name in ("photographs", f"photographs-{KEY}", "notes-32px-123"):
        (caches / name).mkdir()
        (caches / name / "manifest.txt").write_text("mine")
    (caches / f"list-{KEY}").mkdir()
    (caches / f"list-{KEY}" / MANIFEST).write_text("[]")
    assert entries(caches) == []
    reserve(caches / f"new-{KEY}", 100, 100).release()
    assert len([path for path in caches.iterdir() if path.is_dir()]) == 4


def test_a_deletion_that_was_broken_off_is_finished(caches):
    (caches / f".old-{KEY}.going").mkdir()
    reserve(caches / f"new-{KEY}", 1, 100).release()
    assert not (caches / f".old-{KEY}.going").exists()


OPEN_AND_WAIT = """
import sys
from pathlib import Path
from trainable.data.dataset import open_dataset
dataset = open_dataset(Path(sys.argv[1]), 16, cache_dir=Path(sys.argv[2]), progress=False)
print("open", flush=True)
sys.stdin.read()
"""


def test_what_another_process_has_open_stays_until_that_ends(colour_folder, caches):
    command = [sys.executable, "-c", OPEN_AND_WAIT, str(colour_folder), str(caches)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert other.stdout.readline() == "open\n"
        [entry] = entries(caches)
        assert entry.size_bytes == sum(path.stat().st_size for path in entry.folder.iterdir() if path.name != MANIFEST)
        with pytest.raises(UserError, match="in use"):
            open_dataset(colour_folder, 32, cache_dir=caches, cache_bytes=550_000, progress=False)
        assert entry.folder.is_dir()
    finally:
        other.kill()
        other.communicate()
    assert (
        len(open_dataset(colour_folder, 32, cache_dir=caches, cache_bytes=550_000, progress=False).cache.images) == 154
    )
    assert not entry.folder.exists()


def test_a_data_set_is_in_use_as_long_as_anything_refers_to_it(colour_folder, caches):
    cache = open_dataset(colour_folder, 16, cache_dir=caches, progress=False).cache
    folder = cache.path
    copied = pickle.loads(pickle.dumps(cache))
    del cache
    assert is_held(folder)
    assert not evict(folder)
    del copied
    assert not is_held(folder)
    assert evict(folder)


def test_opening_is_using(colour_folder, caches):
    path = open_dataset(colour_folder, 16, cache_dir=caches, progress=False).cache.path
    os.utime(f"{path}{USED}", (1000, 1000))
    before = time.time() - 5
    open_dataset(colour_folder, 16, cache_dir=caches, progress=False)
    assert os.stat(f"{path}{USED}").st_mtime > before


def test_what_goes_while_it_is_opened_is_held_anew(caches):
    folder = add(caches, "set", 1)
    descriptor = os.open(f"{folder}{USED}", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # as another process does that evicts it
    holds: list[_room.Hold] = []
    thread = threading.Thread(target=lambda: holds.append(hold(folder)))
    thread.start()
    time.sleep(0.2)
    assert holds == []
    Path(f"{folder}{USED}").unlink()
    os.close(descriptor)
    thread.join(timeout=60)
    assert is_held(folder), "by a lock on the file that is there now"
    holds[0].release()


def test_fetched_files_that_are_decoded_can_go(colour_folder, caches, tmp_path):
    archive = Path(shutil.make_archive(str(tmp_path / "colours"), "zip", colour_folder))
    decoded = open_dataset(archive, 32, cache_dir=caches, progress=False).cache
    [fetched] = [entry.folder for entry in entries(caches) if (entry.folder / FETCHED).is_file()]
    with pytest.raises(UserError, match="in use"):
        reserve(caches / f"new-{KEY}", 10, 100)
    reserve(caches / f"new-{KEY}", 10, decoded.images.nbytes + 20_000).release()
    assert not fetched.exists()
    assert decoded.path.is_dir()
