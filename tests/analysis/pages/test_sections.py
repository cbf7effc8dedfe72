"""The smaller parts of the page: answer, architectures, failures, reproduction, words and the page itself."""

import pandas as pd
import plotly.graph_objects as go
import pytest

from analysis.pages import text
from analysis.pages.answer import answer
from analysis.pages.architectures import architectures_section, architectures_table
from analysis.pages.failures import failures_section
from analysis.pages.page import render_page
from analysis.pages.records import read_search
from analysis.pages.reproduce import reproduce_section
from analysis.pages.section import Section

HOSTILE = "</script><script>alert(1)</script>"


def test_the_answer_tells_best_trial_cost_and_what_to_do_next(write_trial, record):
    folder = write_trial("0001-a", [record(1, 0.25), record(2, 0.75)]).parent
    told = answer(read_search(folder))
    assert [(fact.label, fact.value) for fact in told.facts] == [("Best trial", "75.0 %"), ("Cost", "0.1 slot minutes")]
    assert told.status == "The search was interrupted: 1 trial, 2 epochs."
    assert told.commands[0][1] == f"python -m analysis.export {folder}"
    running = answer(read_search(folder)._replace(running=True))
    assert running.status == "The search is running: 1 trial, 2 epochs so far."
    broken = answer(read_search(folder)._replace(problem="ensemble.json: schema version 1"))
    assert broken.todo == "The ensemble can't be used: ensemble.json: schema version 1."


def test_the_answer_counts_passes_over_the_images(write_trial, record):
    write_trial("0001-a", [record(0.25, 0.25), record(0.5, 0.75)])
    search = read_search(write_trial("0002-b", [record(0.25, 0.5)]).parent)
    told = answer(search._replace(facts={"plan": {"epochs": 2.5, "steps": 10}}))
    assert told.status == "The search was interrupted: 2 trials, 0.75 epochs."
    assert [fact.note for fact in told.facts] == ["0001-a on select, epoch 0.5 of 2.5", "0.75 epochs of 2 trials"]


def test_the_answer_of_an_ensemble_begins_with_holdout(experiment, exported):
    told = answer(read_search(experiment)._replace(manifest=exported.manifest))
    labels = [fact.label for fact in told.facts]
    assert labels == ["Accuracy on holdout", "Ensemble", "Expected optimism", "Best trial", "Cost"]
    assert told.facts[0].value == text.share(exported.manifest.holdout.top1)
    assert f"{experiment}/ensemble IMAGES -o predictions.csv" in told.commands[0][1]


def test_without_a_score_there_is_nothing_to_export(write_trial):
    told = answer(read_search(write_trial("0001-a", []).parent))
    assert told.facts[0].value == "none yet"
    assert told.todo.startswith("No trial has a score, so there is nothing to export.")


def test_architectures_come_best_first_with_what_they_cost(write_trial, record):
    write_trial("0001-a", [record(1, 0.5)], arch="one", epochs=1)
    write_trial("0002-b", [record(1, 0.7, seconds_train=9.0)], arch="two", epochs=1)
    (write_trial("0003-c", [record(1, 0.1)], arch="two", epochs=1) / "failure.txt").write_text("x")
    folder = write_trial("0004-d", [], arch="three").parent
    table = architectures_table(read_search(folder)).set_index("arch")
    assert list(table.index) == ["two", "one", "three"]
    assert list(table.loc["two", ["trials", "survived", "failed", "best"]]) == [2, 1, 1, 0.7]
    assert list(table["seconds"].fillna(0)) == [6.5, 3, 0]
    assert "the quickest, one, 3 s" in architectures_section(read_search(folder)).caption


def test_architectures_compare_by_what_an_epoch_takes_whatever_a_step_is(write_trial, record):
    write_trial("0001-a", [record(0.25, 0.5), record(0.5, 0.5), record(0.6, 0.5)], arch="one")
    folder = write_trial("0002-b", [record(4, 0.7), record(8, 0.7)], arch="two").parent
    table = architectures_table(read_search(folder)).set_index("arch")
    assert table["seconds"].to_dict() == pytest.approx({"one": 12, "two": 0.75})
    assert table["hours"].to_dict() == pytest.approx({"one": 9 / 3600, "two": 6 / 3600})


def test_failures_have_the_first_line_of_their_reason(write_trial, record):
    for name, reason in (("0001-a", f"{HOSTILE}\nmore\n"), ("0002-b", "x" * 999), ("0003-c", "")):
        (write_trial(name, [record(1)]) / "failure.txt").write_text(reason)
    folder = write_trial("0004-d", [record(1, diverged=True, done=True)]).parent
    section = failures_section(read_search(folder))
    reasons = list(section.table["reason"])
    assert reasons[0] == HOSTILE
    assert reasons[1] == "x" * 300 + "…"
    assert reasons[2] == "no reason was written"
    assert reasons[3].startswith("the loss stopped being finite")
    assert section.caption.startswith("3 trials failed, 1 diverged, of 4.")


def test_the_commands_can_be_pasted_also_those_of_resumptions(write_trial, record):
    search = read_search(write_trial("0001-a", [record(1)]).parent)
    facts = {"command": ["run.py", "--name", "a b", "<x>"], "resumed": [{"command": ["run.py", "--resume", "a"]}]}
    section = reproduce_section(search._replace(facts=facts))
    assert (
        "python -m tuning.run --name &#x27;a b&#x27; &#x27;&lt;x&gt;&#x27;\npython -m tuning.run --resume a"
        in section.html
    )
    assert reproduce_section(search).caption == "experiment.json holds no command."


def test_what_comes_from_files_cant_break_out_of_the_page():
    figure = go.Figure(go.Bar(x=[1], y=[HOSTILE]))
    table = pd.DataFrame({HOSTILE: [HOSTILE, "\x1b[31m"]})
    page = render_page(HOSTILE, [Section("a", HOSTILE, HOSTILE, figure, table=table)], "analysis.report")
    assert HOSTILE not in page
    assert "\x1b" not in page


def test_a_long_table_is_cut_and_a_wide_figure_may_scroll():
    figure = go.Figure(go.Bar(x=[1], y=[1]), layout={"meta": {"min_width": 700}})
    page = render_page("x", [Section("a", "A", "a", figure, table=pd.DataFrame({"n": range(350)}))], "analysis.report")
    assert "and 50 more rows" in page
    assert "min-width: 700px" in page


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (text.share(0.9333), "93.3 %"), (text.share(float("nan")), "-"), (text.points(0.021), "+2.1 points"),
        (text.slot_time(90), "1.5 slot minutes"), (text.slot_time(5400), "1.5 slot hours"),
        (text.count(1, "trial"), "1 trial"), (text.count(1200, "trial"), "1,200 trials"), (text.listed([]), ""),
        (text.count(1.0, "epoch"), "1 epoch"), (text.count(12.5, "epoch"), "12.5 epochs"),
        (text.count(0.25, "epoch"), "0.25 epochs"), (text.compact(1 / 3), "0.333"), (text.compact(1234.56), "1,235"),
        (text.compact(0.1 + 0.2), "0.3"), (text.compact(12.0), "12"), (text.compact(10**6), "1,000,000"),
        (text.listed(["a", "b", "c"]), "a, b and c"), (text.plot_text("<b>\x1b"), "&lt;b&gt;\\x1b"),
    ],
)  # fmt: skip
def test_numbers_and_names_as_the_page_writes_them(written, expected):
    assert written == expected
