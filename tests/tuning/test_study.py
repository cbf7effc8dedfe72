"""The study that others read, on a real journal."""

import optuna
import pytest
from optuna.trial import TrialState

from search_spaces import get_space, sample
from tuning.study import JOURNAL, StudyLog, journal_storage

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


def test_a_search_that_goes_on_finds_its_running_trials_again(log, tmp_path):
    log.start("a", configuration(1))
    again = StudyLog("test", ALL, journal_storage(tmp_path))
    again.start("a", configuration(1), {1: 0.5})
    again.report("a", 2, 0.6)
    again.end("a", TrialState.COMPLETE, 0.6)
    assert [trial.state.name for trial in read(tmp_path).trials] == ["COMPLETE"]


def test_a_trial_that_goes_on_after_its_search_had_ended_is_a_new_one_with_its_old_scores(log, tmp_path):
    log.start("a", configuration(1))
    log.report("a", 1, 0.5)
    log.end("a", TrialState.PRUNED)
    again = StudyLog("test", ALL, journal_storage(tmp_path))
    again.start("a", configuration(1), {1: 0.5})
    again.report("a", 2, 0.8)
    again.end("a", TrialState.COMPLETE, 0.8)
    old, new = read(tmp_path).trials
    assert (old.state.name, new.state.name) == ("PRUNED", "COMPLETE")
    assert new.intermediate_values == {1: 0.5, 2: 0.8}
    assert new.params == old.params
