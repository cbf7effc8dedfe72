"""The memory allocator of training processes: tcmalloc or jemalloc where the machine has one.

glibc's gives large blocks back to the kernel at once, which clears and maps their pages anew in every pass. On one core
at 64 px, tcmalloc trained 12 to 15 % more images/s than it (docs/log.md). An allocator is chosen when a process starts,
so a search chooses it for its trials; for a single run give it by hand: LD_PRELOAD=libtcmalloc_minimal.so.4.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes.util import find_library

from trainable.environment import environment

ALLOCATORS = "tcmalloc_minimal", "tcmalloc", "jemalloc"
PRELOAD = "LD_PRELOAD"
RAY_SWITCH = "RAY_LD_PRELOAD_ON_WORKERS"
"""Without it Ray takes the preloaded libraries from the environment of its workers."""


@contextmanager
def fast_allocator() -> Iterator[str | None]:
    """Processes that Ray starts from in here take the first allocator that is installed; yields its file's name.

    What the user preloads wins; the environment is as before at the end, for it is not meant for other programs.
    """
    library = os.environ.get(PRELOAD) or next(filter(None, map(find_library, ALLOCATORS)), None)
    with environment({PRELOAD: library, RAY_SWITCH: "1"} if library else {}):
        yield library


def allocator_note() -> str:
    """Which allocator this process has, and why."""
    preloaded = os.environ.get(PRELOAD, "")
    if any(name in preloaded for name in ALLOCATORS):
        return f"{preloaded}: it keeps the memory that the next batch needs again"
    return "the system's: libtcmalloc and libjemalloc aren't installed, or weren't preloaded"
