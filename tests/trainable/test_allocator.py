import os
import subprocess
import sys

import pytest

from trainable import allocator
from trainable.allocator import ALLOCATORS, PRELOAD, RAY_SWITCH, allocator_note, fast_allocator


def test_the_environment_is_as_before_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PRELOAD, raising=False)
    monkeypatch.setattr(allocator, "find_library", lambda name: f"lib{name}.so.4")
    before = dict(os.environ)
    with fast_allocator() as library:
        assert library == "libtcmalloc_minimal.so.4"
        assert (os.environ[PRELOAD], os.environ[RAY_SWITCH]) == (library, "1")
    assert dict(os.environ) == before


def test_what_the_user_preloads_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PRELOAD, "libmine.so")
    with fast_allocator() as library:
        assert library == "libmine.so"
    assert os.environ[PRELOAD] == "libmine.so"


def test_without_one_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PRELOAD, raising=False)
    monkeypatch.setattr(allocator, "find_library", lambda name: None)
    with fast_allocator() as library:
        assert library is None
        assert PRELOAD not in os.environ
    assert allocator_note().startswith("the system's")


@pytest.mark.skipif(not any(map(allocator.find_library, ALLOCATORS)), reason="neither tcmalloc nor jemalloc is here")
def test_a_worker_of_rays_has_it_and_says_so() -> None:
    code = (
        "import ray; from trainable.allocator import *\n"
        "with fast_allocator(): ray.init('local', num_cpus=1, include_dashboard=False, logging_level=40)\n"
        "@ray.remote\ndef look(): return allocator_note(), open('/proc/self/maps').read()\n"
        "note, maps = ray.get(look.remote()); print(note); print('malloc' in maps)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != PRELOAD}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    note, mapped = done.stdout.splitlines()[-2:]
    assert "keeps the memory" in note
    assert mapped == "True"
