"""The export: what it holds, that its figures are true, and that it replaces an earlier one wholly or not at all."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import analysis.figures
import analysis.retraining
from analysis import load_ensemble
from analysis._staging import replaced_folder
from analysis.calibration import figures
from analysis.deadline import Deadline
from analysis.evidence import read_evidence
from analysis.experiment import load_experiment
from analysis.export import Export, export, main, print_outcome
from analysis.front import Limits
from analysis.library import calibrated
from analysis.manifest import Figures, Manifest, read_manifest
from analysis.pooling import pool
from analysis.selection import Wanted
from trainable.architectures import build_model
from trainable.data.dataset import Dataset
from trainable.errors import UsageError, UserError
from trainable.files import checksum
from trainable.training import Training


@pytest.fixture
def own_experiment(experiment: Path, tmp_path: Path) -> Path:
    """A copy that the test may change."""
    return shutil.copytree(experiment, tmp_path / "tiny")


def export_all(folder: Path, target: Path, most: int = 2, **options: Any) -> Export:
    wanted = Wanted(Limits(members=most), pick="best", refit=options.get("refit", "no"), extras=False)
    half, deadline = options.get("half", False), options.get("deadline")
    return export(folder, load_experiment(folder), wanted, target, device="cpu", half=half, deadline=deadline)


def change_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_export_holds_the_best_weights_the_manifest_and_the_card(
    experiment: Path, tmp_path: Path, trainings: dict[str, Training]
) -> None:
    exported = export_all(experiment, tmp_path / "ensemble")
    members = exported.manifest.members
    files = {"README.md", "ensemble.json", "evidence.npz", *(member.file for member in members)}
    assert set(everything_in(exported.folder)) == files
    for member in members:
        assert member.crc32 == checksum(exported.folder / member.file)
        weights = load_file(exported.folder / member.file)
        best, trained_config = trainings[member.trial].best_weights, trainings[member.trial].config
        assert weights.keys() == best.keys()
        assert all(torch.equal(weights[name], best[name]) for name in best)
        assert member.parameters == sum(each.numel() for each in build_model(trained_config, 3, 32).parameters())


def test_the_manifest_reads_back_as_it_was_written(exported: Export, dataset: Dataset) -> None:
    manifest = read_manifest(exported.folder)
    assert manifest == exported.manifest
    assert [(each.id, each.words) for each in manifest.classes] == [tuple(each) for each in dataset.classes]
    assert (manifest.schema_version, manifest.experiment, manifest.refit) == (2, "tiny", False)
    assert manifest.dataset == dataset.cache.fingerprint
    assert sum(manifest.weights) == pytest.approx(1)
    assert (manifest.select.images, manifest.holdout.images) == (len(dataset.splits.select), 18)


def pooled_logits(manifest: Manifest, trainings: dict[str, Training], rows: np.ndarray) -> np.ndarray:
    """The ensemble's probabilities from what the trainings themselves predict."""
    logits = np.stack([trainings[member.trial].predict(rows).numpy() for member in manifest.members])
    temperatures = [member.temperature for member in manifest.members]
    return pool(logits, temperatures, manifest.weights, manifest.temperature)


def test_the_holdout_figures_are_those_of_the_trainings_own_predictions(
    experiment: Path, tmp_path: Path, trainings: dict[str, Training], dataset: Dataset
) -> None:
    manifest = export_all(experiment, tmp_path / "ensemble").manifest
    rows = dataset.splits.holdout
    labels = dataset.cache.labels[rows]
    assert close(manifest.holdout, figures(pooled_logits(manifest, trainings, rows), labels))
    for member in manifest.members:
        own = calibrated(trainings[member.trial].predict(rows).numpy(), member.temperature)
        assert close(member.holdout, figures(own, labels))
    single = trainings[manifest.single.trial].predict(rows).numpy().argmax(axis=1) == labels
    assert manifest.single.holdout.top1 == pytest.approx(single.mean())
    assert manifest.gain.difference == pytest.approx(manifest.holdout.top1 - single.mean())
    assert manifest.gain.low <= manifest.gain.difference <= manifest.gain.high


def close(found: Figures, expected: Figures) -> bool:
    return found.model_dump() == pytest.approx(expected.model_dump(), abs=1e-3)


def test_the_uncalibrated_figures_are_those_without_temperatures(experiment: Path, tmp_path: Path) -> None:
    exported = export_all(experiment, tmp_path / "ensemble")
    holdout = read_evidence(exported.folder).holdout
    plain = pool(holdout.logits, [1.0] * len(holdout.logits), exported.manifest.weights)
    assert exported.manifest.uncalibrated == figures(plain, holdout.labels)


