"""Successive halving by promotion, without Ray."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuning.engine import Action, Engine, Status, TrialState, rung_levels
from tuning.halving import Halving, promotable


def waiting(key: str, **scores: float) -> TrialState:
    curve = {int(epoch[1:]): score for epoch, score in scores.items()}
    return TrialState(key, {}, max(curve), Status.PAUSED, curve, max(curve))


def halving(sampler, rungs, factor, **limits) -> Engine:
    return Engine(Halving(sampler, rungs, factor), rungs, **limits)


def test_of_two_at_a_rung_the_better_one_goes_on():
    trials = [waiting("a", e1=0.5), waiting("b", e1=0.7)]
    assert promotable(trials, [1, 2, 4], 2) == (trials[1], 1)
    assert promotable(trials[:1], [1, 2, 4], 2) is None


def test_higher_rungs_go_first():
    low = [waiting("a", e1=0.9), waiting("b", e1=0.8)]
    high = [waiting("c", e1=0.5, e2=0.5), waiting("d", e1=0.4, e2=0.6)]
    assert promotable([*low, *high], [1, 2, 4], 2) == (high[1], 1)


def test_one_that_goes_on_already_counts_among_the_best():
    runs = TrialState("a", {}, 2, Status.RUNNING, {1: 0.9}, 1)
    trials = [runs, waiting("b", e1=0.8), waiting("c", e1=0.1)]
    assert promotable(trials, [1, 2], 2) is None
    assert promotable([*trials, waiting("d", e1=0.2)], [1, 2], 2) == (trials[1], 2)


def test_no_trial_goes_on_from_the_last_rung():
    assert promotable([waiting("a", e2=0.9), waiting("b", e2=0.8)], [1, 2], 2) is None


@given(
    trials=st.integers(1, 40),
    slots=st.integers(1, 8),
    first=st.integers(1, 3),
    factor=st.sampled_from([2, 3, 4]),
    longest=st.integers(3, 20),
    seed=st.integers(0, 5),
)
def test_a_search_ends_and_every_trial_has_an_unbroken_sequence_of_epochs(
    simulate, numbered, quality, trials, slots, first, factor, longest, seed
):
    engine = halving(numbered(), rung_levels(first, factor, longest), factor, trials=trials)
    done = simulate(engine, slots, quality, seed)
    assert engine.finished
    assert len(engine.trials) == trials
    for key, trial in engine.trials.items():
        epochs = [epoch for name, epoch in done if name == key]
        assert epochs == list(range(1, len(epochs) + 1))
        assert trial.status in (Status.PAUSED, Status.ENDED)
        assert (trial.status is Status.ENDED) == (trial.steps == longest)
        assert trial.steps in engine.rungs


@given(trials=st.integers(2, 60), slots=st.integers(1, 6), factor=st.sampled_from([2, 3, 4]))
def test_whoever_goes_on_is_among_its_rungs_best_share_at_that_moment(
    simulate, numbered, quality, trials, slots, factor
):
    shares = []

    def note(decision):
        if decision.kind == "promote":
            rung = decision.step
            scores = sorted(
                (trial.curve[rung] for trial in engine.trials.values() if rung in trial.curve), reverse=True
            )
            shares.append(decision.rank / len(scores))
            assert decision.score == scores[decision.rank - 1]
            assert decision.target == engine.next_rung(rung)

    engine = halving(numbered(), rung_levels(1, factor, 16), factor, trials=trials, note=note)
    simulate(engine, slots, quality)
    assert all(share <= 1 / factor for share in shares)


def test_on_one_slot_sixteen_epochs_are_spent_on_eight_trials(simulate, numbered):
    engine = halving(numbered(), [1, 2, 4], 2, trials=8)
    assert len(simulate(engine, 1, lambda number, epoch: 1 - number / 10)) == 8 * 1 + 4 * 1 + 2 * 2


def test_a_trial_that_is_the_next_to_go_on_does_not_pause_first(numbered):
    engine = halving(numbered(), [1, 2], 2)
    for key in "ab":
        engine.start(key)
    assert engine.report("a", 1, 0.5) is Action.PAUSE
    assert engine.report("b", 1, 0.6) is Action.CONTINUE
    assert engine.trials["b"].target == 2


def test_a_promotion_says_why(simulate, numbered):
    notes = []
    engine = halving(numbered(), [1, 2], 2, trials=2, note=notes.append)
    simulate(engine, 1, lambda number, epoch: 0.5 + number / 10)
    assert [(note.kind, note.trial, note.step) for note in notes] == [
        ("start", "0", 0),
        ("pause", "0", 1),
        ("start", "1", 0),
        ("promote", "1", 1),
        ("end", "1", 2),
    ]
    assert notes[3].reason == "in the top 1/2 of the 2 that reached rung 1"
    assert (notes[3].rank, notes[3].target, notes[3].score) == (1, 2, pytest.approx(0.6))


def test_a_promotion_that_the_budget_does_not_reach_gives_way_to_a_new_trial(numbered):
    engine = halving(numbered(), [1, 2, 9], 2, steps=5)
    for key in "ab":
        engine.start(key)
    engine.report("a", 1, 0.5)
    engine.report("b", 1, 0.6)
    engine.report("b", 2, 0.7)
    for key in "cd":
        assert engine.next_move().key is None, "promoting b or c costs more than what is left, or isn't due"
        engine.start(key)
        engine.report(key, 1, 0.1)
    assert engine.finished
    assert sum(trial.steps for trial in engine.trials.values()) == 5
