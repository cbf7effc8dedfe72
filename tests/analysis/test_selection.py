"""The whole selection on a real experiment: determined by it, on `select` alone, within what was asked."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.calibration import figures, losses
from analysis.experiment import load_experiment, read_facts
from analysis.figures import figures_on_select
from analysis.front import Limits
from analysis.selection import Selection, Wanted, select_members
from trainable.errors import UserError

CPU = torch.device("cpu")


def chosen(folder: Path, scratch: Path, wanted: Wanted) -> Selection:
    return select_members(folder, load_experiment(folder), read_facts(folder), wanted, scratch, CPU)


@pytest.fixture(scope="module")
def selection(experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Selection:
    """With everything that is tried."""
    return chosen(experiment, tmp_path_factory.mktemp("scratch"), Wanted(Limits(members=4), pick="best"))


def test_the_ensemble_is_the_best_of_the_front(selection: Selection) -> None:
    assert selection.choice.out_of_bag == min(choice.out_of_bag for choice in selection.front)
    assert selection.single.trial in {"0001-test_resnet", "0002-test_convnext"}
    ensemble = figures_on_select(selection, selection.choice)
    assert losses(selection.probabilities(), selection.library.labels).mean() <= ensemble.loss + 0.05


def test_the_same_experiment_gives_the_same_selection(experiment: Path, tmp_path: Path, selection: Selection) -> None:
    again = chosen(experiment, tmp_path, Wanted(Limits(members=4), pick="best"))
    assert [each.trial for each in again.members] == [each.trial for each in selection.members]
    assert (again.choice.weights, again.temperatures) == (selection.choice.weights, selection.temperatures)
    np.testing.assert_array_equal(again.probabilities(), selection.probabilities())


def test_every_view_and_every_soup_is_told_of(selection: Selection) -> None:
    for view in ("mirrored", "crops"):
        assert sum(note.startswith(f"{view} views ") for note in selection.notes) == 1


def test_views_that_help_are_in_the_members_logits(selection: Selection) -> None:
    kept = [note for note in selection.notes if " views help: " in note]
    assert len(selection.views) == 1 + len(kept)


def test_without_extras_members_are_the_trials_as_their_training_left_them(experiment: Path, tmp_path: Path) -> None:
    plain = chosen(experiment, tmp_path, Wanted(Limits(members=4), pick="best", extras=False))
    assert {member.source for member in plain.members} == {"best epoch"}
    assert (plain.views, plain.notes) == (("whole",), ())
    for member in plain.members:
        own = next(each for each in plain.library.candidates if each.trial == member.trial)
        np.testing.assert_array_equal(member.logits, own.logits)


def test_six_images_cannot_tell_so_the_knee_is_the_largest(experiment: Path, tmp_path: Path) -> None:
    knee = chosen(experiment, tmp_path, Wanted(Limits(members=4)))
    assert knee.choice == knee.front[-1]


def test_one_trial_is_an_ensemble_of_one(experiment: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(experiment, tmp_path / "tiny")
    shutil.rmtree(folder / "0001-test_resnet")
    alone = chosen(folder, tmp_path, Wanted(extras=False))
    assert [member.trial for member in alone.members] == ["0002-test_convnext"]
    assert alone.choice.weights == (1.0,)
    assert figures(alone.probabilities(), alone.library.labels).images == 6


def test_an_experiment_whose_trials_all_failed_says_so(experiment: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(experiment, tmp_path / "tiny")
    for trial in folder.glob("000*"):
        for name in ("checkpoint_000000", "checkpoint_000001"):
            shutil.rmtree(trial / name)
        (trial / "result.json").unlink()
        (trial / "failure.txt").write_text("it broke")
    with pytest.raises(UserError, match=r"its 2 trials have no weights of a scored epoch \(2 failed\).*failure\.txt"):
        chosen(folder, tmp_path, Wanted())


def test_files_that_are_not_ours_do_not_matter(experiment: Path, tmp_path: Path, selection: Selection) -> None:
    folder = shutil.copytree(experiment, tmp_path / "tiny")
    (folder / "notes.txt").write_text("mine")
    (folder / "0001-test_resnet" / "picture.png").touch()
    (folder / "empty").mkdir()
    found = chosen(folder, tmp_path, Wanted(Limits(members=4), pick="best"))
    assert [each.trial for each in found.members] == [each.trial for each in selection.members]
