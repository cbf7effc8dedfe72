"""Optuna through Ray's searcher, on a real journal."""

from pathlib import Path
from typing import get_args

import optuna
import pytest
from ray.tune.search import ConcurrencyLimiter

from search_spaces import contains, get_space, narrow
from trainable import metrics
from tuning.first import published_configurations, read_configuration
from tuning.past import PARAMS, read_past
from tuning.plan import Sampler
from tuning.searcher import ResumingGenerator, make_searcher
from tuning.storage import create_experiment, experiment_id
from tuning.study import JOURNAL, journal_storage


@pytest.mark.parametrize("sampler", get_args(Sampler))
def test_proposals_lie_in_the_space_and_the_first_are_the_plans(make_plan, tmp_path, monkeypatch, sampler):
    slow_s = "ray.tune.search.optuna.optuna_search.DEFINE_BY_RUN_WARN_THRESHOLD_S"
    monkeypatch.setattr(slow_s, 60)  # the Gaussian process, which isn't part of the space that Ray warns of
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


@pytest.fixture
def plan(make_plan, tmp_path):
    """Of an experiment whose folder is there."""
    plan = make_plan(output=tmp_path, scheduler="asha-stop", epochs=2)
    create_experiment(plan, {})
    return plan


def past_of(plan):
    return read_past(plan.folder, experiment_id(plan.folder))


def proposal(plan, lr: float) -> dict:
    return read_configuration(plan.space, f"lr={lr}") | {"epochs": plan.epochs, "data": "images"}


def test_a_resumed_search_goes_on_with_its_study(plan, leave_trial):
    leave_trial(plan.folder, 1, proposal(plan, 1e-3), [0.4, 0.5], done=True)
    leave_trial(plan.folder, 2, proposal(plan, 1e-4), [0.3], done=True)
    leave_trial(plan.folder, 3, proposal(plan, 2e-3), [0.6])
    failed = leave_trial(plan.folder, 4, proposal(plan, 3e-3), [])
    (failed / "failure.txt").write_text("ValueError")
    past = past_of(plan)
    searcher = make_searcher(plan, plan.folder, past)
    searcher.on_trial_result(past[2].key, {metrics.SCORE: 0.7, "training_iteration": 2})
    searcher.on_trial_complete(past[2].key, {metrics.SCORE: 0.7, "training_iteration": 2})
    searcher.suggest("new")
    trials = optuna.load_study(study_name="test", storage=journal_storage(plan.folder)).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "PRUNED", "COMPLETE", "FAIL", "RUNNING"]
    assert [trial.value for trial in trials] == [0.5, None, 0.7, None, None]
    assert [trial.intermediate_values for trial in trials] == [{1: 0.4, 2: 0.5}, {1: 0.3}, {1: 0.6, 2: 0.7}, {}, {}]
    assert trials[2].params["lr"] == 2e-3


def test_a_resumed_search_has_its_first_configurations_once(make_plan, tmp_path, leave_trial):
    space = narrow(get_space("swin"), ["batch_size=64"])
    first = [read_configuration(space, f"lr={lr}") for lr in (1e-3, 2e-3)]
    plan = make_plan(space=space, output=tmp_path, first=first)
    create_experiment(plan, {})
    tried = make_searcher(plan, plan.folder).suggest("a")
    assert tried["lr"] == 1e-3
    leave_trial(plan.folder, 1, tried, [0.5])
    resumed = make_searcher(plan, plan.folder, past_of(plan))
    assert resumed.suggest("b")["lr"] == 2e-3
    assert resumed.suggest("c")["lr"] not in (1e-3, 2e-3)


def test_a_resumed_search_does_not_propose_what_it_had_proposed(plan, leave_trial):
    before = make_searcher(plan, plan.folder)
    tried = [before.suggest(str(number)) for number in range(3)]
    for number, config in enumerate(tried, 1):
        leave_trial(plan.folder, number, config, [0.5])
    resumed = make_searcher(plan, plan.folder, past_of(plan))
    new = [resumed.suggest(f"new{number}") for number in range(3)]
    assert not any(config in tried for config in new)


def test_a_trial_that_changes_on_the_way_tells_the_study_no_epochs(make_plan, tmp_path):
    searcher = make_searcher(make_plan(scheduler="pbt"), tmp_path)
    searcher.suggest("a")
    for step in (1, 1, 2):
        searcher.on_trial_result("a", {metrics.SCORE: 0.5, "training_iteration": step})
    searcher.on_trial_complete("a", {metrics.SCORE: 0.5, "training_iteration": 2})
    (trial,) = optuna.load_study(study_name="test", storage=journal_storage(tmp_path)).trials
    assert (trial.value, trial.intermediate_values) == (0.5, {})


def test_trials_that_were_cut_off_go_on_first_and_new_ones_count_on(plan, ray_spec, leave_trial):
    leave_trial(plan.folder, 1, proposal(plan, 1e-3), [0.4, 0.5], done=True)
    unfinished = leave_trial(plan.folder, 2, proposal(plan, 1e-4), [0.3])
    past, spec = past_of(plan), ray_spec(plan)
    limited = ConcurrencyLimiter(make_searcher(plan, plan.folder, past), 2)
    generator = ResumingGenerator(limited, past, plan.folder)
    old = generator.create_trial_if_possible(spec)
    assert old.trial_id == past[1].key
    assert old.checkpoint.path == str(unfinished / "checkpoint_000000")
    assert limited.live_trials == {old.trial_id}
    new = generator.create_trial_if_possible(spec)
    assert str(new).startswith("0003-")
    assert Path(plan.folder, str(new), PARAMS).is_file()
    assert generator.create_trial_if_possible(spec) is None, "two may run"
    generator.on_trial_complete(old.trial_id, {metrics.SCORE: 0.5, "training_iteration": 2})
    assert str(generator.create_trial_if_possible(spec)).startswith("0004-")


def test_a_search_whose_trials_were_only_cut_off_is_not_finished(plan, leave_trial, ray_spec):
    leave_trial(plan.folder, 1, proposal(plan, 1e-4), [0.3])
    past = past_of(plan)
    generator = ResumingGenerator(make_searcher(plan, plan.folder, past), past, plan.folder)
    generator.set_finished()
    assert not generator.is_finished()
    generator.create_trial_if_possible(ray_spec(plan))
    assert generator.is_finished()


def test_nothing_new_begins_where_the_disk_is_full_but_what_was_cut_off_goes_on(plan, leave_trial, ray_spec):
    leave_trial(plan.folder, 1, proposal(plan, 1e-4), [0.3])
    past, full = past_of(plan), [True]
    generator = ResumingGenerator(make_searcher(plan, plan.folder, past), past, plan.folder, lambda: full[0])
    assert str(generator.create_trial_if_possible(ray_spec(plan))).startswith("0001-")
    assert generator.create_trial_if_possible(ray_spec(plan)) is None
    full[0] = False
    assert str(generator.create_trial_if_possible(ray_spec(plan))).startswith("0002-")
