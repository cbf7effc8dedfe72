"""What the display computes and how it reads."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from trainable import metrics
from tuning.decisions import DecisionLog
from tuning.engine import Decision
from tuning.past import FAILURE, read_past
from tuning.progress import Progress, TrialView, best_epoch, trial_state
from tuning.storage import create_experiment


def view(name: str, *top1: float) -> TrialView:
    return TrialView(name, "swin_tiny", "running", dict(enumerate(top1, start=1)))


TRIALS = [view("a", 0.5, 0.7, 0.8), view("b", 0.6), view("c", 0.9, 0.95), view("d", 0.1)]


def test_the_best_epoch_is_the_highest_and_the_first_of_equals():
    assert best_epoch(TRIALS)[2:] == (2, 0.95)
    assert best_epoch([view("a", 0.5), view("b", 0.5)]).name == "a"
    assert best_epoch([]) is None


@pytest.mark.parametrize(
    ("status", "complete", "diverged", "state"),
    [
        ("PENDING", False, False, "pending"),
        ("RUNNING", False, False, "running"),
        ("PAUSED", False, False, "paused"),
        ("TERMINATED", False, False, "stopped"),
        ("TERMINATED", True, False, "finished"),
        ("TERMINATED", False, True, "diverged"),
        ("ERROR", False, False, "failed"),
    ],
)
def test_states_are_in_the_users_terms(status, complete, diverged, state):
    assert trial_state(status, complete, diverged) == state


class FakeTrial(SimpleNamespace):
    def __str__(self) -> str:
        return self.trial_name


@pytest.fixture
def plan(make_plan, tmp_path):
    """Of a search that has decided already: 1 was the better of two at rung 1."""
    plan = make_plan(output=tmp_path, time_budget_s=100)
    plan.folder.mkdir()
    log = DecisionLog(plan.folder)
    log.add(Decision("start", "1", 0, "drawn at random", 1))
    log.add(Decision("pause", "2", 1, "waits at rung 1", score=0.4))
    log.add(Decision("promote", "1", 1, "the most promising", 2, 0.5, 1, 0.25))
    return plan


def test_lines_tell_the_same_facts_where_there_is_no_terminal(plan):
    out = io.StringIO()
    progress = Progress(plan, 16, "http://127.0.0.1:8265", Console(file=out, width=200))
    trial = FakeTrial(
        trial_id="1", trial_name="0001-swin_tiny", status="RUNNING", config={"arch": "swin_tiny", "lr": 0.001}
    )
    trial.last_result = None
    progress.on_trial_start(0, [trial], trial)
    record = {
        metrics.EPOCH: 1,
        metrics.SCORE: 0.5,
        metrics.TRAIN_LOSS: 1.0,
        metrics.SELECT_LOSS: 2.0,
        metrics.IMAGES_PER_SECOND: 100,
    }
    progress.on_trial_result(0, [trial], trial, record)
    progress.on_trial_complete(0, [trial], trial)
    text = out.getvalue()
    assert "0001-swin_tiny starts: arch swin_tiny, lr 0.001" in text
    assert "epoch 1/4: top-1 50.0%" in text
    assert "0001-swin_tiny stopped after epoch 1" in text
    summary = "\n".join(progress.summary())
    assert "1 stopped of 8 trials" in summary
    assert "rung 1: 2 reached, best 50.0%, 1 went on, the worst at 50.0%" in summary
    assert "1 of about 16 epochs" in summary


def test_the_live_display_shows_dashboard_rungs_best_and_budget(plan):
    out = io.StringIO()
    console = Console(file=out, width=120)
    progress = Progress(plan, 16, "http://127.0.0.1:8265", console)
    progress.trials = {trial.name: trial for trial in TRIALS}
    console.print(progress.render())
    text = out.getvalue()
    for fact in ("http://127.0.0.1:8265", "rung (epochs)", "95.0% by c at epoch 2", "7 of about 16 epochs", "left"):
        assert fact in text
    assert "last decision: 1 promotes, to epoch 2: the most promising (expected improvement 0.250)" in text


def test_a_broken_trial_is_said_to_be_tried_again_until_it_has_failed(make_plan, tmp_path):
    out, plan = io.StringIO(), make_plan(output=tmp_path)
    folder = plan.folder / "0001-vit"
    folder.mkdir(parents=True)
    progress = Progress(plan, 16, "none", Console(file=out, width=200))
    (tmp_path / "error.txt").write_text("Failure # 1 (occurred at 2026-11-24)\nTraceback\nValueError: boom\n")
    trial = FakeTrial(trial_id="1", trial_name="0001-vit", status="ERROR", config={}, last_result=None)
    trial.error_file = str(tmp_path / "error.txt")
    progress.on_trial_error(0, [trial], trial)
    assert "0001-vit broke and is tried again: ValueError: boom" in out.getvalue()
    assert progress.trials["1"].state == "pending"
    (folder / FAILURE).write_text("ValueError: boom")
    progress.on_trial_error(0, [trial], trial)
    assert "0001-vit failed: ValueError: boom" in out.getvalue()
    assert progress.trials["1"].state == "failed"
    progress.on_trial_recover(0, [trial], trial)
    assert out.getvalue().count("broke and is tried again") == 2


def test_the_trials_of_an_interrupted_search_are_shown_as_they_stand(make_plan, tmp_path, leave_trial):
    plan = make_plan(output=tmp_path)
    create_experiment(plan, {})
    for number, last in enumerate(({}, {"done": True}, {"done": True, metrics.DIVERGED: True}, {}), 1):
        leave_trial(plan.folder, number, {"arch": "vit"}, [0.1, 0.2], **last)
    leave_trial(plan.folder, 5, {"arch": "vit"}, [0.1, 0.2, 0.3, 0.4], done=True)
    (plan.folder / "0004-vit" / FAILURE).write_text("ValueError")
    progress = Progress(plan, 16, "none", Console(quiet=True))
    progress.remember(read_past(plan.folder, "abc"))
    assert [view.state for view in progress.trials.values()] == [
        "paused",
        "stopped",
        "diverged",
        "failed",
        "finished",
    ]
    assert best_epoch(list(progress.trials.values())) == ("0005-vit", "vit", 4, 0.4)
    assert "12 of about 16 epochs" in progress.budget_line()
