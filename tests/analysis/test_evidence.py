"""The evidence file: written, read, and refused where it isn't what was written."""

from pathlib import Path

import numpy as np
import pytest

from analysis.evidence import EVIDENCE, Evidence, SplitEvidence, read_evidence, write_evidence
from trainable.errors import UserError


def split(images: int, seed: int) -> SplitEvidence:
    generator = np.random.default_rng(seed)
    files = tuple(f"val/é{index}.png" for index in range(images))
    logits = generator.normal(size=(2, images, 3)).astype(np.float16)
    return SplitEvidence(files, generator.integers(0, 3, images), logits, logits[0])


def test_it_reads_back_as_it_was_written(tmp_path: Path) -> None:
    write_evidence(Evidence(split(4, 0), split(6, 1)), tmp_path)
    found = read_evidence(tmp_path)
    for name, expected in (("select", split(4, 0)), ("holdout", split(6, 1))):
        part = getattr(found, name)
        assert part.files == expected.files
        for field in ("labels", "logits", "single"):
            np.testing.assert_array_equal(getattr(part, field), getattr(expected, field))


def test_parts_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    write_evidence(Evidence(split(4, 0), split(6, 1)._replace(labels=np.zeros(5, np.int64))), tmp_path)
    with pytest.raises(UserError, match="its arrays of holdout don't fit each other"):
        read_evidence(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive"])
def test_a_damaged_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / EVIDENCE).write_bytes(content)
    with pytest.raises(UserError, match=r"evidence\.npz: can't be read .*; export it again"):
        read_evidence(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evidence\.npz: can't be read"):
        read_evidence(tmp_path)