def test_the_loaded_ensemble_predicts_as_the_trainings_do(
    experiment: Path, tmp_path: Path, trainings: dict[str, Training], dataset: Dataset
) -> None:
    exported = export_all(experiment, tmp_path / "ensemble")
    rows = dataset.splits.test
    probabilities = load_ensemble(exported.folder, device="cpu").predict(dataset.cache.images[rows])
    np.testing.assert_allclose(probabilities, pooled_logits(exported.manifest, trainings, rows), atol=1e-4)


def test_the_evidence_holds_what_the_members_say_of_named_images(exported: Export, dataset: Dataset) -> None:
    evidence = read_evidence(exported.folder)
    for name in ("select", "holdout"):
        rows, split = getattr(dataset.splits, name), getattr(evidence, name)
        assert split.files == tuple(dataset.cache.names[row] for row in rows)
        np.testing.assert_array_equal(split.labels, dataset.cache.labels[rows])
    ensemble = load_ensemble(exported.folder, device="cpu")
    logits = ensemble.member_logits(dataset.cache.images[dataset.splits.holdout])
    np.testing.assert_allclose(evidence.holdout.logits.astype(np.float32), logits, atol=0.02)


def test_one_member_is_exported_where_one_is_asked_for(experiment: Path, tmp_path: Path) -> None:
    manifest = export_all(experiment, tmp_path / "ensemble", most=1).manifest
    assert len(manifest.members) == 1
    assert manifest.weights == (1.0,)
    assert len(manifest.front) == 1
    assert manifest.holdout.top1 == manifest.members[0].holdout.top1
    assert manifest.gain.difference == 0


def test_half_precision_halves_the_files_and_hardly_changes_what_they_say(
    experiment: Path, tmp_path: Path, dataset: Dataset
) -> None:
    whole = export_all(experiment, tmp_path / "whole", most=1)
    half = export_all(experiment, tmp_path / "half", most=1, half=True)
    (file,) = (member.file for member in half.manifest.members)
    assert (half.folder / file).stat().st_size < 0.6 * (whole.folder / file).stat().st_size
    images = dataset.cache.images[dataset.splits.holdout]
    predictions = [load_ensemble(each.folder, device="cpu").predict(images) for each in (whole, half)]
    np.testing.assert_allclose(*predictions, atol=0.01)
    assert any("half precision" in note for note in half.manifest.notes)


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings run in this process, as they do where Ray isn't installed: ten seconds less each."""
    monkeypatch.setattr(analysis.retraining, "has_ray", lambda: False)


