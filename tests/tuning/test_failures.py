"""Why trials break, from Ray's own trial objects and their files."""

from pathlib import Path

import pytest
import ray.exceptions
from ray.tune.experiment import Trial
from ray.tune.experiment.config_parser import _make_parser

from tuning.failures import LOG_TAIL, FailureLog, cause_of, failure_reason, write_failure
from tuning.past import FAILURE
from tuning.ray_trials import NewTrial, make_trial


@pytest.fixture
def trial(make_plan, tmp_path, ray_spec) -> Trial:
    """A trial as Ray's controller holds it, without a running Ray."""
    plan = make_plan(output=tmp_path / "runs")
    plan.folder.mkdir(parents=True)
    trial = make_trial(ray_spec(plan), _make_parser(), NewTrial("abc-0001", 1, {"arch": "vit"}))
    trial.init_local_path()
    return trial


def task_error(error: Exception) -> ray.exceptions.RayTaskError:
    """As a trial's actor raises it: the traceback of the actor is its text."""
    text = f"Traceback (most recent call last):\n  File 'trial.py', line 3, in step\n{type(error).__name__}: {error}\n"
    return ray.exceptions.RayTaskError("step", text, error)


def working_folder(trial: Trial) -> Path:
    """Where Ray writes the trial's output."""
    folder = Path(trial.storage.trial_working_directory)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_the_reason_is_the_exception_of_the_last_failure(trial):
    assert failure_reason(trial) == "no reason was given"
    trial.handle_error(task_error(ValueError("the first")))
    assert failure_reason(trial) == "ValueError: the first"
    trial.handle_error(task_error(OSError("the second, in 2 lines\n  and its hint")))
    assert failure_reason(trial) == "OSError: the second, in 2 lines"


def test_a_process_that_was_killed_has_a_reason_too(trial):
    trial.handle_error(ray.exceptions.ActorDiedError())
    assert "died unexpectedly" in failure_reason(trial)


def test_a_reason_that_is_no_exception_is_the_last_line(trial):
    trial.handle_error("something\nwent wrong\n\n")
    assert failure_reason(trial) == "went wrong"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("OSError: no space left after 3.5 GB", "OSError: no space left after 12 GB"),
        ("ValueError: lr 0.001 is too high", "ValueError: lr 1e-05 is too high"),
        ("ActorDiedError: actor 3f9a21c0 died", "ActorDiedError: actor 77bc died"),
        ("FileNotFoundError: 'a/b.png' is gone", "FileNotFoundError: '/data/c.png' is gone"),
        ("ValueError: row 7 of x/y.npy", "ValueError: row 12 of z/y.npy"),
    ],
)
def test_what_differs_from_trial_to_trial_is_no_part_of_a_cause(one, other):
    assert cause_of(one) == cause_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ValueError: no such image", "OSError: no such image"),
        ("ValueError: no such image", "ValueError: no such class"),
        ("UserError: vit has no attn_drop_rate", "UserError: vit has no drop_rate"),
    ],
)
def test_other_causes_are_told_apart(one, other):
    assert cause_of(one) != cause_of(other)


def test_a_failed_trial_keeps_its_reason_and_the_end_of_its_output(trial):
    trial.handle_error(task_error(ValueError("boom")))
    (working_folder(trial) / "stderr").write_text("".join(f"line {number}\n" for number in range(100)))
    (working_folder(trial) / "stdout").write_text("a few words\n")
    write_failure(trial, Path(trial.path).parent)
    lines = Path(trial.path, FAILURE).read_text().splitlines()
    assert lines[0] == "ValueError: boom"
    assert lines[1:3] == ["--- the end of stderr", f"line {100 - LOG_TAIL}"]
    assert lines[LOG_TAIL + 1 :] == ["line 99", "--- the end of stdout", "a few words"]


def test_output_that_is_no_text_is_kept_as_far_as_it_can_be_read(trial):
    (working_folder(trial) / "stderr").write_bytes(b"\xff\xfe broken\n")
    write_failure(trial, Path(trial.path).parent)
    assert " broken" in Path(trial.path, FAILURE).read_text()


def test_where_ray_decides_which_failures_are_final_the_reason_is_kept_too(trial):
    trial.handle_error(task_error(ValueError("boom")))
    FailureLog(Path(trial.path).parent).on_trial_error(0, [trial], trial)
    assert Path(trial.path, FAILURE).read_text() == "ValueError: boom\n"
