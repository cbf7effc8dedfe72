"""Outputs that are whole or not there, and what can't be written."""

import errno
import os
import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from analysis.outputs import check_writable, write_output
from trainable.errors import UsageError, UserError


def fail_half_way(file: BinaryIO) -> None:
    file.write(b"half")
    raise KeyboardInterrupt


def test_a_file_is_as_it_was_where_writing_fails(tmp_path: Path) -> None:
    output = tmp_path / "x.csv"
    output.write_text("earlier")
    with pytest.raises(KeyboardInterrupt):
        write_output(str(output), "-o", fail_half_way)
    assert output.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [output]
    write_output(str(output), "-o", lambda file: file.write(b"new"))
    assert output.read_text() == "new"
    assert list(tmp_path.iterdir()) == [output]


def test_stdout_stays_open(capfd: pytest.CaptureFixture[str]) -> None:
    write_output("-", "-o", lambda file: file.write(b"rows"))
    print("more")
    assert capfd.readouterr().out == "rowsmore\n"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    check_writable(str(pipe), "-o")
    write_output(str(pipe), "-o", lambda file: file.write(b"rows"))
    reader.join(timeout=10)
    assert read == [b"rows"]
    assert pipe.is_fifo()


def test_a_full_disk_is_told_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^-o /dev/full: the disk is full; make room"):
        write_output("/dev/full", "-o", lambda file: file.write(b"rows"))


def test_a_full_disk_leaves_no_file(tmp_path: Path) -> None:
    def fill(_: BinaryIO) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match="the disk is full"):
        write_output(str(tmp_path / "x.csv"), "-o", fill)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_an_error_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"^-o .*none/x\.csv: can't be written \(.*none is no folder\); give another"):
        check_writable(str(tmp_path / "none" / "x.csv"), "-o")
    with pytest.raises(UsageError, match=rf"^--confusion {tmp_path}: can't be written \(is a folder\); give a file"):
        check_writable(str(tmp_path), "--confusion")
    monkeypatch.setattr(os, "access", lambda *_: False)  # permissions don't hold for root, whom tests may run as
    with pytest.raises(UsageError, match="may not be written to"):
        check_writable(str(tmp_path / "x.csv"), "-o")


def test_a_name_that_is_too_long_is_an_error_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="x: the name is too long; give a shorter one"):
        write_output(str(tmp_path / ("x" * 300)), "-o", fail_half_way)
