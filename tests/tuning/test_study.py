"""The study that others read, on a real journal."""

import optuna
import pytest
from optuna.trial import TrialState

from search_spaces import get_space, sample
from tuning.study import JOURNAL, StudyLog, journal_storage, new_journal

ALL = get_space("all")


@pytest.fixture
def log(tmp_path) -> StudyLog:
    return StudyLog("test", ALL, journal_storage(tmp_path))


def read(tmp_path) -> optuna.Study:
    return optuna.load_study(study_name="test", storage=journal_storage(tmp_path))


def configuration(seed: int) -> dict:
    import random

    return sample(ALL, random.Random(seed))


def test_every_trial_is_there_with_its_scores_and_its_right_state(log, tmp_path):
    for key, seed in (("a", 1), ("b", 2), ("c", 3), ("d", 4)):
        log.start(key, configuration(seed))
        log.report(key, 1, 0.5)
    log.report("a", 2, 0.9)
    log.end("a", TrialState.COMPLETE, 0.9)
    log.end("b", TrialState.PRUNED)
    log.end("c", TrialState.FAIL)
    assert (tmp_path / JOURNAL).exists()
    trials = read(tmp_path).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "PRUNED", "FAIL", "RUNNING"]
    assert trials[0].intermediate_values == {1: 0.5, 2: 0.9}
    assert read(tmp_path).best_value == 0.9
    assert trials[1].user_attrs == {"trial": "b"}
    for trial, seed in zip(trials, (1, 2, 3, 4), strict=True):
        assert trial.params == configuration(seed)


@pytest.mark.parametrize(
    ("state", "value"),
    [(TrialState.COMPLETE, 0.6), (TrialState.PRUNED, None), (TrialState.FAIL, None), (TrialState.RUNNING, None)],
)
def test_a_trial_that_is_put_back_has_its_values_scores_and_state(log, tmp_path, state, value):
    log.put_back("a", configuration(1), {1: 0.5, 2: 0.6}, state)
    (trial,) = read(tmp_path).trials
    assert (trial.state, trial.value) == (state, value)
    assert trial.params == configuration(1)
    assert trial.intermediate_values == {1: 0.5, 2: 0.6}
    assert trial.user_attrs == {"trial": "a"}
    assert list(log.open) == (["a"] if state is TrialState.RUNNING else [])


def test_a_running_trial_that_is_put_back_goes_on(log, tmp_path):
    log.put_back("a", configuration(1), {1: 0.5}, TrialState.RUNNING)
    log.put_back("b", configuration(2), {}, TrialState.RUNNING)
    log.report("a", 2, 0.8)
    log.end("a", TrialState.COMPLETE, 0.8)
    log.report("b", 1, 0.1)
    log.end("b", TrialState.PRUNED)
    log.start("c", configuration(3))
    trials = read(tmp_path).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "PRUNED", "RUNNING"]
    assert [trial.intermediate_values for trial in trials] == [{1: 0.5, 2: 0.8}, {1: 0.1}, {}]
    assert read(tmp_path).best_value == 0.8


def test_a_new_journal_is_empty_and_does_not_wait_for_the_lock_of_a_killed_search(log, tmp_path):
    log.start("a", configuration(1))
    lock = tmp_path / f"{JOURNAL}.lock"
    lock.symlink_to(tmp_path / JOURNAL)  # as Optuna's
    again = StudyLog("test", ALL, new_journal(tmp_path))
    assert not lock.is_symlink()
    assert again.study.trials == []
    again.start("b", configuration(2))
    assert [trial.user_attrs["trial"] for trial in read(tmp_path).trials] == ["b"]
