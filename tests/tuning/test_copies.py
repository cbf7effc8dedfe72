"""Records of a search in its storage, a real S3 server, which goes away meanwhile."""

import json
import time
from functools import partial

import pytest
from rich.console import Console

import tuning.copies
from trainable.address import patiently
from trainable.errors import UserError
from tuning.copies import bring_records_home, check_storage, kept_in_storage
from tuning.decisions import DECISIONS
from tuning.storage import create_experiment, read_experiment

QUIET = Console(quiet=True)


@pytest.fixture
def plan(make_plan, s3, tmp_path, monkeypatch):
    """The plan of a search whose folder is made, and whose copies are made ten times a second."""
    monkeypatch.setattr(tuning.copies, "EVERY_S", 0.1)
    plan = make_plan(output=tmp_path / "runs", storage=f"{s3.make_bucket()}/runs")
    check_storage(plan)
    create_experiment(plan, {"dataset": "abc"})
    return plan


def search_and_lose_the_storage(plan, s3, error: Exception | None = None) -> None:
    """Decide something while the storage goes away, and end so."""
    with kept_in_storage(plan, print):
        (plan.folder / DECISIONS).write_text("{}\n")
        s3.stop()
        if error:
            raise error


def wait_for(condition) -> None:
    """Until it holds, which takes a few looks of the thread."""
    patience = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < patience
        time.sleep(0.05)


def test_records_are_copied_while_the_search_runs_and_checkpoints_are_not(plan):
    said: list[str] = []
    with kept_in_storage(plan, said.append):
        assert (plan.place / "experiment.json").read_bytes() == (plan.folder / "experiment.json").read_bytes()
        (plan.folder / DECISIONS).write_text("{}\n")
        wait_for((plan.place / DECISIONS).exists)
        (plan.folder / "0001-vit/checkpoint_000001").mkdir(parents=True)
        (plan.folder / "0001-vit/checkpoint_000001/state.pt").write_text("state")
        (plan.folder / "0001-vit/result.json").write_text("{}\n")
        (plan.folder / ".result.json.7.tmp").write_text("{")
        (plan.folder / DECISIONS).write_text("{}\n{}\n")
    assert (plan.place / DECISIONS).read_text() == "{}\n{}\n"
    assert sorted(plan.place.fs.find(plan.place.path)) == [
        f"{plan.place.path}/{name}" for name in ("0001-vit/result.json", DECISIONS, "experiment.json")
    ]
    assert said == []


def test_what_is_deleted_here_is_deleted_there(plan):
    with kept_in_storage(plan, print):
        failure = plan.folder / "0001-vit" / "failure.txt"
        failure.parent.mkdir()
        failure.write_text("ValueError")
        wait_for((plan.place / "0001-vit/failure.txt").exists)
        failure.unlink()
    assert not (plan.place / "0001-vit/failure.txt").exists()


def test_a_storage_that_goes_away_is_told_of_once_and_gets_all_when_it_is_back(plan, s3):
    said: list[str] = []
    with kept_in_storage(plan, said.append):
        s3.stop()
        (plan.folder / DECISIONS).write_text("{}\n")
        wait_for(lambda: said)
        s3.start()
        wait_for(lambda: len(said) == 2)
    assert "doesn't answer" in said[0]
    assert said[1].endswith("answers again")
    assert (plan.place / DECISIONS).read_text() == "{}\n"


def test_a_storage_that_stays_away_costs_nothing_that_is_here(plan, s3, monkeypatch):
    monkeypatch.setattr(tuning.copies, "patiently", partial(patiently, patience_s=0.1))
    with pytest.raises(UserError, match=r"is complete: mend that, then copy it by --resume test$"):
        search_and_lose_the_storage(plan, s3)
    s3.start()
    assert (plan.folder / DECISIONS).read_text() == "{}\n"


def test_an_error_of_the_search_is_told_not_one_of_the_copies(plan, s3, monkeypatch):
    monkeypatch.setattr(tuning.copies, "patiently", partial(patiently, patience_s=0.1))
    with pytest.raises(ZeroDivisionError):
        search_and_lose_the_storage(plan, s3, ZeroDivisionError())
    s3.start()


def test_a_search_goes_on_where_it_is_further(plan, tmp_path):
    with kept_in_storage(plan, print):
        (plan.folder / DECISIONS).write_text("{}\n{}\n")
    elsewhere = tmp_path / "elsewhere" / "test"
    bring_records_home(plan.place, elsewhere, QUIET)
    assert read_experiment(elsewhere).storage == plan.storage
    assert (elsewhere / DECISIONS).read_text() == "{}\n{}\n"
    (plan.place / DECISIONS).write_text("{}\n{}\n")
    (plan.place / "0001-vit/result.json").write_text("{}\n")
    bring_records_home(plan.place, elsewhere, QUIET)
    assert (elsewhere / "0001-vit/result.json").read_text() == "{}\n"
    (elsewhere / DECISIONS).write_text("{}\n{}\n{}\n{}\n")
    (elsewhere / "experiment.json").write_text(json.dumps({"mine": 1}))
    bring_records_home(plan.place, elsewhere, QUIET)
    assert json.loads((elsewhere / "experiment.json").read_text()) == {"mine": 1}


def test_a_storage_is_refused_before_anything_starts(plan, make_plan, tmp_path):
    with kept_in_storage(plan, print):
        pass
    with pytest.raises(UserError, match=r"--name test: s3://.*/runs/test exists; go on with it by --resume test"):
        check_storage(plan)
    with pytest.raises(UserError, match=r"^--storage s3://none/runs: there is no such bucket"):
        check_storage(make_plan(output=tmp_path, storage="s3://none/runs"))
