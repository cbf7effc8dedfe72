"""The ensemble as a classifier, and the ways in which an export can be unusable."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from analysis import load_ensemble
from analysis.ensemble import Ensemble
from analysis.export import Export
from analysis.library import calibrated
from analysis.manifest import REBUILD, MemberModel
from analysis.pooling import pool
from trainable.architectures import build_model
from trainable.config import TrialConfig
from trainable.data.layouts import ClassName
from trainable.errors import UsageError, UserError
from trainable.files import checksum
from trainable.training import cpu_weights

CLASSES = [ClassName("a", "first"), ClassName("b", "second")]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def two_sizes(tmp_path_factory: pytest.TempPathFactory) -> Ensemble:
    """Two untrained models of the same weights at 32 and 48 px, in shares of 1 to 3, at temperature 2."""
    folder = tmp_path_factory.mktemp("ensemble")
    save_file(build_model(TrialConfig(data=folder, arch="test_resnet"), 2, 32).state_dict(), folder / "weights")
    members = [
        MemberModel(
            trial=str(size), file="weights", config={"arch": "test_resnet"}, mean=(0.5,) * 3, std=(0.5,) * 3,
            image_size=size, temperature=temperature,
        )
        for size, temperature in ((48, 1.5), (32, 0.5))
    ]  # fmt: skip
    return Ensemble(folder, members, CLASSES, weights=(0.25, 0.75), temperature=2.0, device=CPU)


def noise(images: int, size: int) -> np.ndarray:
    return np.random.default_rng(size).integers(0, 256, (images, size, size, 3), dtype=np.uint8)


def test_members_of_different_sizes_are_pooled_by_their_weights_and_temperatures(two_sizes: Ensemble) -> None:
    images = {size: noise(4, size) for size in two_sizes.sizes}
    assert two_sizes.sizes == (32, 48)
    logits = two_sizes.member_logits(images)
    assert not np.allclose(*logits)
    probabilities = two_sizes.predict(images)
    np.testing.assert_allclose(probabilities, pool(logits, [1.5, 0.5], [0.25, 0.75], 2.0), rtol=1e-4)
    assert probabilities.dtype == np.float32


def test_each_members_vote_is_its_own_calibrated_probability(two_sizes: Ensemble) -> None:
    images = {size: noise(4, size) for size in two_sizes.sizes}
    votes = two_sizes.votes(images)
    np.testing.assert_array_equal(votes.probabilities, two_sizes.predict(images))
    for member, logits, temperature in zip(votes.members, two_sizes.member_logits(images), [1.5, 0.5], strict=True):
        np.testing.assert_allclose(member, calibrated(logits, temperature), rtol=1e-4)


def test_views_change_a_members_logits(two_sizes: Ensemble, tmp_path: Path) -> None:
    save_file(cpu_weights(two_sizes.module.members[0].model), tmp_path / "weights")
    (member,) = two_sizes.members[1:]
    seen = Ensemble(tmp_path, [member], CLASSES, [1.0], 1.0, CPU, views=("whole", "mirrored"))
    images = noise(3, 32)
    whole, mirror = (two_sizes.member_logits({32: each, 48: noise(3, 48)})[1] for each in (images, images[:, :, ::-1]))
    np.testing.assert_allclose(seen.member_logits(images)[0], (whole + mirror) / 2, atol=1e-4)


def test_a_prediction_does_not_depend_on_the_batch_around_it(two_sizes: Ensemble) -> None:
    images = {size: noise(5, size) for size in two_sizes.sizes}
    alone = [
        two_sizes.predict({size: batch[index : index + 1] for size, batch in images.items()}) for index in range(5)
    ]
    np.testing.assert_allclose(two_sizes.predict(images), np.concatenate(alone), atol=1e-5)


@pytest.mark.parametrize(
    "images", [noise(2, 32), {32: noise(2, 32), 48: noise(2, 32)}, {32: noise(2, 32) / 255, 48: noise(2, 48)}]
)
def test_images_of_another_size_or_type_are_refused(two_sizes: Ensemble, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \(images, \d+, \d+, 3\) for each image size of \(32, 48\)"):
        two_sizes.predict(images)


@pytest.mark.parametrize(
    "values",
    [
        {"arch": "resnet18", "drop_rate": 0.3, "drop_path_rate": 0.2},
        {"arch": "vit_small", "patch_size": 8, "attn_drop_rate": 0.1, "drop_path_rate": 0.2},
        {"arch": "deit_small", "drop_rate": 0.3},
        {"arch": "resnet18", "stem": "full"},
        {"arch": "swin_tiny", "window_size": 2},
        {"arch": "swin_tiny", "drop_rate": 0.3, "attn_drop_rate": 0.1, "drop_path_rate": 0.2},
    ],
)
def test_what_a_member_keeps_of_its_configuration_is_enough_to_rebuild_it(values: dict[str, Any]) -> None:
    trained = TrialConfig(data=Path("x"), image_size=32, ema_decay=0.9, **values)
    rebuilt = TrialConfig(data=Path("x"), **trained.model_dump(include=REBUILD))
    with torch.device("meta"):
        states = [build_model(config, 5, 32).state_dict() for config in (trained, rebuilt)]
    shapes, again = ({name: value.shape for name, value in state.items()} for state in states)
    assert again == shapes


def test_a_missing_folder_is_a_wrong_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none: no such folder; give that of an exported ensemble"):
        load_ensemble(tmp_path / "none")


def test_the_experiments_folder_points_to_the_ensemble_in_it(exported: Export, tmp_path: Path) -> None:
    inner = shutil.copytree(exported.folder, tmp_path / "ensemble")
    with pytest.raises(UsageError, match=f"holds no ensemble.json; did you mean {inner}"):
        load_ensemble(tmp_path)


def test_an_export_without_its_manifest_is_incomplete(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a complete export \(no ensemble.json\)"):
        load_ensemble(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "can't be read"),
        ("[]", "can't be read"),
        ("{}", "can't be read .*schema_version"),
        ('{"schema_version": 3}', "schema version 3, but this program reads 2; update it"),
        ('{"schema_version": 1}', "schema version 1, but this program reads 2; export it again"),
        ('{"schema_version": 2}', "experiment: Field required"),
    ],
)
def test_a_manifest_that_cannot_be_meant_is_an_error(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "ensemble.json").write_text(text)
    with pytest.raises(UserError, match=f"ensemble.json: {reason}"):
        load_ensemble(tmp_path)


def test_a_missing_member_is_named(exported: Export, tmp_path: Path) -> None:
    folder = shutil.copytree(exported.folder, tmp_path / "ensemble")
    file = exported.manifest.members[0].file
    (folder / file).unlink()
    with pytest.raises(UserError, match=f"{file} is missing"):
        load_ensemble(folder)


def test_a_member_that_is_not_the_exported_file_is_named(exported: Export, tmp_path: Path) -> None:
    folder = shutil.copytree(exported.folder, tmp_path / "ensemble")
    path = folder / exported.manifest.members[0].file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path.name}: isn't the file that was exported; export it again"):
        load_ensemble(folder)


@pytest.mark.parametrize("kind", ["truncated", "foreign", "pickle"])
def test_a_file_that_holds_no_weights_of_the_member_is_named(exported: Export, tmp_path: Path, kind: str) -> None:
    folder = shutil.copytree(exported.folder, tmp_path / "ensemble")
    path = folder / exported.manifest.members[0].file
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif kind == "foreign":
        save_file({"other": torch.zeros(1)}, path)
    else:
        torch.save({"x": torch.zeros(1)}, path)
    manifest = json.loads((folder / "ensemble.json").read_text())
    manifest["members"][0]["crc32"] = checksum(path)
    (folder / "ensemble.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=f"{path.name}: doesn't hold the weights of"):
        load_ensemble(folder)


def test_a_member_of_an_architecture_that_is_unknown_here_is_named(exported: Export, tmp_path: Path) -> None:
    folder = shutil.copytree(exported.folder, tmp_path / "ensemble")
    manifest = json.loads((folder / "ensemble.json").read_text())
    manifest["members"][0]["config"]["arch"] = "of_tomorrow"
    (folder / "ensemble.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="'of_tomorrow' is unknown"):
        load_ensemble(folder)


def refused(exported: Export, tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> str:
    """Why the export isn't loaded after a change of its manifest."""
    folder = shutil.copytree(exported.folder, tmp_path / "ensemble")
    manifest = json.loads((folder / "ensemble.json").read_text())
    change(manifest)
    (folder / "ensemble.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"ensemble\.json: ") as caught:
        load_ensemble(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value).partition("ensemble.json: ")[2]


@pytest.mark.parametrize("file", ["../outside.safetensors", "/etc/passwd", "members/../../x", "a\0b"])
def test_a_member_file_outside_of_the_folder_is_refused(exported: Export, tmp_path: Path, file: str) -> None:
    member = exported.folder / exported.manifest.members[0].file
    shutil.copyfile(member, tmp_path / "outside.safetensors")
    reason = refused(exported, tmp_path, lambda manifest: manifest["members"][0].update(file=file))
    assert "leads outside of" in reason


def test_a_member_file_behind_a_link_out_of_the_folder_is_refused(exported: Export, tmp_path: Path) -> None:
    folder = shutil.copytree(exported.folder, tmp_path / "ensemble")
    member = folder / exported.manifest.members[0].file
    member.rename(tmp_path / "elsewhere")
    member.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=f"member file '{exported.manifest.members[0].file}' leads outside of {folder}"):
        load_ensemble(folder)


