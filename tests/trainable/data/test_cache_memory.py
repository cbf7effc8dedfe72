"""However many processes read the decoded images, the machine holds them once."""

import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainable.data.cache import open_cache

PROCESSES = 8
IMAGES, PIXELS = 1200, 128
"""59 MB of decoded images."""

READ_ALL_AND_WAIT = """
import pickle, re, sys

def private_bytes():
    with open("/proc/self/smaps_rollup") as file:
        return sum(1024 * int(kb) for kb in re.findall(r"^Private_\\w+: +(\\d+) kB", file.read(), re.M))

with open(sys.argv[1], "rb") as file:
    cached = pickle.load(file)
before, total = private_bytes(), 0
for start in range(0, len(cached.images), 64):
    total += int(cached.images[start : start + 64].sum(dtype="int64"))
print(total, flush=True)
sys.stdin.readline()
print(private_bytes() - before, flush=True)
sys.stdin.read()
"""


def proportional_bytes(process: int, file: Path) -> int:
    """What of the memory is this process's share of pages of `file`: a page that n processes map counts 1/n."""
    text = Path(f"/proc/{process}/smaps").read_text()
    mappings = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", text, flags=re.M)
    return sum(
        1024 * int(re.search(r"^Pss: +(\d+) kB", mapping, re.M)[1])
        for mapping in mappings
        if mapping.split("\n")[0].endswith(str(file))
    )


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads Linux's /proc")
def test_eight_processes_that_read_all_images_hold_one_copy_of_them(tmp_path, record_property):
    rng = np.random.default_rng(0)
    (tmp_path / "data" / "train" / "noise").mkdir(parents=True)
    (tmp_path / "data" / "train" / "more").mkdir()
    for number in range(IMAGES):
        pixels = rng.integers(0, 256, (PIXELS, PIXELS, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / "train" / ("noise", "more")[number % 2] / f"{number}.bmp")
    cached = open_cache(tmp_path / "data", PIXELS, tmp_path / "cache", progress=False)
    file, size = Path(cached.images.filename), cached.images.nbytes
    expected = int(cached.images.sum(dtype="int64"))
    (tmp_path / "handed over").write_bytes(pickle.dumps(cached))  # as a data worker gets it
    del cached  # this process's mapping would take a share
    command = [sys.executable, "-c", READ_ALL_AND_WAIT, str(tmp_path / "handed over")]
    readers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)
    ]
    try:
        assert [int(reader.stdout.readline()) for reader in readers] == [expected] * PROCESSES
        shares = [proportional_bytes(reader.pid, file) for reader in readers]
        for reader in readers:
            reader.stdin.write("go on\n")
            reader.stdin.flush()
        private = [int(reader.stdout.readline()) for reader in readers]
    finally:
        for reader in readers:
            reader.communicate()
    ratio = sum(shares) / size
    record_property("PSS of 8 processes / size of the images", round(ratio, 3))
    print(f"PSS of {PROCESSES} processes: {ratio:.3f} x the {size / 1e6:.0f} MB of images")
    assert 0.9 < ratio < 1.1
    assert max(private) < 0.2 * size, "a process holds a copy of its own"
