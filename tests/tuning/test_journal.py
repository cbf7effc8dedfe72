"""The journal of a search that goes on, after a crash or in other hands: read, mended or refused in one line."""

import json

import optuna
import pytest

from trainable.errors import UserError
from tuning.study import JOURNAL, journal_storage


@pytest.fixture
def journal(tmp_path):
    """A journal with one complete trial."""
    study = optuna.create_study(storage=journal_storage(tmp_path), study_name="test", direction="maximize")
    study.tell(study.ask(), 0.5)
    return tmp_path / JOURNAL


def add_trial(folder):
    study = optuna.load_study(storage=journal_storage(folder), study_name="test")
    study.tell(study.ask(), 0.6)


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_half_a_line_at_the_end_is_dropped_and_the_next_trial_stays_readable(journal, tmp_path, kept):
    line = b'{"op_code":4,"worker_id":"w","study_id":0,"datetime_start":"2026-11-24T21:00:08.920943+00:00"}'
    journal.write_bytes(journal.read_bytes() + line[:kept])
    add_trial(tmp_path)
    add_trial(tmp_path)
    study = optuna.load_study(storage=journal_storage(tmp_path), study_name="test")
    assert [trial.value for trial in study.trials] == [0.5, 0.6, 0.6]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"garbage\n", r"ValueError: line \d: Expecting value"),
        (b"\xff\xff\n", r"ValueError: line \d: 'utf-8' codec"),
        (b"\0" * 100 + b"\n", r"ValueError: line \d"),
        (b"null\n", "TypeError"),
        (b'{"op_code": 99, "worker_id": "w"}\n', "AssertionError"),
        (b'{"op_code": 4}\n', "KeyError"),
        (b"[" * 100_000 + b"\n", "RecursionError"),
    ],
)
def test_a_line_that_optuna_did_not_write_is_refused_in_one_line(journal, tmp_path, line, reason):
    journal.write_bytes(journal.read_bytes() + line)
    with pytest.raises(
        UserError, match=rf"study\.journal: isn't the journal .*\({reason}.*move this file away"
    ) as caught:
        journal_storage(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [None, [], ["a"], [0.1, 0.2]])
def test_a_complete_trial_without_its_score_is_refused(journal, tmp_path, values):
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    lines[-1]["values"] = values
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match=r"study\.journal: isn't the journal that was written"):
        journal_storage(tmp_path)