def test_a_folder_that_is_a_link_itself_is_loaded(exported: Export, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(exported.folder)
    assert load_ensemble(tmp_path / "link").members == load_ensemble(exported.folder).members


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"weights": [1e300, 1e300]}, r"weights\.0: Input should be less than or equal to 1"),
        ({"weights": [float("nan"), 1]}, r"weights\.0: "),
        ({"weights": [-1, 2]}, r"weights\.0: Input should be greater than or equal to 0"),
        ({"weights": [0.3, 0.3, 0.4, 0]}, r"Value error, weights .* must be one for each of \d members"),
        ({"weights": [0.1] * 2}, r"Value error, weights .* add up to 1"),
        ({"views": []}, "views: Tuple should have at least 1 item"),
        ({"views": ["upside-down"]}, r"views\.0: Input should be 'whole', 'mirrored' or 'crops'"),
        ({"temperature": 0}, "temperature: Input should be greater than 0"),
        ({"temperature": float("nan")}, "temperature: Input should be "),
        ({"temperature": float("inf")}, "temperature: Input should be a finite number"),
        ({"classes": []}, "classes: Tuple should have at least 2 items"),
        ({"members": []}, "members: Tuple should have at least 1 item"),
    ],
)
def test_a_manifest_of_impossible_numbers_is_one_line(
    exported: Export, tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    assert re.match(reason, refused(exported, tmp_path, lambda manifest: manifest.update(fields)))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"image_size": -1}, r"members\.0\.image_size: Input should be greater than or equal to 8"),
        ({"image_size": 10**9}, r"members\.0\.image_size: Input should be less than or equal to 1024"),
        ({"mean": [0.5]}, r"members\.0\.mean"),
        ({"mean": [0.5, 0.5, float("nan")]}, r"members\.0\.mean\.2: Input should be a finite number"),
        ({"std": [0.5, 0.5, 0]}, r"members\.0\.std\.2: Input should be greater than 0"),
        ({"std": [0.5] * 4}, r"members\.0\.std"),
        ({"config": {"arch": "test_resnet", "pretrained": True}}, r"members\.0\.config: .*'pretrained' must not"),
        (
            {"config": {"arch": "test_resnet", "pretrained": "/etc/passwd"}},
            r"members\.0\.config: .*'pretrained' must not",
        ),
    ],
)
def test_a_member_of_impossible_values_is_one_line(
    exported: Export, tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    assert re.match(reason, refused(exported, tmp_path, lambda manifest: manifest["members"][0].update(fields)))


def test_a_manifest_nested_without_end_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "ensemble.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"ensemble\.json: can't be read \(RecursionError"):
        load_ensemble(tmp_path)
