import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import matthews_corrcoef
from torchmetrics.functional.classification import multiclass_calibration_error

from analysis.evidence import EVIDENCE, Evidence, SplitEvidence, read_evidence, write_evidence
from analysis.export import Export
from analysis.pages.ensemble_tables import (
    AFTER,
    BEFORE,
    Measured,
    calibration_table,
    diversity,
    front_table,
    optimism_table,
    pairs_table,
    probabilities,
    read_measured,
    reliability_table,
    uncalibrated,
)
from trainable.errors import UserError

IMAGES = 300


@pytest.fixture(scope="module")
def measured(exported: Export) -> Measured:
    """The real manifest with logits of many more images, drawn, for as many members; tests only read it."""
    manifest, generator = exported.manifest, np.random.default_rng(0)
    labels = np.arange(IMAGES) % 3
    files = tuple(f"{place}.png" for place in range(IMAGES))
    logits = generator.normal(size=(len(manifest.members), IMAGES, 3)) * 3 + 4 * np.eye(3)[labels]
    split = SplitEvidence(files, labels, logits.astype(np.float16), logits[0].astype(np.float16))
    return Measured(manifest, Evidence(split, split))


@pytest.fixture(scope="module")
def of_three(measured: Measured) -> Measured:
    """With three members called a, b and c."""
    holdout, generator = measured.evidence.holdout, np.random.default_rng(1)
    logits = generator.normal(size=(3, IMAGES, 3)) + np.eye(3)[holdout.labels]
    members = tuple(measured.manifest.members[0].model_copy(update={"trial": name}) for name in "abc")
    split = holdout._replace(logits=logits.astype(np.float16))
    return Measured(measured.manifest.model_copy(update={"members": members}), Evidence(split, split))


def with_front(measured: Measured, *members: tuple[str, ...]) -> Measured:
    point = measured.manifest.front[0]
    front = tuple(
        point.model_copy(update={"members": each, "weights": (1 / len(each),) * len(each)}) for each in members
    )
    return measured._replace(manifest=measured.manifest.model_copy(update={"front": front}))


def test_the_front_tells_holdout_of_the_exported_members_and_of_the_best_trial(of_three: Measured) -> None:
    single = of_three.manifest.single
    table = front_table(with_front(of_three, (single.trial,), ("a", "b", "c"), ("a", "b", "c", "left out")))
    assert table["members"].tolist() == [1, 3, 4]
    assert table["chosen"].tolist() == [False, True, False]
    assert table["select_top1"].tolist() == [of_three.manifest.front[0].select.top1] * 3
    assert table["holdout_top1"].tolist()[:2] == [single.holdout.top1, of_three.manifest.holdout.top1]
    assert np.isnan(table["holdout_top1"][2])


def test_a_smaller_ensemble_of_exported_members_is_measured_on_holdout(of_three: Measured) -> None:
    """Top-1 doesn't depend on the last temperature, so PyTorch alone can say it."""
    holdout = of_three.evidence.holdout
    logits = torch.from_numpy(holdout.logits[1:].astype(np.float32))
    scaled = logits / torch.tensor(of_three.temperatures[1:], dtype=torch.float32)[:, None, None]
    guesses = scaled.softmax(dim=2).mean(dim=0).argmax(dim=1).numpy()
    row = front_table(with_front(of_three, ("b", "c"))).iloc[0]
    assert row["holdout_top1"] == pytest.approx((guesses == holdout.labels).mean())
    assert row["holdout_top1_low"] < row["holdout_top1"] < row["holdout_top1_high"]


def test_a_front_of_nothing_is_an_empty_table(measured: Measured) -> None:
    nothing = measured._replace(manifest=measured.manifest.model_copy(update={"front": ()}))
    assert front_table(nothing).empty


def test_disagreement_and_correlation_are_those_of_each_pair(of_three: Measured) -> None:
    holdout, pairs = of_three.evidence.holdout, diversity(of_three)
    guesses = holdout.logits.argmax(axis=2)
    wrong = guesses != holdout.labels
    assert pairs.disagreement[0, 2] == (guesses[0] != guesses[2]).mean()
    assert pairs.correlation[0, 2] == pytest.approx(matthews_corrcoef(wrong[0], wrong[2]))  # phi by another name
    assert (pairs.disagreement == pairs.disagreement.T).all()
    assert (pairs.disagreement.diagonal() == 0).all()


