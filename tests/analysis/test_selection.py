"""The whole selection on a real experiment: determined by it, on `select` alone, within what was asked."""

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis import front, retraining
from analysis.augmented import TRIED
from analysis.calibration import figures, fit_together, losses
from analysis.candidates import LATEST_EPOCH, Candidate, find_candidates
from analysis.deadline import CAUTION, Deadline
from analysis.experiment import load_experiment, read_facts
from analysis.figures import figures_on_select
from analysis.front import Limits
from analysis.library import Library
from analysis.pace import Estimate, Pace
from analysis.pooling import pool
from analysis.retraining import Refit
from analysis.selection import Selection, Wanted, free_candidates, plan_refit, select_members, without_lucky_epochs
from analysis.snapshots import LATEST
from trainable.config import TrialConfig
from trainable.data.dataset import Dataset
from trainable.errors import UserError

CPU = torch.device("cpu")
SINGLE = Candidate("x", TrialConfig(data=Path("x")), 32, None, np.zeros((1, 2)))


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


def test_an_ensemble_that_is_worse_than_one_trial_beyond_chance_is_left_out_and_named(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "standard_errors_behind", lambda *_: 2.5)
    alone = chosen(experiment, tmp_path, Wanted(Limits(members=4), extras=False))
    assert len(alone.front) > 1
    assert alone.choice == alone.front[0]
    assert [member.trial for member in alone.members] == [alone.library.candidates[0].trial]
    (note,) = alone.notes
    assert note.startswith("an ensemble of 2 is left out: on images that had no say it has ")
    assert note.endswith(" (2.5 standard errors)")


def test_a_single_member_has_one_temperature_and_an_ensemble_one_more(experiment: Path, tmp_path: Path) -> None:
    alone = chosen(experiment, tmp_path, Wanted(Limits(members=1), extras=False))
    assert alone.temperature == 1
    assert alone.temperatures == (alone.library.temperatures[0],)
    both = chosen(experiment, tmp_path, Wanted(Limits(members=2), extras=False))
    mean = pool(np.stack([each.logits for each in both.members]), both.temperatures, both.choice.weights)
    labels = both.library.labels
    assert both.temperature == fit_together(mean, both.temperatures, both.choice.weights, labels) != 1


def ended(seconds: float = 1.0) -> Deadline:
    return Deadline(seconds, started=time.monotonic() - 100)


def test_past_the_deadline_the_best_member_is_chosen_without_extras_which_are_named(
    experiment: Path, tmp_path: Path
) -> None:
    facts, trials = read_facts(experiment), load_experiment(experiment)
    found = select_members(experiment, trials, facts, Wanted(Limits(members=4)), tmp_path, CPU, ended())
    assert found.views == ("whole",)
    left_out = [note.partition(" aren't tried: it would take about ")[0] for note in found.notes]
    assert left_out[-2:] == ["mirrored views", "crops views"]
    assert {member.source for member in found.members} == {"best epoch"}
    assert all(note.endswith("and --time-budget leaves 0.0 s") for note in found.notes)
    assert [member.trial for member in found.members] == [found.library.candidates[0].trial]
    assert "at most 1 member: for more it would take about" in found.notes[0]


def test_with_time_enough_a_deadline_changes_nothing_and_knows_where_the_time_went(
    experiment: Path, tmp_path: Path
) -> None:
    facts, trials, wanted = read_facts(experiment), load_experiment(experiment), Wanted(Limits(members=4))
    deadline = Deadline(10_000)
    found = select_members(experiment, trials, facts, wanted, tmp_path, CPU, deadline)
    assert found.notes == chosen(experiment, tmp_path, wanted).notes
    assert list(deadline.parts) == ["candidates", "latest epochs", "soups", "votes", "views"]


def room(seconds: float) -> Estimate:
    """A second an image, of 36 in train, 6 in select and 18 in holdout, with room for parts of so many seconds."""
    deadline = Deadline(seconds * CAUTION, time.monotonic())
    return Estimate(deadline, Pace(image_s=1.0), SINGLE, train=36, select=6, holdout=18)


