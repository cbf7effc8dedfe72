"""The ensemble as one graph: that ONNX Runtime and torch.export predict with it as the ensemble itself does."""

import json
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from analysis import formats, load_ensemble
from analysis.ensemble import Ensemble
from analysis.export import Export
from analysis.formats import check_equal, check_formats, write_formats
from analysis.manifest import MemberModel
from trainable.architectures import build_model
from trainable.config import TrialConfig
from trainable.data.dataset import Dataset
from trainable.errors import UsageError, UserError

CPU = torch.device("cpu")


class Written(NamedTuple):
    ensemble: Ensemble
    folder: Path
    notes: tuple[str, ...]

    def onnx(self) -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(self.folder / "ensemble.onnx", providers=["CPUExecutionProvider"])

    def run_onnx(self, images: dict[int, np.ndarray]) -> NDArray[np.float32]:
        session = self.onnx()
        names = [each.name for each in session.get_inputs()]
        return session.run(None, dict(zip(names, images.values(), strict=True)))[0]

    def run_pt2(self, images: dict[int, np.ndarray]) -> NDArray[np.float32]:
        module = torch.export.load(self.folder / "ensemble.pt2").module()
        return module(*(torch.from_numpy(batch) for batch in images.values())).detach().numpy()


def noise(images: int, sizes: tuple[int, ...]) -> dict[int, np.ndarray]:
    generator = np.random.default_rng(images)
    return {size: generator.integers(0, 256, (images, size, size, 3), dtype=np.uint8) for size in sizes}


def make_ensemble(
    folder: Path, dataset: Dataset, parts: dict[str, int], views: tuple[str, ...] = ("whole",), half: bool = False
) -> Ensemble:
    """Untrained members, by their architecture and image size, with weights large enough to tell images apart."""
    members = []
    for arch, size in parts.items():
        model = build_model(TrialConfig(data=folder, arch=arch), dataset.num_classes, size)
        generator = torch.Generator().manual_seed(size)
        for each in model.parameters():
            if each.ndim > 1:
                torch.nn.init.normal_(each, std=0.05, generator=generator)
        save_file((model.half() if half else model).state_dict(), folder / arch)
        members.append(
            MemberModel(
                trial=f"trial of {arch}", file=arch, config={"arch": arch}, mean=(0.5,) * 3, std=(0.25,) * 3,
                image_size=size, temperature=1.5,
            )
        )  # fmt: skip
    weights = np.arange(1, len(parts) + 1) / np.arange(1, len(parts) + 1).sum()
    return Ensemble(folder, members, dataset.classes, tuple(weights), 1.25, CPU, views)


