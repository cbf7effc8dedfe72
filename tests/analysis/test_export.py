"""The export: what it holds, that its figures are true, and that it replaces an earlier one wholly or not at all."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import analysis.figures
from analysis import load_ensemble
from analysis._staging import replaced_folder
from analysis.experiment import load_experiment
from analysis.export import Export, export, main, print_outcome
from analysis.manifest import read_manifest
from analysis.select import choose_members
from trainable.data.dataset import Dataset
from trainable.epoch import score
from trainable.errors import UsageError, UserError
from trainable.training import Training


@pytest.fixture
def own_experiment(experiment: Path, tmp_path: Path) -> Path:
    """A copy that the test may change."""
    return shutil.copytree(experiment, tmp_path / "tiny")


def export_all(folder: Path, target: Path, most: int = 2) -> Export:
    return export(folder, load_experiment(folder), most, target, device="cpu")


def change_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_export_holds_the_best_weights_the_manifest_and_the_card(
    exported: Export, trainings: dict[str, Training]
) -> None:
    members = exported.manifest.members
    assert set(everything_in(exported.folder)) == {"README.md", "ensemble.json", *(member.file for member in members)}
    for member in members:
        weights = load_file(exported.folder / member.file)
        best = trainings[member.trial].best_weights
        assert weights.keys() == best.keys()
        assert all(torch.equal(weights[name], best[name]) for name in best)


def test_the_manifest_reads_back_as_it_was_written(exported: Export, dataset: Dataset) -> None:
    manifest = read_manifest(exported.folder)
    assert manifest == exported.manifest
    assert [(each.id, each.words) for each in manifest.classes] == [tuple(each) for each in dataset.classes]
    assert (manifest.schema_version, manifest.experiment, manifest.temperature) == (1, "tiny", 1.0)
    assert manifest.dataset == dataset.cache.fingerprint
    assert sum(manifest.weights) == pytest.approx(1)
    assert (manifest.select.images, manifest.holdout.images) == (len(dataset.splits.select), 18)


def test_the_members_are_those_that_select_chooses(
    exported: Export, trainings: dict[str, Training], dataset: Dataset
) -> None:
    labels = dataset.cache.labels[dataset.splits.select]
    chosen = choose_members([training.best_logits for training in trainings.values()], labels, most=2)
    names = list(trainings)
    assert [member.trial for member in exported.manifest.members] == [names[index] for index in chosen.indices]
    assert exported.manifest.select.top1 == chosen.scores.top1


def test_the_holdout_figures_are_those_of_the_trainings_own_predictions(
    exported: Export, trainings: dict[str, Training], dataset: Dataset
) -> None:
    rows = dataset.splits.holdout
    labels = torch.from_numpy(dataset.cache.labels[rows])
    logits = [trainings[member.trial].predict(rows) for member in exported.manifest.members]
    for member, own in zip(exported.manifest.members, logits, strict=True):
        scores = score(own, labels)
        assert (member.holdout.top1, member.holdout.top5) == (scores.top1, scores.top5)
        assert member.holdout.loss == pytest.approx(scores.loss, rel=1e-4)
    together = score(torch.stack(logits).mean(dim=0), labels)
    assert (exported.manifest.holdout.top1, exported.manifest.holdout.top5) == (together.top1, together.top5)


def test_the_loaded_ensemble_predicts_as_the_trainings_do(
    exported: Export, trainings: dict[str, Training], dataset: Dataset
) -> None:
    rows = dataset.splits.test
    own = [trainings[member.trial].predict(rows) for member in exported.manifest.members]
    logits = load_ensemble(exported.folder, device="cpu").predict_logits(dataset.cache.images[rows])
    np.testing.assert_allclose(logits, torch.stack(own).mean(dim=0), atol=1e-4)


def test_one_member_is_exported_where_one_is_asked_for(experiment: Path, tmp_path: Path) -> None:
    manifest = export_all(experiment, tmp_path / "ensemble", most=1).manifest
    assert len(manifest.members) == 1
    assert manifest.weights == (1.0,)
    assert manifest.holdout == manifest.members[0].holdout


def test_trials_without_weights_or_on_other_data_are_no_candidates(own_experiment: Path, tmp_path: Path) -> None:
    change_json(
        next(own_experiment.glob("0001*/checkpoint_000001/trial.json")), lambda trial: trial.update(dataset="other")
    )
    manifest = export_all(own_experiment, tmp_path / "ensemble").manifest
    assert [member.trial for member in manifest.members] == ["0002-test_convnext"]
    for weights in own_experiment.glob("0002*/checkpoint_000001/*.safetensors"):
        weights.unlink()
    with pytest.raises(UserError, match="nothing to export, its 2 trials were trained on other data"):
        export_all(own_experiment, tmp_path / "ensemble")


def test_an_experiment_whose_weights_are_all_gone_cannot_be_exported(own_experiment: Path, tmp_path: Path) -> None:
    for weights in own_experiment.glob("*/checkpoint_*/*.safetensors"):
        weights.unlink()
    with pytest.raises(UserError, match="nothing to export, its 2 trials have no weights of a scored epoch"):
        export_all(own_experiment, tmp_path / "ensemble")


def test_a_data_set_that_is_gone_is_named(own_experiment: Path, tmp_path: Path) -> None:
    for path in own_experiment.glob("*/checkpoint_*/trial.json"):
        change_json(path, lambda trial: trial["config"].update(data="/nowhere/images"))
    with pytest.raises(UserError, match="/nowhere/images: the experiment's data set is no longer there"):
        export_all(own_experiment, tmp_path / "ensemble")
    assert not (tmp_path / "ensemble").exists()


def test_a_data_set_that_has_changed_is_refused(own_experiment: Path, tmp_path: Path) -> None:
    change_json(own_experiment / "experiment.json", lambda facts: facts.update(dataset="before"))
    for path in own_experiment.glob("*/checkpoint_*/trial.json"):
        change_json(path, lambda trial: trial.update(dataset="before"))
    with pytest.raises(UserError, match="the images have changed since the search"):
        export_all(own_experiment, tmp_path / "ensemble")


def test_weights_that_do_not_repeat_their_trainings_predictions_are_refused(
    own_experiment: Path, tmp_path: Path
) -> None:
    for path in own_experiment.glob("*/checkpoint_*/*.safetensors"):
        save_file({name: torch.zeros_like(value) for name, value in load_file(path).items()}, path)
    with pytest.raises(UserError, match="rebuilt, it predicts otherwise than in training"):
        export_all(own_experiment, tmp_path / "ensemble")


def test_predictions_for_another_number_of_select_images_are_refused(own_experiment: Path, tmp_path: Path) -> None:
    path = next(own_experiment.glob("0002*/checkpoint_000001/predictions.npz"))
    np.savez_compressed(path, logits=np.zeros((5, 3), np.float16), epoch=1)
    with pytest.raises(UserError, match=r"0002-test_convnext: keeps predictions \(5, 3\) but select has 6 images"):
        export_all(own_experiment, tmp_path / "ensemble")


def test_unreadable_predictions_are_named(own_experiment: Path, tmp_path: Path) -> None:
    path = next(own_experiment.glob("0001*/checkpoint_000001/predictions.npz"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"0001-test_resnet/checkpoint_000001/predictions\.npz: can't be read"):
        export_all(own_experiment, tmp_path / "ensemble")


def test_a_failure_in_the_middle_leaves_the_earlier_export(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "ensemble"
    export_all(experiment, target, most=1)
    before = everything_in(target)
    monkeypatch.setattr(analysis.figures, "evaluate", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        export_all(experiment, target)
    assert everything_in(target) == before
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"ensemble"}


def test_a_later_export_replaces_the_earlier_and_keeps_what_the_user_put_there(
    experiment: Path, tmp_path: Path
) -> None:
    target = tmp_path / "ensemble"
    export_all(experiment, target, most=1)
    (target / "best_test_preds.csv").write_text("mine")
    (target / "members" / "stale.safetensors").touch()
    export_all(experiment, target, most=1)
    assert (target / "best_test_preds.csv").read_text() == "mine"
    assert not (target / "members" / "stale.safetensors").exists()
    assert read_manifest(target)


def test_a_folder_with_other_files_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with (
        pytest.raises(UsageError, match=r"--to .*: holds other files and no ensemble\.json"),
        replaced_folder(tmp_path, "--to", "ensemble.json", own=()),
    ):
        pytest.fail("must not get here")
    assert (tmp_path / "holiday.jpg").exists()


def test_a_file_is_no_folder_to_export_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for target, reason in ((tmp_path / "file", "is a file"), (tmp_path / "file" / "below", "can't be written")):
        with (
            pytest.raises(UsageError, match=f"--to {target}: {reason}"),
            replaced_folder(target, "--to", "ensemble.json", own=()),
        ):
            pytest.fail("must not get here")


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "ensemble"
    with replaced_folder(target, "--to", "m", own=()) as first:
        with (
            pytest.raises(UserError, match="another export is writing there"),
            replaced_folder(target, "--to", "m", own=()),
        ):
            pytest.fail("must not get here")
        (first / "m").touch()
    assert (target / "m").exists()


def test_an_export_that_was_killed_while_it_replaced_is_mended(tmp_path: Path) -> None:
    old = tmp_path / ".ensemble.old"
    old.mkdir()
    (old / "m").write_text("complete")
    (tmp_path / ".ensemble.new").mkdir()
    (tmp_path / ".ensemble.new" / "half.safetensors").touch()
    with replaced_folder(tmp_path / "ensemble", "--to", "m", own=("m",)) as staged:
        assert (tmp_path / "ensemble" / "m").read_text() == "complete"
        assert not list(staged.iterdir())
        (staged / "m").write_text("new")
    assert (tmp_path / "ensemble" / "m").read_text() == "new"
    assert {path.name for path in tmp_path.iterdir()} == {"ensemble", ".ensemble.lock"}


def test_the_command_prints_the_figures_and_the_next_command(
    exported: Export, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_outcome(exported)
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    holdout = exported.manifest.holdout
    assert list(lines) == ["ensemble", "members", "select", "holdout", "single", "predict"]
    assert lines["ensemble"] == str(exported.folder)
    assert lines["holdout"] == f"top-1 {holdout.top1:.2%}, top-5 100.00% of 18 images; these chose nothing"
    assert lines["predict"] == (f"python -m analysis.predict {exported.folder} {images}/test -o best_test_preds.csv")


def test_the_command_shows_the_best_trials_first(own_experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(own_experiment, members=2, to=None, device="cpu")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["trial", "arch", "epochs", "select", "top-1", "lr"]
    assert [line.split()[0] for line in lines[1:3]] == list(load_experiment(own_experiment)["trial"])
    assert f"ensemble {own_experiment}/ensemble" in lines
    assert read_manifest(own_experiment / "ensemble")


def test_the_card_tells_figures_data_search_use_and_limits(exported: Export, images: Path) -> None:
    card = (exported.folder / "README.md").read_text()
    for text in (
        f"{exported.manifest.holdout.top1:.2%}",
        "used for nothing but these",
        f"`{images}`: 36 train, 6 select, 18 holdout, 4 test",
        "Space tiny, 2 trials (2 finished) of at most 2 epochs",
        "run.py --space tiny",
        f"python -m analysis.predict {exported.folder}",
        "## Limits",
    ):
        assert text in card
