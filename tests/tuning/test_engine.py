"""The promotion rule and the engine, without Ray."""

import heapq
import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuning.engine import Action, Engine, Status, TrialState, promotable, rung_levels


class Numbered:
    """Proposes 0, 1, 2, ... and remembers what it was told; at most `size` of them."""

    def __init__(self, size: int = 10**6) -> None:
        self.numbers = iter(range(size))
        self.observed: list[tuple[str, int, float]] = []
        self.forgotten: list[str] = []

    def propose(self, key):
        number = next(self.numbers, None)
        return None if number is None else {"number": number}

    def learn(self, key, values):
        return values

    def observe(self, key, rung, score):
        self.observed.append((key, rung, score))

    def forget(self, key):
        self.forgotten.append(key)


def waiting(key: str, **scores: float) -> TrialState:
    curve = {int(epoch[1:]): score for epoch, score in scores.items()}
    return TrialState(key, {}, max(curve), Status.PAUSED, curve)


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


def test_of_two_at_a_rung_the_better_one_goes_on():
    trials = [waiting("a", e1=0.5), waiting("b", e1=0.7)]
    assert promotable(trials, [1, 2, 4], 2) == (trials[1], 1)
    assert promotable(trials[:1], [1, 2, 4], 2) is None


def test_higher_rungs_go_first():
    low = [waiting("a", e1=0.9), waiting("b", e1=0.8)]
    high = [waiting("c", e1=0.5, e2=0.5), waiting("d", e1=0.4, e2=0.6)]
    assert promotable([*low, *high], [1, 2, 4], 2) == (high[1], 1)


def test_one_that_goes_on_already_counts_among_the_best():
    runs = TrialState("a", {}, 2, Status.RUNNING, {1: 0.9})
    trials = [runs, waiting("b", e1=0.8), waiting("c", e1=0.1)]
    assert promotable(trials, [1, 2], 2) is None
    assert promotable([*trials, waiting("d", e1=0.2)], [1, 2], 2) == (trials[1], 2)


def test_no_trial_goes_on_from_the_last_rung():
    assert promotable([waiting("a", e2=0.9), waiting("b", e2=0.8)], [1, 2], 2) is None


def simulate(engine: Engine, slots: int, score, seed: int = 0) -> list[tuple[str, int]]:
    """Run the engine on a virtual clock: epochs take one to two units; returns (trial, epoch) as they finish."""
    rng = random.Random(seed)
    names, clock, order = map(str, itertools.count()), [], itertools.count()
    done: list[tuple[str, int]] = []

    def fill(now: float) -> None:
        while len(clock) < slots:
            key = engine.next_promotion()
            if key is not None:
                engine.promote()
            else:
                key = next(names)
                if engine.start(key) is None:
                    return
            heapq.heappush(clock, (now + rng.uniform(1, 2), next(order), key))

    fill(0)
    while clock:
        now, _, key = heapq.heappop(clock)
        trial = engine.trials[key]
        epoch = trial.epochs + 1
        done.append((key, epoch))
        if engine.report(key, epoch, score(trial.config["number"], epoch)) is Action.CONTINUE:
            heapq.heappush(clock, (now + rng.uniform(1, 2), next(order), key))
        fill(now)
    return done


def quality(number: int, epoch: int) -> float:
    return ((number * 7919) % 101) / 101 * (1 - 0.5**epoch)


@given(
    trials=st.integers(1, 40),
    slots=st.integers(1, 8),
    first=st.integers(1, 3),
    factor=st.sampled_from([2, 3, 4]),
    longest=st.integers(3, 20),
    seed=st.integers(0, 5),
)
def test_a_search_ends_and_every_trial_has_an_unbroken_sequence_of_epochs(trials, slots, first, factor, longest, seed):
    engine = Engine(Numbered(), rung_levels(first, factor, longest), factor, trials)
    done = simulate(engine, slots, quality, seed)
    assert engine.finished
    assert len(engine.trials) == trials
    for key, trial in engine.trials.items():
        epochs = [epoch for name, epoch in done if name == key]
        assert epochs == list(range(1, len(epochs) + 1))
        assert trial.status in (Status.PAUSED, Status.ENDED)
        assert (trial.status is Status.ENDED) == (trial.epochs == longest)
        assert trial.epochs in engine.rungs