def test_soups_are_left_out_first_then_latest_epochs_and_both_before_the_views(
    experiment: Path, tmp_path: Path, dataset: Dataset
) -> None:
    (first, *_) = find_candidates(experiment, load_experiment(experiment), read_facts(experiment))
    trials = [first._replace(later=first.weights), first._replace(trial="0009-twin", later=None)]
    latest, soup = room(0).latest([first]), room(0).soup(trials)
    kept = room(10**6).reserved(trials[:1], TRIED)

    def tried(seconds: float) -> tuple[list[str], list[str]]:
        found, notes = free_candidates(trials, dataset, tmp_path, CPU, room(seconds), 1)
        return [each.source for each in found], [
            note.split()[0] for note in notes if "aren't" in note or "isn't" in note
        ]

    assert soup > latest
    assert tried(kept + soup + 10)[1] == []
    assert tried(kept + latest + 1) == ([LATEST_EPOCH], ["soup"])
    assert tried(kept + latest - 1) == ([], ["latest", "soup"])


def test_room_that_no_view_fits_into_is_not_kept_from_what_is_smaller(
    experiment: Path, tmp_path: Path, dataset: Dataset
) -> None:
    (first, *_) = find_candidates(experiment, load_experiment(experiment), read_facts(experiment))
    trials = [first._replace(later=first.weights)]
    estimate = room(room(0).required(trials) + room(0).latest([first]) + 1)
    found, notes = free_candidates(trials, dataset, tmp_path, CPU, estimate, 1)
    assert ([each.source for each in found], notes) == ([LATEST_EPOCH], [])


def refit_of(experiment: Path, asked: Refit, estimate: Estimate) -> tuple[float | None, list[str]]:
    members = find_candidates(experiment, load_experiment(experiment), read_facts(experiment))
    return plan_refit(experiment, load_experiment(experiment), asked, estimate, lambda: members)


def test_members_are_refit_if_that_is_asked_for_or_fits_in(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retraining, "has_ray", lambda: False)
    trials = load_experiment(experiment)
    needed = trials["seconds"].sum() * 42 / 36  # with select, and both ran in full
    members = find_candidates(experiment, trials, read_facts(experiment))
    required = room(0).required(members)
    unlimited = Estimate(Deadline(), Pace(), SINGLE, 36, 6, 18)
    assert refit_of(experiment, "no", room(10**6)) == (None, [])
    assert refit_of(experiment, "yes", room(0))[0] == pytest.approx(needed)
    assert refit_of(experiment, "yes", unlimited)[1] == []
    assert refit_of(experiment, "auto", unlimited) == (
        None,
        ["no refit: --refit auto needs a --time-budget, to tell whether it fits"],
    )
    seconds, (note,) = refit_of(experiment, "auto", room(required + needed + 1))
    assert seconds == pytest.approx(needed)
    assert note == f"refit: about {needed:.1f} s, which --time-budget leaves"
    seconds, (note,) = refit_of(experiment, "auto", room(required + needed / 2))
    assert seconds is None
    assert note.startswith(f"no refit: it would take about {needed:.1f} s, and --time-budget leaves ")


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


def with_latest(best_loss: float, latest_loss: float, spread: float = 0.0) -> Library:
    """A trial's best and latest epoch with such mean losses on 40 images, differing by `spread`."""
    labels, images = np.zeros(40, np.int64), np.arange(40)
    of_truth = np.exp(-np.array([best_loss + spread * (-1.0) ** images, latest_loss - spread * (-1.0) ** images]))
    probabilities = np.stack([of_truth, 1 - of_truth], axis=2).astype(np.float32)
    candidates = tuple(SINGLE._replace(trial=name) for name in ("a", f"a{LATEST}"))
    return Library(candidates, np.ones(2), probabilities, labels)


@pytest.mark.parametrize(
    ("best_loss", "latest_loss", "spread", "kept"),
    [
        (0.5, 0.5, 0.0, [f"a{LATEST}"]),
        (0.5, 0.4, 0.0, [f"a{LATEST}"]),
        (0.50, 0.52, 0.3, [f"a{LATEST}"]),  # within a standard error
        (0.4, 0.8, 0.05, ["a", f"a{LATEST}"]),
    ],
)
def test_a_best_epoch_counts_only_if_it_beats_the_latest_one_beyond_chance(
    best_loss, latest_loss, spread, kept
) -> None:
    library = without_lucky_epochs(with_latest(best_loss, latest_loss, spread))
    assert [candidate.trial for candidate in library.candidates] == kept
    assert len(library.probabilities) == len(kept)


def test_a_trial_without_a_latest_epoch_of_its_own_stays() -> None:
    library = with_latest(0.5, 0.5).pick([0])
    assert without_lucky_epochs(library).candidates == library.candidates