@pytest.fixture(scope="module")
def of_search(exported: Export, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The graphs of the tiny search's ensemble."""
    folder, ensemble = tmp_path_factory.mktemp("graphs"), load_ensemble(exported.folder, "cpu")
    return Written(ensemble, folder, write_formats(ensemble, dataset, folder, ["onnx", "pt2"], "tiny"))


@pytest.fixture(scope="module")
def of_two_sizes(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The graphs of members of 32 and 48 px in half precision, with all views."""
    folder = tmp_path_factory.mktemp("two_sizes")
    parts = {"test_vit": 48, "test_resnet": 32}
    ensemble = make_ensemble(folder, dataset, parts, ("whole", "mirrored", "crops"), half=True)
    return Written(ensemble, folder, write_formats(ensemble, dataset, folder, ["pt2", "onnx", "pt2"]))


@pytest.mark.parametrize("run", [Written.run_onnx, Written.run_pt2])
@pytest.mark.parametrize("batch", [1, 2, 9])
def test_a_graph_predicts_batches_of_any_size_as_the_ensemble_does(
    of_search: Written, of_two_sizes: Written, run: Callable[[Written, dict[int, np.ndarray]], np.ndarray], batch: int
) -> None:
    for written in (of_search, of_two_sizes):
        images = noise(batch, written.ensemble.sizes)
        found = run(written, images)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, written.ensemble.predict(images), rtol=0, atol=1e-5)


def test_different_images_get_different_probabilities(of_two_sizes: Written) -> None:
    probabilities = of_two_sizes.run_onnx(noise(9, of_two_sizes.ensemble.sizes))
    assert np.ptp(probabilities, axis=0).max() > 0.01  # else the comparisons would say nothing


def test_the_onnx_graph_names_its_inputs_and_leaves_their_batch_open(of_search: Written, of_two_sizes: Written) -> None:
    def shapes(written: Written) -> dict[str, tuple[list[str | int], str]]:
        session = written.onnx()
        return {each.name: (each.shape, each.type) for each in (*session.get_inputs(), *session.get_outputs())}

    out = {"probabilities": (["batch", 3], "tensor(float)")}
    assert shapes(of_search) == {"images": (["batch", 32, 32, 3], "tensor(uint8)")} | out
    assert shapes(of_two_sizes) == {
        "images_32": (["batch", 32, 32, 3], "tensor(uint8)"),
        "images_48": (["batch", 48, 48, 3], "tensor(uint8)"),
    } | out  # fmt: skip


def test_the_onnx_graph_is_valid_and_in_one_file(of_two_sizes: Written) -> None:
    onnx.checker.check_model(str(of_two_sizes.folder / "ensemble.onnx"), full_check=True)
    assert sorted(path.name for path in of_two_sizes.folder.glob("*ensemble*")) == ["ensemble.onnx", "ensemble.pt2"]


def test_a_graph_holds_each_weight_once_however_many_views_there_are(of_two_sizes: Written) -> None:
    numbers = sum(each.nbytes for each in of_two_sizes.ensemble.module.state_dict().values())
    for name in ("ensemble.onnx", "ensemble.pt2"):
        assert numbers < (of_two_sizes.folder / name).stat().st_size < 1.3 * numbers


def test_both_files_say_what_the_ensemble_is(of_search: Written, exported: Export) -> None:
    told = {name: json.loads(value) for name, value in of_search.onnx().get_modelmeta().custom_metadata_map.items()}
    extra = {"metadata.json": ""}
    torch.export.load(of_search.folder / "ensemble.pt2", extra_files=extra)
    assert json.loads(extra["metadata.json"]) == told
    manifest = exported.manifest
    assert told["classes"] == [each.model_dump() for each in manifest.classes]
    assert (told["schema_version"], told["experiment"], told["image_sizes"]) == (2, "tiny", [32])
    assert (told["temperature"], tuple(told["views"])) == (manifest.temperature, manifest.views)
    assert [(each["trial"], each["weight"], each["temperature"]) for each in told["members"]] == [
        (each.trial, weight, each.temperature) for each, weight in zip(manifest.members, manifest.weights, strict=True)
    ]


def test_the_files_tell_nothing_of_the_machine_and_hold_no_image(of_search: Written) -> None:
    for name in ("ensemble.onnx", "ensemble.pt2"):
        content = (of_search.folder / name).read_bytes()
        assert b"modules.py" not in content
        assert str(Path.cwd()).encode() not in content
    (example,), _ = torch.export.load(of_search.folder / "ensemble.pt2").example_inputs
    assert not example.any()


def test_the_notes_tell_format_size_and_measured_difference(of_search: Written, of_two_sizes: Written) -> None:
    assert [note.partition(":")[0] for note in of_search.notes] == ["onnx", "pt2"]
    assert [note.partition(":")[0] for note in of_two_sizes.notes] == ["pt2", "onnx"]
    for written in (of_search, of_two_sizes):
        for note in written.notes:
            name, size, difference = note.split()[1], float(note.split()[3]), float(note.split()[11])
            assert size == pytest.approx((written.folder / name).stat().st_size / 1e6, abs=0.05)
            assert 0 <= difference < 1e-5
            assert note.endswith("on 6 images of select")


def test_the_lines_in_the_modules_docstring_predict_an_image(
    of_search: Written,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert formats.__doc__
    lines = textwrap.dedent("\n".join(line for line in formats.__doc__.splitlines() if line.startswith("    ")))
    assert len(lines.splitlines()) == 5
    picture = Image.open(next((images / "train" / "green").iterdir()))
    (tmp_path / "ensemble.onnx").symlink_to(of_search.folder / "ensemble.onnx")
    picture.save(tmp_path / "image.png")
    monkeypatch.chdir(tmp_path)
    exec("import json, numpy, onnxruntime\nfrom PIL import Image, ImageOps\n" + lines, {})
    words, probability = capsys.readouterr().out.split()
    [expected] = of_search.ensemble.predict(np.asarray(picture)[None])
    assert words == of_search.ensemble.classes[expected.argmax()].words
    assert float(probability) == pytest.approx(expected.max(), abs=1e-5)


def test_a_swin_exports_without_a_word(dataset: Dataset, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ensemble = make_ensemble(tmp_path, dataset, {"swin_tiny": 32})
    [note] = write_formats(ensemble, dataset, tmp_path, ["pt2"])
    assert note.startswith("pt2: ensemble.pt2 of 111.")
    assert capfd.readouterr() == ("", "")


def test_nothing_is_written_where_no_format_is_wanted(of_search: Written, dataset: Dataset, tmp_path: Path) -> None:
    assert write_formats(of_search.ensemble, dataset, tmp_path, []) == ()
    assert not list(tmp_path.iterdir())


def test_the_ensemble_is_as_it_was(of_search: Written, exported: Export) -> None:
    images, (member, *_) = noise(4, (32,)), of_search.ensemble.module.members
    np.testing.assert_array_equal(
        of_search.ensemble.predict(images), load_ensemble(exported.folder, "cpu").predict(images)
    )
    convolutions = [each.weight for each in member.modules() if isinstance(each, torch.nn.Conv2d)]
    assert all(each.is_contiguous(memory_format=torch.channels_last) for each in convolutions)


@pytest.mark.parametrize("wrong", [0.2, np.nan])
def test_a_graph_that_predicts_otherwise_is_refused_with_what_differs(dataset: Dataset, wrong: float) -> None:
    rows = dataset.splits.select
    expected = np.full((len(rows), 3), 1 / 3, np.float32)
    found = expected.copy()
    assert check_equal("onnx", found, expected, dataset, rows) == 0
    found[4, 1] = wrong
    reason = (
        f"--format onnx: the graph predicts otherwise than the ensemble: {wrong:.6f} instead of 0.333333 "
        f"for class green of {dataset.cache.names[rows[4]]} .at most 1e-04 apart.; leave it out"
    )
    with pytest.raises(UserError, match=reason):
        check_equal("onnx", found, expected, dataset, rows)


class Undecided(torch.nn.Module):
    """What it computes depends on the pixels, which no graph can hold."""

    def forward(self, *images: torch.Tensor) -> torch.Tensor:
        brightness = images[0].float().mean(dim=(1, 2, 3))
        return torch.stack([brightness] * 3, dim=1) if brightness.sum() > 0 else brightness


def test_an_ensemble_that_no_graph_can_hold_is_refused_in_one_line(
    dataset: Dataset, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ensemble = make_ensemble(tmp_path, dataset, {"test_resnet": 32})
    ensemble.module = Undecided()  # type: ignore[assignment]
    with pytest.raises(
        UserError, match=r"--format pt2: can't be written \(\w+: .*\); leave it out: the ensemble"
    ) as caught:
        write_formats(ensemble, dataset, tmp_path, ["pt2"])
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_weights_that_one_onnx_file_cannot_hold_are_refused_before_the_work(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensemble = make_ensemble(tmp_path, dataset, {"test_resnet": 32})
    monkeypatch.setattr(formats, "LARGEST_ONNX_BYTES", 1_000_000)
    monkeypatch.setattr(formats, "trace", lambda *_: pytest.fail("must not get here"))
    with pytest.raises(UserError, match=r"--format onnx: .* take 0\.00 GB .* holds 0\.00 GB; give fewer --members"):
        write_formats(ensemble, dataset, tmp_path, ["pt2", "onnx"])


def test_an_unknown_format_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="--format tflite: unknown; known are onnx, pt2"):
        check_formats(["onnx", "tflite"])


def test_a_missing_extra_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"onnx: onnxscript not installed; pip install 'tune-to-ensemble\[onnx\]'"):
        check_formats(["pt2", "onnx"])
    check_formats(["pt2"])
