"""Optuna through Ray's searcher, on a real journal."""

import optuna
import pytest

from search_spaces import contains, get_space, narrow
from trainable import metrics
from tuning.searcher import make_searcher
from tuning.study import JOURNAL, journal_storage


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_proposals_lie_in_the_space_and_the_first_is_its_starting_point(make_plan, tmp_path, sampler):
    plan = make_plan(space=get_space("all"), sampler=sampler)
    searcher = make_searcher(plan, tmp_path)
    for number in range(12):
        trial_id = str(number)
        proposal = searcher.suggest(trial_id)
        contains(plan.space, proposal)
        assert (proposal["arch"], proposal["lr"]) == ("resnet18", 0.002) or number > 0
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


def test_a_resumed_search_does_not_start_at_the_starting_point_again(make_plan, tmp_path):
    plan = make_plan(space=narrow(get_space("swin"), ["batch_size=64"]))
    make_searcher(plan, tmp_path).suggest("a")
    assert make_searcher(plan, tmp_path, resumed=True).suggest("b")["lr"] != 0.001
