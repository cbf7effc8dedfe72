"""Which parts of the report a time budget allows."""

from analysis.pages.clock import Clock
from analysis.pages.parts import PNGS, make_parts, report_parts
from analysis.pages.records import read_search


class StoppedClock(Clock):
    """Says no to parts that cost too much, whatever has passed."""

    def fits(self, cost: float) -> bool:
        return cost <= self.budget_s


def keys(sections):
    return [section.key for section in sections]


def test_without_a_budget_all_parts_are_there_in_their_order(made_up):
    made = make_parts(read_search(made_up), Clock(), iter)
    assert keys(made.sections) == [
        "curves", "progress", "importance", "slices", "parallel", "architectures", "time", "failures", "reproduce",
    ]  # fmt: skip
    assert made.left_out == []
    assert made.with_pngs


def test_without_time_answer_curves_and_failures_stay_and_the_rest_is_named_with_the_command(made_up):
    made = make_parts(read_search(made_up), Clock(0.0), iter)
    assert keys(made.sections) == ["curves", "failures", "left-out"]
    assert made.sections[-1].caption == (
        "No time within 0 s: what the search paid for its best, which hyper-parameters mattered, the architectures, "
        "where the time went, how to do it again and the plots as PNG files. This makes the whole report:"
    )
    assert f"<code>python -m analysis.report {made_up}</code>" in made.sections[-1].html
    assert not made.with_pngs


def test_a_part_that_costs_too_much_keeps_no_cheaper_one_out(made_up):
    made = make_parts(read_search(made_up), StoppedClock(1.0), iter)
    assert keys(made.sections) == ["curves", "progress", "architectures", "time", "failures", "reproduce", "left-out"]
    assert made.left_out == ["which hyper-parameters mattered"]
    assert made.with_pngs
    made = make_parts(read_search(made_up), StoppedClock(0.5), iter)
    assert made.left_out == ["which hyper-parameters mattered", PNGS]


def test_a_folder_with_blanks_can_be_pasted_and_cant_break_out_of_the_page(made_up):
    search = read_search(made_up)
    made = make_parts(search._replace(folder=search.folder / "a <b>"), Clock(0.0), iter)
    assert f"python -m analysis.report &#x27;{made_up}/a &lt;b&gt;&#x27;</code>" in made.sections[-1].html


def test_few_trials_and_no_ensemble_cost_little(write_trial, record):
    search = read_search(write_trial("0001-a", [record(1)]).parent)
    assert sum(part.cost for part in report_parts(search)) < 1
    made = make_parts(search, StoppedClock(1.0), iter)
    assert (made.left_out, keys(made.sections)[2]) == ([], "importance")


def test_nothing_to_draw_leaves_no_png_out(write_trial):
    made = make_parts(read_search(write_trial("0001-a", []).parent), Clock(0.0), iter)
    assert PNGS not in made.left_out


def test_an_ensemble_costs_the_more_the_larger_its_evidence(made_up, exported):
    search = read_search(made_up)._replace(manifest=exported.manifest)
    larger = exported.manifest.holdout.model_copy(update={"images": 10**7})
    manifest = exported.manifest.model_copy(update={"holdout": larger})
    parts = {part.what: part.cost for part in report_parts(search)}
    more = {part.what: part.cost for part in report_parts(search._replace(manifest=manifest))}
    assert 1 < parts.pop("the plots of the ensemble") < more.pop("the plots of the ensemble")
    assert parts == more


def test_the_clock_learns_how_slow_the_machine_is(monkeypatch):
    now = iter([0.0, 0.0, 3.0, 3.0, 3.0, 3.0])
    monkeypatch.setattr("analysis.pages.clock.time.monotonic", lambda: next(now))
    clock = Clock(10.0)
    assert clock.pace == 1
    with clock.timed(1.0):
        pass
    assert clock.pace == 3
    assert clock.fits(1.9)  # 3 s have passed, and 1.2 * 3 * 1.9 follow
    assert not clock.fits(2.0)


def test_a_clock_may_have_begun_before(monkeypatch):
    monkeypatch.setattr("analysis.pages.clock.time.monotonic", lambda: 100.0)
    assert Clock(10.0).fits(8.0)
    assert not Clock(10.0, begun=95.0).fits(8.0)
    assert Clock().fits(1e9)
