"""Optuna through Ray's searcher, on a real journal."""

from typing import get_args

import optuna
import pytest

from search_spaces import contains, get_space, narrow
from trainable import metrics
from tuning.first import published_configurations, read_configuration
from tuning.plan import Sampler
from tuning.searcher import make_searcher
from tuning.study import JOURNAL, journal_storage


@pytest.mark.parametrize("sampler", get_args(Sampler))
def test_proposals_lie_in_the_space_and_the_first_are_the_plans(make_plan, tmp_path, sampler):
    space = get_space("all")
    plan = make_plan(space=space, sampler=sampler, first=published_configurations(space)[:2])
    searcher = make_searcher(plan, tmp_path)
    for number in range(12):
        trial_id = str(number)
        proposal = searcher.suggest(trial_id)
        contains(plan.space, proposal)
        assert number > 1 or proposal == plan.first[number]
        result = {metrics.SCORE: number / 12, "training_iteration": 1}
        searcher.on_trial_result(trial_id, result)
        searcher.on_trial_complete(trial_id, result)


def test_the_journal_holds_the_study_for_other_readers(make_plan, tmp_path):
    searcher = make_searcher(make_plan(), tmp_path)
    searcher.suggest("a")
    searcher.on_trial_complete("a", {metrics.SCORE: 0.5, "training_iteration": 1})
    assert (tmp_path / JOURNAL).exists()
    study = optuna.load_study(study_name="test", storage=journal_storage(tmp_path))
    assert study.best_value == 0.5
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE


def test_a_saved_searcher_goes_on_with_its_study(make_plan, tmp_path):
    plan = make_plan()
    searcher = make_searcher(plan, tmp_path)
    searcher.suggest("a")
    searcher.on_trial_complete("a", {metrics.SCORE: 0.5, "training_iteration": 1})
    searcher.suggest("b")
    searcher.save(str(tmp_path / "searcher.pkl"))
    restored = make_searcher(plan, tmp_path, resumed=True)
    restored.restore(str(tmp_path / "searcher.pkl"))
    restored.on_trial_complete("b", {metrics.SCORE: 0.7, "training_iteration": 1})
    restored.suggest("c")
    trials = optuna.load_study(study_name="test", storage=journal_storage(tmp_path)).trials
    assert [trial.value for trial in trials] == [0.5, 0.7, None]


def test_a_resumed_search_has_its_first_configurations_once(make_plan, tmp_path):
    space = narrow(get_space("swin"), ["batch_size=64"])
    plan = make_plan(space=space, first=[read_configuration(space, f"lr={lr}") for lr in (1e-3, 2e-3)])
    assert make_searcher(plan, tmp_path).suggest("a")["lr"] == 1e-3
    resumed = make_searcher(plan, tmp_path, resumed=True)
    assert resumed.suggest("b")["lr"] == 2e-3
    assert resumed.suggest("c")["lr"] not in (1e-3, 2e-3)


def test_a_trial_that_changes_on_the_way_tells_the_study_no_epochs(make_plan, tmp_path):
    searcher = make_searcher(make_plan(scheduler="pbt"), tmp_path)
    searcher.suggest("a")
    for step in (1, 1, 2):
        searcher.on_trial_result("a", {metrics.SCORE: 0.5, "training_iteration": step})
    searcher.on_trial_complete("a", {metrics.SCORE: 0.5, "training_iteration": 2})
    (trial,) = optuna.load_study(study_name="test", storage=journal_storage(tmp_path)).trials
    assert (trial.value, trial.intermediate_values) == (0.5, {})
