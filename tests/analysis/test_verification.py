"""`analysis.experiment --verify` on a real experiment: silent where nothing was touched, and it names what was."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from analysis.experiment import main
from analysis.export import Export
from analysis.verification import are_in_order, verify
from trainable import metrics
from trainable.ranking import TIE

TRIAL, CHECKPOINT = "0001-test_resnet", "0001-test_resnet/checkpoint_000001"


@pytest.fixture
def copied(experiment: Path, tmp_path: Path) -> Path:
    """A copy of the experiment, as a search leaves one: records with ids, decisions, a plan with what trials share."""
    folder = shutil.copytree(experiment, tmp_path / "tiny")
    decisions = []
    for trial in sorted(folder.glob("0*")):
        lines = [
            json.loads(line) | {"trial_id": trial.name} for line in (trial / "result.json").read_text().splitlines()
        ]
        (trial / "result.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
        decisions.append({"kind": "start", "trial": trial.name, "step": 0, "score": None})
        decisions.append({"kind": "end", "trial": trial.name, "step": 2, "score": lines[1][metrics.SCORE]})
    (folder / "decisions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in decisions))
    edit(folder / "experiment.json", lambda facts: facts["plan"].update(trial={"batch_size": 8}))
    return folder


def edit(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_an_untouched_experiment_is_as_it_was_written(copied: Path, capsys: pytest.CaptureFixture) -> None:
    counts, wrong = verify(copied)
    assert wrong == []
    assert counts == {"trials": 2, "steps": 4, "checkpoints": 4, "exports": 0}
    assert main(copied, verify=True) == 0
    assert "all is as it was written" in capsys.readouterr().out


def test_deleted_weights_are_not_wrong(copied: Path) -> None:
    (copied / CHECKPOINT / "model.safetensors").unlink()
    assert verify(copied)[1] == []


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def other_predictions(path: Path) -> None:
    np.savez_compressed(path, logits=np.full((9, 3), np.nan, dtype=np.float16), epoch=1)


TAMPERINGS = {
    "weights": (f"{CHECKPOINT}/model.safetensors", flip_a_byte, "model.safetensors isn't what was written"),
    "state": (f"{CHECKPOINT}/state.pt", flip_a_byte, "state.pt isn't what was written"),
    "predictions": (f"{CHECKPOINT}/predictions.npz", other_predictions, "of numbers"),
    "record": (f"{CHECKPOINT}/trial.json", lambda path: path.write_text('{"a'), "is unfinished, or its trial.json"),
    "images": (f"{CHECKPOINT}/trial.json", lambda path: edit(path, lambda r: r.update(dataset="x")), "other images"),
    "params": (f"{TRIAL}/params.json", lambda path: edit(path, lambda c: c.update(batch_size=9)), "batch_size is 9"),
    "half line": (f"{TRIAL}/result.json", lambda path: path.write_text(path.read_text()[:-9]), "line 2 is broken"),
    "gap": (f"{TRIAL}/result.json", lambda path: path.write_text(path.read_text().split("\n")[1] + "\n"), "steps [2]"),
    "decisions": ("decisions.jsonl", lambda path: path.write_text(path.read_text() + "{"), "line 5 is broken"),
    "no seed": ("experiment.json", lambda path: edit(path, lambda facts: facts.pop("plan")), "doesn't name plan"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_what_was_changed_is_named(copied: Path, name: str, capsys: pytest.CaptureFixture) -> None:
    file, tamper, message = TAMPERINGS[name]
    tamper(copied / file)
    wrong = verify(copied)[1]
    assert any(message in line for line in wrong), wrong
    assert main(copied, verify=True) == 1
    assert message in capsys.readouterr().out


@pytest.mark.parametrize(
    ("steps", "good"),
    [
        ([], True),
        ([1, 2, 3], True),
        ([1, 1.4, 2, 2.5], True),
        ([0.3], True),
        ([0.3, 1], True),
        ([2], False),
        ([1, 3], False),
        ([1, 2, 2], False),
        ([2, 1], False),
        ([1, 2.5, 2], False),
        ([1, 2.5], False),
        ([0], False),
        ([1, math.nan], False),
        ([math.nan], False),
    ],
)
def test_whole_steps_have_no_gap_and_fractions_lie_between_them(steps: list[float], good: bool) -> None:
    assert are_in_order(steps) == good


def rewrite(path: Path, change: Callable[[dict], object]) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        change(line)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_decisions_and_records_of_earlier_versions_count_epochs(copied: Path) -> None:
    for results in copied.glob("0*/result.json"):
        rewrite(results, lambda line: line.pop(metrics.STEP))
    for record in copied.glob("0*/checkpoint_*/trial.json"):
        edit(record, lambda content: [each.pop(metrics.STEP) for each in content["epochs"]])
    rewrite(copied / "decisions.jsonl", lambda line: line.update(epochs=line.pop("step")))
    assert verify(copied)[1] == []
    rewrite(copied / "decisions.jsonl", lambda line: line.update(score=line["score"] and 0.123))
    assert any("at step 2 had 0.123" in line for line in verify(copied)[1])


def test_a_step_that_a_deadline_cut_short_is_known_by_its_fraction(copied: Path) -> None:
    shorter = {metrics.STEP: 1.5, metrics.EPOCH: 0.75}
    rewrite(copied / TRIAL / "result.json", lambda line: line.update(shorter if line[metrics.STEP] == 2 else {}))
    edit(copied / CHECKPOINT / "trial.json", lambda content: content["epochs"][1].update(shorter))
    rewrite(
        copied / "decisions.jsonl",
        lambda line: line.update(step=1.5 if line["trial"] == TRIAL and line["step"] == 2 else line["step"]),
    )
    assert verify(copied)[1] == []


def test_the_loss_may_break_ties_in_a_score_and_no_more(copied: Path) -> None:
    def lower(by: float) -> Callable[[dict], object]:
        return lambda line: line.update(score=line["score"] and line["score"] - by)

    rewrite(copied / "decisions.jsonl", lower(TIE))
    assert verify(copied)[1] == []
    rewrite(copied / "decisions.jsonl", lower(TIE))
    assert len([line for line in verify(copied)[1] if "had" in line]) == 2


def test_the_number_of_steps_is_the_plans(copied: Path) -> None:
    edit(copied / "experiment.json", lambda facts: facts["plan"].update(steps=7))
    assert any("steps is None, but experiment.json says 7" in line for line in verify(copied)[1])


def test_a_decision_by_another_score_than_the_records_is_named(copied: Path) -> None:
    lines = [json.loads(line) for line in (copied / "decisions.jsonl").read_text().splitlines()]
    lines[1]["score"] = 0.123
    (copied / "decisions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert any("had 0.123" in line for line in verify(copied)[1])


@pytest.fixture
def with_ensemble(copied: Path, exported: Export) -> Path:
    shutil.copytree(exported.folder, copied / "ensemble")
    return copied


def test_an_untouched_export_is_as_it_was_written(with_ensemble: Path) -> None:
    counts, wrong = verify(with_ensemble)
    assert (counts["exports"], wrong) == (1, [])


def test_a_changed_member_or_evidence_of_the_export_is_named(with_ensemble: Path, exported: Export) -> None:
    file = exported.manifest.members[0].file
    flip_a_byte(with_ensemble / "ensemble" / file)
    assert verify(with_ensemble)[1] == [f"{file}: isn't what was written"]
    (with_ensemble / "ensemble" / "evidence.npz").write_bytes(b"")
    assert any("evidence.npz: can't be read" in line for line in verify(with_ensemble)[1])
