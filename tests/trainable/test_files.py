"""Files of a checkpoint: waiting for those that another process writes."""

import threading
import time
from pathlib import Path

import pytest

from trainable import files
from trainable.files import MODEL, RECORD, wait_until_written


def test_a_checkpoint_is_waited_for_until_its_record_is_there(tmp_path: Path) -> None:
    threading.Timer(0.3, (tmp_path / RECORD).touch).start()
    wait_until_written(tmp_path)
    assert (tmp_path / RECORD).exists()


def test_one_that_grows_is_waited_for_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE_S", 1.0)

    def write() -> None:
        for number in range(6):
            time.sleep(0.3)
            (tmp_path / MODEL).write_bytes(b"x" * number)
        (tmp_path / RECORD).touch()

    threading.Thread(target=write).start()
    wait_until_written(tmp_path)
    assert (tmp_path / RECORD).exists()


def test_one_whose_process_has_ended_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE_S", 0.2)
    (tmp_path / MODEL).write_text("half")
    wait_until_written(tmp_path)
    assert not (tmp_path / RECORD).exists()


def test_one_that_was_deleted_is_not_waited_for(tmp_path: Path) -> None:
    started = time.monotonic()
    wait_until_written(tmp_path / "gone")
    assert time.monotonic() - started < files.PATIENCE_S / 2