def test_a_member_without_errors_correlates_with_none(of_three: Measured) -> None:
    holdout = of_three.evidence.holdout
    logits = np.stack([np.eye(3)[holdout.labels], *holdout.logits[1:]])
    evidence = with_holdout(of_three.evidence, logits=logits)
    assert np.isnan(diversity(of_three._replace(evidence=evidence)).correlation[0, 1])


def test_pairs_come_once_with_the_most_different_first(of_three: Measured) -> None:
    table = pairs_table(diversity(of_three))
    assert len(table) == 3
    assert table["disagreement"].is_monotonic_decreasing
    pairs = {frozenset(pair) for pair in zip(table["first"], table["second"], strict=True)}
    assert pairs == {frozenset("ab"), frozenset("ac"), frozenset("bc")}


def test_the_bins_give_the_calibration_error_that_torchmetrics_gives(measured: Measured) -> None:
    holdout, table = measured.evidence.holdout, reliability_table(measured)
    for name, predict in ((BEFORE, uncalibrated), (AFTER, probabilities)):
        bins = table[table["calibration"] == name]
        gaps = (bins["confidence"] - bins["accuracy"]).abs() * bins["count"]
        expected = multiclass_calibration_error(
            torch.from_numpy(predict(measured, holdout)), torch.from_numpy(holdout.labels), num_classes=3, n_bins=15
        )
        assert gaps.sum() / bins["count"].sum() == pytest.approx(expected.item(), abs=1e-6)
        assert len(bins) == 15
        assert bins["count"].sum() == len(holdout.labels)


def test_calibration_is_told_as_the_manifest_has_it(measured: Measured) -> None:
    table = calibration_table(measured.manifest).set_index("measure")
    before, after = measured.manifest.uncalibrated, measured.manifest.holdout
    assert table[BEFORE].to_dict() == {"NLL": before.loss, "Brier score": before.brier, "ECE": before.ece}
    assert table[AFTER].to_dict() == {"NLL": after.loss, "Brier score": after.brier, "ECE": after.ece}


def test_optimism_is_select_minus_holdout_of_the_ensemble_its_members_and_the_best_trial(measured: Measured) -> None:
    manifest = measured.manifest
    other = manifest.single.model_copy(update={"trial": "0009-other"})
    table = optimism_table(manifest.model_copy(update={"single": other}))
    assert table["what"].tolist() == ["ensemble", *(member.trial for member in manifest.members), "0009-other"]
    assert table["optimism"][0] == manifest.select.top1 - manifest.holdout.top1
    known = other.model_copy(update={"trial": manifest.members[0].trial})
    assert len(optimism_table(manifest.model_copy(update={"single": known}))) == len(table) - 1


def with_holdout(evidence: Evidence, **arrays: np.ndarray) -> Evidence:
    return evidence._replace(holdout=evidence.holdout._replace(**arrays))


def a_member_less(holdout: SplitEvidence) -> dict[str, np.ndarray]:
    return {"logits": holdout.logits[:0]}


def not_a_number(holdout: SplitEvidence) -> dict[str, np.ndarray]:
    return {"logits": np.full_like(holdout.logits, np.nan)}


def unknown_class(holdout: SplitEvidence) -> dict[str, np.ndarray]:
    return {"labels": holdout.labels + 3}


def labels_of_text(holdout: SplitEvidence) -> dict[str, np.ndarray]:
    return {"labels": holdout.labels.astype(str)}


@pytest.mark.parametrize("change", [a_member_less, not_a_number, unknown_class, labels_of_text])
def test_evidence_of_something_else_is_refused(
    change: Callable[[SplitEvidence], dict[str, np.ndarray]], exported: Export, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(exported.folder, tmp_path / "ensemble"))
    evidence = read_evidence(folder)
    write_evidence(with_holdout(evidence, **change(evidence.holdout)), folder)
    with pytest.raises(UserError, match=r"evidence.npz: doesn't fit .*; export it again"):
        read_measured(folder)


def test_an_export_without_evidence_is_refused(exported: Export, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported.folder, tmp_path / "ensemble"))
    (folder / EVIDENCE).unlink()
    with pytest.raises(UserError, match=r"evidence.npz: can't be read .*; export it again"):
        read_measured(folder)
