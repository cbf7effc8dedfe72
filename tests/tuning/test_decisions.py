"""The file of decisions, and the rungs that follow from it."""

from hypothesis import given
from hypothesis import strategies as st

from tuning.decisions import DecisionLog, RungRow, rung_table
from tuning.engine import Decision, Engine
from tuning.halving import Halving


def test_what_is_new_is_read_once_and_a_half_written_line_waits(tmp_path):
    log, reader = DecisionLog(tmp_path), DecisionLog(tmp_path)
    assert reader.read_new() == []
    decisions = [Decision("start", "a", 0, "first", 1), Decision("pause", "a", 1, "waits", score=0.5)]
    log.add(decisions[0])
    assert reader.read_new() == decisions[:1]
    whole = log.path.read_text()
    log.add(decisions[1])
    both = log.path.read_text()
    log.path.write_text(both[:-9])
    assert reader.read_new() == []
    log.path.write_text(both)
    assert reader.read_new() == decisions[1:]
    assert both.startswith(whole)
    assert DecisionLog(tmp_path).read_new() == decisions


def test_what_was_decided_before_the_record_was_written_is_left_out(tmp_path):
    log = DecisionLog(tmp_path)
    decisions = [
        Decision("start", "a", 0, "first", 1),
        Decision("start", "no folder", 0, "second", 1),
        Decision("pause", "a", 1, "waits"),
        Decision("promote", "a", 1, "best", 2),
        Decision("start", "b", 0, "third", 1),
        Decision("pause", "b", 1, "not recorded"),
        Decision("pause", "a", 2, "waits"),
    ]
    for decision in decisions:
        log.add(decision)
    assert log.keep({"a": {1: 0.5, 2: 0.6}, "b": {}}) == {("a", 0): 0, ("a", 1): 1, ("b", 0): 3, ("a", 2): 4}
    kept = [decisions[index] for index in (0, 2, 3, 4, 6)]
    assert DecisionLog(tmp_path).read_new() == kept
    log.add(decisions[0])
    assert DecisionLog(tmp_path).read_new() == [*kept, decisions[0]]


def test_a_line_that_cannot_be_read_is_left_out_and_no_file_is_no_decision(tmp_path):
    log = DecisionLog(tmp_path)
    assert log.keep({"a": {}}) == {}
    whole = Decision("start", "a", 0, "first", 1)
    log.add(whole)
    with log.path.open("a") as file:
        file.write('[]\n{"trial": "a"}\n{"kind": "pause", "trial": "a", "epo')
    assert log.keep({"a": {1: 0.5}}) == {("a", 0): 0}
    assert DecisionLog(tmp_path).read_new() == [whole]


def test_the_rung_table_counts_who_reached_and_who_went_on():
    decisions = [
        Decision("start", "a", 0, "", 1),
        Decision("pause", "a", 1, "", score=0.5),
        Decision("promote", "b", 1, "", 2, 0.6),
        Decision("promote", "a", 1, "", 2, 0.5),
        Decision("stop", "b", 2, "", score=0.7),
    ]
    assert rung_table(decisions, [1, 2, 4]) == [RungRow(1, 2, 2, 0.6, 0.5), RungRow(2, 1, 0, 0.7, None)]


@given(trials=st.integers(1, 30), slots=st.integers(1, 4))
def test_the_table_agrees_with_the_engine(numbered, simulate, quality, trials, slots):
    decisions = []
    engine = Engine(Halving(numbered(), [1, 2, 4, 8], 2), [1, 2, 4, 8], trials=trials, note=decisions.append)
    simulate(engine, slots, quality)
    for row in rung_table(decisions, engine.rungs):
        reached = [trial.curve[row.step] for trial in engine.trials.values() if row.step in trial.curve]
        assert (row.reached, row.best) == (len(reached), max(reached))
        assert row.went_on == sum(trial.steps > row.step for trial in engine.trials.values())