@given(trials=st.integers(2, 60), slots=st.integers(1, 6), factor=st.sampled_from([2, 3, 4]))
def test_whoever_goes_on_is_among_its_rungs_best_share_at_that_moment(trials, slots, factor):
    shares = []

    def note(decision):
        if decision.kind == "promote":
            rung = engine.rungs[engine.rungs.index(decision.epochs) - 1]
            scores = sorted(
                (trial.curve[rung] for trial in engine.trials.values() if rung in trial.curve), reverse=True
            )
            shares.append(decision.rank / len(scores))
            assert engine.trials[decision.trial].curve[rung] == scores[decision.rank - 1]

    engine = Engine(Numbered(), rung_levels(1, factor, 16), factor, trials, note)
    simulate(engine, slots, quality)
    assert all(share <= 1 / factor for share in shares)


def test_on_one_slot_sixteen_epochs_are_spent_on_eight_trials():
    engine = Engine(Numbered(), [1, 2, 4], 2, 8)
    assert len(simulate(engine, 1, lambda number, epoch: 1 - number / 10)) == 8 * 1 + 4 * 1 + 2 * 2


def test_a_trial_that_is_the_next_to_go_on_does_not_pause_first():
    engine = Engine(Numbered(), [1, 2], 2, 5)
    for key in "ab":
        engine.start(key)
    assert engine.report("a", 1, 0.5) is Action.PAUSE
    assert engine.report("b", 1, 0.6) is Action.CONTINUE
    assert engine.trials["b"].target == 2


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_counts_as_the_worst(score):
    engine = Engine(Numbered(), [1, 2], 2, 5)
    engine.start("a")
    engine.report("a", 1, score)
    assert engine.trials["a"].curve == {1: 0.0}
    assert engine.sampler.observed == [("a", 1, 0.0)]


def test_a_space_that_has_no_more_ends_the_search_early():
    engine = Engine(Numbered(size=3), [1, 2], 2, 100)
    simulate(engine, 2, quality)
    assert engine.exhausted
    assert engine.finished
    assert len(engine.trials) == 3


def test_a_failed_trial_frees_its_slot_and_says_nothing_of_its_configuration():
    engine = Engine(Numbered(), [1, 2], 2, 1)
    engine.start("a")
    engine.fail("a", "broke")
    assert engine.running == 0
    assert engine.finished
    assert engine.sampler.forgotten == ["a"]
    assert engine.sampler.observed == []


def test_each_decision_is_noted_with_its_reason():
    notes = []
    engine = Engine(Numbered(), [1, 2], 2, 2, notes.append)
    simulate(engine, 1, lambda number, epoch: 0.5 + number / 10)
    assert [(note.kind, note.trial, note.epochs) for note in notes] == [
        ("start", "0", 1),
        ("pause", "0", 1),
        ("start", "1", 1),
        ("promote", "1", 2),
        ("end", "1", 2),
    ]
    assert notes[3].reason == "in the top 1/2 of the 2 that reached rung 1"
    assert notes[3].rank == 1


@given(trials=st.integers(2, 20), cut=st.integers(1, 60), slots=st.integers(1, 4))
def test_an_engine_put_back_together_decides_as_the_one_that_saw_everything(trials, cut, slots):
    first = Engine(Numbered(), [1, 2, 4, 8], 2, trials)
    simulate(first, slots, quality)
    again = Engine(Numbered(), [1, 2, 4, 8], 2, trials)
    for key, trial in first.trials.items():
        assert again.take_up(key, trial.config, trial.curve, may_go_on=True) is trial.status
    assert again.next_promotion() == first.next_promotion()
    more = Engine(Numbered(), [1, 2, 4, 8], 2, trials + 1)
    for key, trial in first.trials.items():
        more.take_up(key, trial.config, trial.curve, may_go_on=True)
    assert not more.finished


def test_a_trial_cut_off_between_two_rungs_runs_on_to_the_next():
    engine = Engine(Numbered(), [1, 2, 4, 8], 2, 3)
    assert engine.take_up("a", {"number": 1}, {1: 0.5, 2: 0.6, 3: 0.7}, may_go_on=True) is Status.RUNNING
    assert engine.trials["a"].target == 4
    assert engine.take_up("b", {"number": 2}, {}, may_go_on=True) is Status.RUNNING
    assert engine.take_up("c", {"number": 3}, {1: 0.5}, may_go_on=False) is Status.ENDED
    assert engine.sampler.observed == [("a", 1, 0.5), ("a", 2, 0.6), ("c", 1, 0.5)]
