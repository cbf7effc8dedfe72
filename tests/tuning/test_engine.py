"""What the engine keeps, whatever its policy: statuses, budgets, first configurations, what is noted and put back."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuning.engine import Action, Engine, Status, rung_levels
from tuning.halving import Halving


@pytest.fixture
def make_engine(numbered):
    def make(rungs, *, size=10**6, **limits):
        return Engine(Halving(numbered(size), rungs, 2), rungs, **limits)

    return make


def test_rungs_grow_by_the_factor_and_end_at_the_full_length():
    assert rung_levels(1, 2, 8) == [1, 2, 4, 8]
    assert rung_levels(1, 2, 6) == [1, 2, 4, 6]
    assert rung_levels(3, 3, 30) == [3, 9, 27, 30]
    assert rung_levels(4, 2, 4) == [4]


@given(first=st.integers(1, 20), factor=st.floats(1.1, 5), longest=st.integers(1, 400))
def test_rungs_rise_from_the_first_to_the_full_length(first, factor, longest):
    first = min(first, longest)
    levels = rung_levels(first, factor, longest)
    assert levels == sorted(set(levels))
    assert levels[0] == first
    assert levels[-1] == longest


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_counts_as_the_worst(make_engine, score):
    engine = make_engine([1, 2])
    engine.start("a")
    engine.report("a", 1, score)
    assert engine.trials["a"].curve == {1: 0.0}
    assert engine.policy.sampler.observed == [("a", 1, 0.0)]


def test_a_space_that_has_no_more_ends_the_search_early(make_engine, simulate, quality):
    engine = make_engine([1, 2], size=3, trials=100)
    simulate(engine, 2, quality)
    assert engine.exhausted
    assert engine.finished
    assert len(engine.trials) == 3


def test_a_failed_trial_frees_its_slot_and_says_nothing_of_its_configuration(make_engine):
    engine = make_engine([1, 2], trials=1)
    engine.start("a")
    engine.fail("a", "broke")
    assert engine.running == 0
    assert engine.finished
    assert engine.policy.sampler.forgotten == ["a"]
    assert engine.policy.sampler.observed == []


def test_what_is_to_be_tried_first_comes_before_anything_else(make_engine):
    engine = make_engine([1, 2], first=[{"number": 70}, {"number": 80}])
    assert engine.start("a") == {"number": 70}
    engine.report("a", 1, 0.5)
    assert engine.start("b") == {"number": 80}
    assert engine.report("b", 1, 0.4) is Action.PAUSE
    assert engine.next_move().key == "a"


def test_a_move_stays_until_something_new_is_known(make_engine):
    engine = make_engine([1, 2])
    engine.start("a")
    engine.start("b")
    engine.report("a", 1, 0.5)
    move = engine.next_move()
    assert engine.next_move() is move
    engine.fail("b", "broke")
    assert engine.next_move() is not move


@given(trials=st.integers(1, 30), slots=st.integers(1, 5), budget=st.integers(1, 60))
def test_a_search_never_uses_more_epochs_than_it_may(numbered, simulate, quality, trials, slots, budget):
    rungs = [1, 2, 4, 8]
    engine = Engine(Halving(numbered(), rungs, 2), rungs, trials=trials, steps=budget)
    assert len(simulate(engine, slots, quality)) <= budget
    assert engine.finished


def test_a_closed_search_lets_epochs_end_and_begins_nothing(make_engine):
    notes = []
    engine = make_engine([2, 4], note=notes.append)
    engine.start("a")
    engine.start("b")
    engine.close("the time budget is used up")
    assert engine.start("c") is None
    assert engine.report("a", 1, 0.5) is Action.STOP
    assert not engine.finished
    assert engine.report("b", 1, 0.6) is Action.STOP
    assert engine.finished
    assert notes[-1].kind == "stop"
    assert notes[-1].reason == "the time budget is used up"


@given(trials=st.integers(2, 20), slots=st.integers(1, 4))
def test_an_engine_put_back_together_decides_as_the_one_that_saw_everything(
    numbered, simulate, put_back, quality, trials, slots
):
    rungs = [1, 2, 4, 8]
    first = Engine(Halving(numbered(), rungs, 2), rungs, trials=trials)
    simulate(first, slots, quality)
    again = Engine(Halving(numbered(), rungs, 2), rungs, trials=trials)
    more = Engine(Halving(numbered(), rungs, 2), rungs, trials=trials + 1)
    for key, trial in first.trials.items():
        assert put_back(again, key, trial.config, trial.curve) is trial.status
        put_back(more, key, trial.config, trial.curve)
    assert again.next_move() == first.next_move()
    assert not more.finished


def test_a_trial_cut_off_between_two_rungs_runs_on_to_the_next(make_engine, put_back):
    engine = make_engine([1, 2, 4, 8], first=[{"number": 1}, {"number": 5}])
    assert put_back(engine, "a", {"number": 1}, {1: 0.5, 2: 0.6, 3: 0.7}) is Status.RUNNING
    assert engine.trials["a"].target == 4
    assert put_back(engine, "b", {"number": 2}, {}) is Status.RUNNING
    assert put_back(engine, "c", {"number": 3}, {1: 0.5}, may_go_on=False) is Status.ENDED
    assert engine.policy.sampler.observed == [("a", 1, 0.5), ("a", 2, 0.6), ("c", 1, 0.5)]
    assert engine.first == [{"number": 5}], "what an earlier search tried first isn't tried again"


def test_an_epoch_that_is_trained_again_is_not_observed_twice(make_engine):
    engine = make_engine([1, 2, 4])
    engine.start("a")
    engine.start("b")
    engine.report("a", 1, 0.5)
    engine.report("b", 1, 0.4)
    engine.promote()
    assert engine.report("a", 1, 0.5) is Action.CONTINUE, "from an older checkpoint, on its way to rung 2"
    assert engine.policy.sampler.observed == [("a", 1, 0.5), ("b", 1, 0.4)]
    assert engine.report("a", 2, 0.6) is Action.PAUSE
    assert engine.trials["a"].steps == 2


def test_a_trial_whose_checkpoint_is_older_than_its_rung_runs_to_that_rung_again(make_engine):
    notes = []
    engine = make_engine([2, 4], note=notes.append)
    engine.take_up("a", {"number": 1})
    for epoch in (1, 2):
        engine.relearn("a", epoch, epoch / 10)
    assert engine.settle("a", saved=1) is Status.RUNNING
    assert (engine.trials["a"].target, engine.trials["a"].steps) == (2, 2)
    assert engine.report("a", 2, 0.2) is Action.PAUSE
    assert engine.policy.sampler.observed == [("a", 2, 0.2)]
    assert notes[-1].kind == "pause"


def test_a_trial_of_full_length_whose_checkpoint_is_older_is_trained_to_its_end_again(make_engine):
    engine = make_engine([1, 2])
    engine.take_up("a", {"number": 1})
    for epoch in (1, 2):
        engine.relearn("a", epoch, epoch / 10)
    assert engine.settle("a", saved=0) is Status.RUNNING
    assert engine.report("a", 1, 0.1) is Action.CONTINUE
    assert engine.report("a", 2, 0.2) is Action.STOP
    assert engine.policy.sampler.observed == [("a", 1, 0.1), ("a", 2, 0.2)]


def test_a_trial_that_runs_on_from_an_older_checkpoint_counts_no_epoch_twice(make_engine):
    engine = make_engine([2, 4], trials=2, steps=4)
    engine.take_up("a", {"number": 1})
    for epoch in (1, 2):
        engine.relearn("a", epoch, 0.1)
    engine.settle("a", saved=0)
    assert engine.start("b") is not None, "two of the four epochs are left"
    assert engine.start("c") is None


def test_a_trial_that_diverged_between_two_rungs_was_the_worst_at_the_next(make_engine):
    engine = make_engine([2, 4])
    engine.take_up("a", {"number": 1})
    engine.relearn("a", 1, 0.0, diverged=True)
    assert engine.settle("a", None) is Status.ENDED
    assert engine.policy.sampler.observed == [("a", 2, 0.0)]


def test_the_first_trial_runs_to_its_full_length_before_anything_decides_on_it(make_engine):
    engine = make_engine([1, 2, 4], first_in_full=True, first=[{"number": 1}])
    engine.start("a")
    assert [engine.report("a", step, 0.1) for step in (1, 2, 3, 4)] == [*[Action.CONTINUE] * 3, Action.STOP]
    assert engine.policy.sampler.observed == [("a", 1, 0.1), ("a", 2, 0.1), ("a", 4, 0.1)]
    engine.start("b")
    assert engine.report("b", 1, 0.0) is Action.PAUSE


def test_the_first_trial_of_an_interrupted_search_still_runs_in_full(make_engine, put_back):
    engine = make_engine([1, 2, 4], first_in_full=True)
    assert put_back(engine, "a", {"number": 1}, {1: 0.1, 2: 0.2}) is Status.RUNNING
    assert engine.trials["a"].target == 4
    assert put_back(engine, "b", {"number": 2}, {1: 0.1}) is Status.PAUSED


class Clocked:
    """A policy whose steps take as long as the test says."""

    def __init__(self, policy, seconds: float | None) -> None:
        self.policy, self.seconds = policy, seconds

    def __getattr__(self, name):
        return getattr(self.policy, name)

    def step_seconds(self, config, step=0):
        return self.seconds


def test_no_step_begins_that_would_end_after_the_time(make_engine):
    left = [100.0]
    engine = make_engine([1, 8], left=lambda: left[0])
    engine.policy = Clocked(engine.policy, 10.0)
    engine.start("a")
    assert engine.report("a", 1, 0.5) is Action.PAUSE
    engine.start("b")
    engine.report("b", 1, 0.4)
    engine.promote()
    assert engine.report("a", 2, 0.5) is Action.CONTINUE
    left[0] = 9.0
    assert engine.report("a", 3, 0.6) is Action.STOP
    assert engine.trials["a"].status is Status.ENDED


def test_the_trial_that_runs_in_full_is_left_to_the_deadline(make_engine):
    engine = make_engine([1, 8], first_in_full=True, left=lambda: 5.0)
    engine.policy = Clocked(engine.policy, 10.0)
    engine.start("a")
    assert engine.report("a", 6, 0.5) is Action.CONTINUE


def test_a_first_configuration_that_has_no_time_for_its_first_rung_is_left_out(make_engine):
    left = [100.0]
    engine = make_engine([4, 8], first=[{"number": 1}, {"number": 2}, {"number": 3}], left=lambda: left[0])
    engine.policy = Clocked(engine.policy, 10.0)
    assert engine.start("a") == {"number": 1}
    left[0] = 39.0
    engine.report("a", 4, 0.5)
    engine.next_move()
    assert engine.first == []


def test_the_first_of_all_is_tried_whatever_the_time(make_engine):
    engine = make_engine([4, 8], first=[{"number": 1}], left=lambda: 1.0)
    engine.policy = Clocked(engine.policy, 10.0)
    assert engine.start("a") == {"number": 1}


def test_a_step_that_was_cut_short_is_kept_and_costs_as_a_whole_one(make_engine):
    spent = []
    engine = make_engine([4, 8])
    engine.policy.spend = lambda key, seconds, step: spent.append((seconds, step))
    engine.start("a")
    engine.report("a", 1, 0.1, 8.0)
    engine.close("time is up")
    assert engine.report("a", 1.25, 0.2, 2.0) is Action.STOP
    assert engine.trials["a"].curve == {1: 0.1, 1.25: 0.2}
    assert spent == [(8.0, 1), (8.0, 1.25)]


def test_a_trial_that_was_cut_short_continues_to_its_rung(make_engine, put_back):
    engine = make_engine([1, 4, 8])
    assert put_back(engine, "a", {"number": 1}, {1: 0.1, 1.25: 0.2}) is Status.RUNNING
    assert engine.trials["a"].target == 4


PROBES = [{"arch": "a", "freeze": "all"}, {"arch": "b", "freeze": "all"}, {"arch": "c", "freeze": "all"}]
STARTS = [{"arch": arch, "freeze": "none"} for arch in "abcd"]


def probe(engine, key, loss, score=0.5):
    """A probe of this engine starts and ends."""
    engine.start(key)
    engine.trials[key].probe_loss = loss
    return engine.report(key, engine.rungs[-1], score, seconds=3.0)


def test_probes_come_before_the_users_own_and_take_no_steps_of_the_budget(make_engine):
    engine = make_engine([1, 2, 8], first=[{"number": 7}, *PROBES[:2]], starts=[], steps=10)
    assert [probe(engine, key, 0.1) for key in "xy"] == [Action.STOP, Action.STOP]
    assert engine.start("z") == {"number": 7}
    assert engine.trials["z"].target == 1
    assert engine.next_move() is not None  # of ten steps one is used


def test_nothing_is_trained_before_the_probes_are_there(make_engine):
    engine = make_engine([1, 2], first=PROBES[:1], starts=STARTS[:1])
    engine.start("x")
    assert engine.next_move() is None
    assert not engine.finished
    engine.fail("x", "broke")
    assert engine.start("y") == STARTS[0]


def test_fine_tuning_starts_with_the_architectures_of_the_best_probes(make_engine):
    engine = make_engine([1, 2], first=PROBES, starts=STARTS)
    for key, loss in zip("xyz", (0.3, 0.1, 0.2), strict=True):
        probe(engine, key, loss)
    started = [engine.start(f"t{number}") for number in range(4)]
    assert [config.get("arch") for config in started] == ["b", "c", "a", None]  # d has no probe
    assert started[3] == {"number": 0}  # the policy's


def test_the_first_training_in_full_is_not_a_probe_and_has_to_be_in_time(make_engine, monkeypatch):
    left = [100.0]
    engine = make_engine([1, 2, 8], first=PROBES[:2], starts=STARTS[:2], first_in_full=True, left=lambda: left[0])
    seconds = {"a": 20.0, "b": 5.0}
    monkeypatch.setattr(engine.policy, "step_seconds", lambda config, step=0: seconds.get(config.get("arch")))
    probe(engine, "x", 0.1)
    probe(engine, "y", 0.2)
    assert engine.start("t")["arch"] == "b"  # eight steps of the better one would take 160 s
    assert engine.trials["t"].target == 8


def test_a_search_that_is_taken_up_knows_its_probes(make_engine):
    engine = make_engine([1, 2], first=PROBES[:2], starts=STARTS[:2])
    engine.take_up("x", PROBES[0] | {"fixed": 1})
    engine.relearn("x", 2, 0.5, seconds=3.0)
    engine.trials["x"].probe_loss = 0.2
    assert engine.settle("x", 2) is Status.ENDED
    engine.take_up("t", STARTS[1] | {"fixed": 1})
    assert engine.starts == STARTS[:1]
    assert engine.first == PROBES[1:2]


def test_the_seconds_of_a_probe_are_not_shared_out_among_steps(make_engine, monkeypatch):
    engine, told = make_engine([1, 2, 8], first=PROBES[:1]), []
    monkeypatch.setattr(engine.policy, "spend", lambda key, seconds, step: told.append(seconds))
    probe(engine, "x", 0.1)
    assert told == [3.0]


def test_an_architecture_without_a_probe_is_fine_tuned_only_if_none_has_one(make_engine):
    engine = make_engine([1, 2], first=PROBES[:1], starts=STARTS)
    probe(engine, "x", 0.1)
    assert [engine.start(key) for key in "st"] == [STARTS[0], {"number": 0}]
    without = make_engine([1, 2], starts=STARTS)
    assert [without.start(key) for key in "stuv"] == [*STARTS[:3], {"number": 0}]


def test_if_no_fine_tuning_is_in_time_the_search_ends_with_its_probes(make_engine, monkeypatch):
    engine = make_engine([1, 8], first=PROBES[:1], starts=STARTS[:1], first_in_full=True, left=lambda: 30.0)
    monkeypatch.setattr(engine.policy, "step_seconds", lambda config, step=0: 5.0)
    probe(engine, "x", 0.1)
    assert engine.next_move() is None  # eight steps would take 40 s
    assert engine.finished
