"""Importances of hyper-parameters, and Optuna's plots of them, from a copy of the study."""

import shutil

import optuna
import pytest

from analysis.pages.importance import importance_sections, importances
from analysis.pages.records import read_search
from analysis.pages.study import comparable, compared_step, read_journal
from benchmarks.analysis_speed import write_experiment
from trainable.errors import UserError


def study_of(score):
    """40 trials of a and b, which vary, and of a fixed one; the score is a function of a and b."""
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(
        lambda trial: (
            score(trial.suggest_float("a", 0, 1), trial.suggest_float("b", 0, 1))
            + 0 * trial.suggest_float("fixed", 1, 1)
        ),
        n_trials=40,
    )
    return study


def test_what_the_score_hangs_on_is_important_and_what_never_varies_is_left_out():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    table = importances(study_of(lambda a, b: a))
    assert list(table["name"]) == ["a", "b"]
    assert table["all"][0] > 0.8
    assert table[["best", "all"]].sum().to_list() == pytest.approx([1, 1])
    assert importances(study_of(lambda a, b: 0.5)).empty


def test_trials_are_compared_at_the_latest_step_that_enough_of_them_reached():
    curves = [dict.fromkeys(range(1, length + 1), 0.5) for length in [2] * 20 + [8] * 10 + [16] * 2]
    assert compared_step(curves) == 8
    assert compared_step(curves[:7]) == 0
    assert comparable([], 10) is None


def test_what_was_compared_is_told_in_epochs(made_up):
    facts = {"plan": {"epochs": 2, "steps": 8}}
    bars, slices, parallel = importance_sections(read_search(made_up)._replace(facts=facts))
    assert comparable(read_journal(made_up), 10, 0.25).epoch == 2
    assert "after epoch 2, which 65 trials reached" in bars.caption
    assert "its score after epoch 2;" in slices.caption
    assert "select top-1 after epoch 2:" in parallel.caption


def test_the_journal_is_read_from_a_copy_also_while_its_last_line_is_written(made_up, tmp_path):
    copy = tmp_path / "study.journal"
    content = (made_up / "study.journal").read_bytes()
    copy.write_bytes(content + b'{"op_code": 4, "wor')
    assert len(read_journal(tmp_path)) == 120
    assert [path.name for path in tmp_path.iterdir()] == ["study.journal"]
    assert copy.read_bytes() == content + b'{"op_code": 4, "wor'


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "isn't there; the search writes it when it is resumed"),
        (lambda path: path.write_bytes(b"\xff\x00\n"), "can't be read"),
        (lambda path: path.write_bytes(b'{"op_code": 99}\n'), "can't be read"),
    ],
)
def test_a_lost_or_damaged_journal_is_told_on_the_page(write_trial, record, spoil, reason):
    folder = write_trial("0001-a", [record(1)]).parent
    (folder / "study.journal").touch()
    spoil(folder / "study.journal")
    with pytest.raises(UserError, match=reason):
        read_journal(folder)
    (section,) = importance_sections(read_search(folder))
    assert section.caption.startswith("Not known: ")


def test_too_few_trials_tell_nothing(write_trial, record):
    folder = write_trial("0001-a", [record(1)]).parent
    (folder / "study.journal").touch()
    (section,) = importance_sections(read_search(folder))
    assert "it takes eight" in section.caption


def test_there_are_bars_slices_in_rows_of_four_and_parallel_coordinates(made_up):
    bars, slices, parallel = importance_sections(read_search(made_up))
    assert [section.key for section in (bars, slices, parallel)] == ["importance", "slices", "parallel"]
    assert len(bars.table) == 8
    assert bars.png is not None
    domains = [axis.domain for axis in slices.figure.select_yaxes()]
    assert len(set(domains)) == 2
    assert [domains.count(domain) for domain in dict.fromkeys(domains)] == [4, 4]
    words = next(axis for axis in slices.figure.select_xaxes() if axis.type == "category").categoryarray
    assert "swin_tiny" in words
    assert len(parallel.figure.layout.xaxis.ticktext) == 9
    assert "after epoch 8, which 65 trials reached" in bars.caption


def test_hostile_names_stay_text(tmp_path):
    folder = write_experiment(tmp_path / "made", trials=20, epochs=2)
    journal = folder / "study.journal"
    journal.write_text(journal.read_text().replace("swin_tiny", "<b>swin</b>"))
    slices = importance_sections(read_search(folder))[1]
    words = [word for axis in slices.figure.select_xaxes() for word in axis.categoryarray or ()]
    assert "&lt;b&gt;swin&lt;/b&gt;" in words
    shutil.rmtree(folder)