@pytest.mark.usefixtures("without_ray")
def test_refit_members_are_trained_on_select_too(experiment: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(experiment, tmp_path / "tiny")
    before = export_all(folder, tmp_path / "before")
    after = export_all(folder, tmp_path / "after", refit="yes")
    assert after.manifest.refit
    assert after.manifest.select == before.manifest.select
    for member in after.manifest.members:
        refit = load_file(folder / member.trial / "refit" / "model.safetensors")
        weights = load_file(after.folder / member.file)
        assert all(torch.equal(weights[name], refit[name]) for name in refit)
    assert "trained again on train and select" in (after.folder / "README.md").read_text()
    assert load_ensemble(after.folder)
    again = export_all(folder, tmp_path / "again", refit="auto", deadline=Deadline(0.01))
    assert again.manifest.refit  # for there is nothing left to train
    assert not export_all(folder, tmp_path / "none", refit="auto").manifest.refit


@pytest.mark.usefixtures("without_ray")
def test_a_refit_that_fails_ends_the_export_only_if_it_was_asked_for(own_experiment: Path, tmp_path: Path) -> None:
    for path in own_experiment.glob("*/checkpoint_000001/trial.json"):
        change_json(path, lambda trial: trial["config"].update(lr=1e30, clip_grad=None))
    with pytest.raises(UserError, match=r"trainings failed: 000.*: trained again, its loss diverged"):
        export_all(own_experiment, tmp_path / "asked", refit="yes")
    manifest = export_all(own_experiment, tmp_path / "auto", refit="auto", deadline=Deadline(10_000)).manifest
    assert not manifest.refit
    assert manifest.notes[-1].startswith("no refit: ")
    assert "its loss diverged" in manifest.notes[-1]
    assert "trained again on train and select" not in (tmp_path / "auto" / "README.md").read_text()


def test_logits_that_are_no_numbers_leave_their_trial_out(own_experiment: Path, tmp_path: Path) -> None:
    paths = sorted(own_experiment.glob("*/checkpoint_000001/predictions.npz"))
    np.savez_compressed(paths[0], logits=np.full((6, 3), np.nan, np.float16), epoch=1)
    manifest = export_all(own_experiment, tmp_path / "ensemble").manifest
    assert [member.trial for member in manifest.members] == ["0002-test_convnext"]
    assert "0001-test_resnet is left out: its logits aren't all numbers" in manifest.notes
    np.savez_compressed(paths[1], logits=np.full((6, 3), np.inf, np.float16), epoch=1)
    with pytest.raises(UserError, match=r"nothing to export: the logits of 000.*, 000.* aren't all numbers"):
        export_all(own_experiment, tmp_path / "ensemble")


@pytest.mark.usefixtures("without_ray")
def test_a_trial_whose_weights_were_deleted_is_trained_again_if_wanted(own_experiment: Path, tmp_path: Path) -> None:
    for weights in own_experiment.glob("0001*/checkpoint_000001/*.safetensors"):
        weights.unlink()
    trials = load_experiment(own_experiment)
    wanted = Wanted(Limits(members=2), pick="best", extras=False, retrain=True)
    names = {member.trial for member in export_all(own_experiment, tmp_path / "without").manifest.members}
    assert names == {"0002-test_convnext"}
    export(own_experiment, trials, wanted, tmp_path / "ensemble", device="cpu")
    again = list(own_experiment.glob("0001*/retrained/model.safetensors"))
    chosen = read_manifest(tmp_path / "ensemble")
    assert bool(again) == ("0001-test_resnet" in {*(member.trial for member in chosen.members), chosen.single.trial})
    assert again


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
    with pytest.raises(
        UserError, match=r"nothing to export, its 2 trials have no weights of a scored epoch .*--retrain"
    ):
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
    assert list(lines) == ["tried", "ensemble", "members", "select", "holdout", "single", "gain", "predict"]
    assert lines["ensemble"] == str(exported.folder)
    assert lines["holdout"].startswith(f"top-1 {holdout.top1:.2%} ({100 * holdout.top1_low:.1f} .. ")
    assert lines["holdout"].endswith(f"ECE {holdout.ece:.3f} of 18 images; these chose nothing")
    assert lines["gain"].startswith(f"top-1 {100 * exported.manifest.gain.difference:+.2f} points (")
    assert lines["predict"] == (f"python -m analysis.predict {exported.folder} {images}/test -o best_test_preds.csv")


def test_the_command_shows_the_best_trials_first(own_experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(own_experiment, members=2, to=None, device="cpu", extras=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["trial", "arch", "epochs", "select", "top-1", "lr"]
    assert [line.split()[0] for line in lines[1:3]] == list(load_experiment(own_experiment)["trial"])
    assert f"ensemble {own_experiment}/ensemble" in lines
    assert read_manifest(own_experiment / "ensemble")


def test_with_a_time_budget_the_command_says_where_the_time_went(
    own_experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(own_experiment, members=2, device="cpu", time_budget="1h")
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"time     [\d.]+ s of 3600 s: trials [\d.]+, imports [\d.]+, candidates [\d.]+, latest epochs [\d.]+, "
        r"soups [\d.]+, votes [\d.]+, views [\d.]+, weights [\d.]+, faithful check [\d.]+, formats [\d.]+, "
        r"holdout [\d.]+, figures [\d.]+, copy [\d.]+, rest [\d.]+",
        lines[-1],
    )
    main(own_experiment, members=2, device="cpu", extras=False)
    assert capsys.readouterr().out.splitlines()[-1].startswith("predict")


def test_a_budget_that_is_too_short_leaves_out_what_may_be_and_exports_the_rest(
    own_experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(own_experiment, members=2, device="cpu", time_budget="0.01s", refit="auto")
    out = capsys.readouterr().out
    for left_out in ("no refit: it", "mirrored views aren't tried: it", "crops views aren't tried: it"):
        assert f"tried    {left_out} would take about " in out
    manifest = read_manifest(own_experiment / "ensemble")
    assert manifest.holdout.images == 18
    assert (manifest.refit, manifest.views) == (False, ("whole",))


def test_a_budget_that_is_no_duration_is_refused(own_experiment: Path) -> None:
    with pytest.raises(UsageError, match="--time-budget soon: give a duration such as 30m"):
        main(own_experiment, time_budget="soon")


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
