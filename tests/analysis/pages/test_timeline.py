"""What each slot did when."""

import pytest

from analysis.pages.records import read_search
from analysis.pages.timeline import blocks, slot_steps, timeline_section, totals


def test_slots_follow_the_processes_and_gaps_within_one_are_waiting(write_trial, record):
    def ran(epoch, end, pid):
        return record(epoch, timestamp=end, pid=pid, hostname="a", seconds_checkpoint=1.0)

    write_trial("0001-a", [ran(1, 104, 7), ran(2, 110, 7)])
    folder = write_trial("0002-b", [ran(1, 106, 8), ran(2, 1000, 9)]).parent
    timed = slot_steps(read_search(folder).steps)
    assert list(zip(timed["trial"], timed["slot"], strict=True)) == [
        ("0001-a", 1), ("0001-a", 1), ("0002-b", 1), ("0002-b", 2),
    ]  # fmt: skip
    assert totals(timed) == {"training": 8, "evaluation": 4, "checkpointing": 4, "waiting": 2}
    shown = blocks(timed)
    assert shown["start"].min() == 0
    assert shown["length"].sum() == 18


def test_many_steps_are_summed_up_without_losing_time(made_up, monkeypatch):
    monkeypatch.setattr("analysis.pages.timeline.MOST_BLOCKS", 20)
    search = read_search(made_up)
    timed = slot_steps(search.steps)
    shown = blocks(timed)
    assert len(shown) < 4 * 40
    assert shown["length"].sum() == pytest.approx(sum(totals(timed).values()))
    assert timed["slot"].nunique() == 8
    assert "A block of the plot sums up" in timeline_section(search).caption


def test_without_times_the_section_says_so(write_trial, record):
    section = timeline_section(read_search(write_trial("0001-a", [record(1)]).parent))
    assert section.caption == "No record says yet when its step ended."
