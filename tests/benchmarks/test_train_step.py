"""Where an epoch's time goes, and training against other loops: that it runs, and that its sides do what they say."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from benchmarks import _train_sides as sides
from benchmarks._peer_transforms import peer_bytes, peer_transform
from benchmarks._train_chart import draw, shares
from benchmarks._train_sides import Common
from benchmarks._train_split import PARTS, Alone, OurTraining, split_of
from benchmarks.compare import Spread
from benchmarks.train_step import (
    RATIOS,
    Effort,
    Measured,
    architectures,
    check_options,
    geometric_means,
    in_updates,
    of_about,
    split_row,
    updates_in,
)
from trainable import metrics
from trainable.config import ARCHITECTURES, Policy, TrialConfig
from trainable.data.dataset import open_dataset
from trainable.device import Arithmetic
from trainable.errors import UsageError

ROOT = Path(__file__).parents[2]
SIDES = ["ours", "limit", "timm", "imagefolder", "defaults", "defaults in fp32"]
CPU, FP32 = torch.device("cpu"), Arithmetic(None, False, "")


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.train_step", "--device", "cpu", *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_command_writes_all_sides_a_split_and_a_chart(tmp_path: Path) -> None:
    files = "--json", "figures.json", "--png", "split.png"
    done = run(tmp_path, "--quick", "--arch", "resnet18", *files)
    assert done.returncode == 0, done.stderr
    assert "ours ÷ it" in done.stdout
    assert "geometric" in done.stdout
    figures = json.loads((tmp_path / "figures.json").read_text())
    (measured,) = figures["runs"]
    assert list(measured["images_per_second"]) == SIDES
    assert list(measured["ratio"]) == list(RATIOS)
    for ratio in measured["ratio"].values():
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"] < math.inf
    assert figures["means"]["32"] == pytest.approx({name: one["median"] for name, one in measured["ratio"].items()})
    assert list(measured["split_ms_per_image"]) == list(PARTS)
    split = measured["split_ms_per_image"]
    assert split.pop("host-to-device") == 0
    split.pop("metrics")  # what is left, which a busy machine's clock may make nothing of
    assert all(part > 0 for part in split.values()), split
    assert (tmp_path / "split.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--arch", "resnet19"), "architecture 'resnet19' is unknown: did you mean resnet18"),
        (("--image-size", "4"), "image_size = 4: Input should be greater than or equal to 8"),
        (("--batch-size", "7"), "--batch-size 7: timm's Mixup takes even batches only; give 8"),
        (("--png", "nowhere/split.png"), "nowhere/split.png: there is no folder nowhere; make it"),
        (("--augment", "heavy"), "'heavy' is not one of"),
        (("--rounds", "0"), "'--rounds': Input should be greater than or equal to 1"),
        (("--data", "."), "has no folder train/ with a folder for each class"),
        (("--device", "tpu"), "--device tpu: unknown; give auto, cpu, cuda or cuda:N"),
    ],
)
def test_what_cannot_be_meant_is_one_line(tmp_path: Path, options: tuple[str, str], message: str) -> None:
    done = run(tmp_path, "--quick", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout


def test_a_batch_larger_than_the_data_is_refused(colour_folder: Path, tmp_path: Path) -> None:
    done = run(
        tmp_path, "--data", str(colour_folder), "--batch-size", "1000", "--image-size", "32", "--arch", "resnet18"
    )
    assert done.returncode == 2
    assert "training images; give fewer" in done.stderr
    check_options(8, None, tmp_path / "figures.json")
    with pytest.raises(UsageError, match="even batches only; give 4"):
        check_options(3)


def common(folder: Path, augment: Policy = "none", image_size: int = 32) -> Common:
    config = TrialConfig(data=folder, image_size=image_size, arch="test_vit2", batch_size=4, augment=augment, epochs=1)
    return Common(config, open_dataset(folder, image_size, progress=False), CPU, FP32, workers=0)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # timm's data set leaves that to the collector
@pytest.mark.parametrize("augment", ["none", "light", "full"])
def test_the_peers_train_on_the_files_at_any_size_with_each_policy(colour_folder: Path, augment: Policy) -> None:
    setting = common(colour_folder, augment, image_size=48)
    model = setting.model()
    images, labels = next(iter(sides.timm_loader(setting, model)))
    assert images.shape == (4, 3, 48, 48)
    assert images.dtype == torch.float32
    assert labels.shape == (4,)
    for loop in (sides.timm_loop, sides.imagefolder_loop):
        updates = loop(setting)
        assert [next(updates) for _ in range(40)] == [4] * 40  # more than an epoch's 30


def test_the_limit_and_the_defaults_change_their_model_with_every_update(
    colour_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[torch.nn.Module] = []
    build = sides.build_model
    monkeypatch.setattr(sides, "build_model", lambda *given: models.append(build(*given)) or models[-1])
    updates = sides.defaults(common(colour_folder), FP32)
    before = [parameter.detach().clone() for parameter in models[0].parameters()]
    assert next(updates) == 4
    assert any(not old.equal(new) for old, new in zip(before, models[0].parameters(), strict=True))
    assert next(sides.limit(common(colour_folder))) == 4


def test_our_epochs_are_at_full_strength_and_as_long_as_asked(colour_folder: Path) -> None:
    setting = common(colour_folder, "full")
    ours = OurTraining(setting.config, setting.dataset, CPU, cores=1)
    assert ours.run(2) > 0
    assert ours.run(3) > 0
    images = [record[metrics.IMAGES_PER_SECOND] * record[metrics.SECONDS_TRAIN] for record in ours.records]
    assert images == pytest.approx([8, 12])
    assert [record[metrics.STRENGTH] for record in ours.records] == pytest.approx([1, 1])
    split = ours.split(seconds=0)
    assert split["forward"] > 0
    assert split["host-to-device"] == 0


def record(seconds: float) -> dict[str, Any]:
    """Of an epoch of 10 images."""
    parts = {"seconds_data": 0.2, "seconds_forward": 0.3, "seconds_backward": 0.3, "seconds_update": 0.1}
    return {name: part * seconds for name, part in parts.items()} | {
        metrics.SECONDS_TRAIN: seconds,
        metrics.IMAGES_PER_SECOND: 10 / seconds,
    }


def test_the_parts_add_up_to_the_training_with_evaluation_and_checkpoint() -> None:
    alone = Alone(copying=0.01, mixing=0.02, evaluation=0.03, checkpoint=0.04)
    split = split_of([record(1.0), record(3.0)], alone)
    assert split == pytest.approx(
        {
            "data": 30,
            "host-to-device": 10,
            "mixing": 20,
            "forward": 40,
            "backward": 60,
            "optimiser": 20,
            "metrics": 20,
            "evaluation": 30,
            "checkpoint": 40,
        }
    )
    late = split_of(
        [record(1.0)], alone._replace(copying=9.0, mixing=9.0)
    )  # hidden behind other work, or a busy machine
    assert late["data"] == late["forward"] == 0
    assert sum(late.values()) == pytest.approx(100 + 70)


def test_uncounted_updates_come_before_those_that_are_timed() -> None:
    seen: list[int] = []

    def updates() -> Any:
        for number in range(100):
            seen.append(number)
            yield 4

    timed: Callable[[int], float] = in_updates(updates(), CPU, uncounted=2)
    assert timed(3) > 0
    assert timed(1) > 0
    assert len(seen) == 5 + 3


@pytest.mark.parametrize(
    ("seconds", "speed", "most", "count"), [(1, 100, 50, 4), (1, 8, 50, 1), (0, 100, 50, 1), (60, 100, 50, 50)]
)
def test_a_measurement_is_whole_updates(seconds: float, speed: float, most: int, count: int) -> None:
    assert updates_in(seconds, speed, most, batch=32) == count


@pytest.mark.parametrize(
    ("seconds", "on_gpu", "counts"), [(0.3, False, [1, 1]), (0.3, True, [1, 2, 1]), (2, False, [1, 2, 4])]
)
def test_long_updates_are_not_made_twice_to_see_how_long_they_are(
    seconds: float, on_gpu: bool, counts: list[int]
) -> None:
    made: list[int] = []

    def run(count: int) -> float:
        made.append(count)
        return 8.0  # images/s: half a second an update

    assert of_about(run, Effort(1, seconds, None), most=9, batch=4, on_gpu=on_gpu)() == 8
    assert made == counts


def test_all_means_the_eight_and_each_is_measured_once() -> None:
    assert architectures(["vit_small", "all", "vit_small", "test_vit2"])[-1] == "test_vit2"
    assert set(architectures(["all"])) == set(ARCHITECTURES)
    assert len(architectures(["vit_small", "all"])) == len(ARCHITECTURES)


def measured(arch: str, size: int, ratio: float) -> Measured:
    split = {"data": 1.0, "host-to-device": 0.0, "forward": 3.0}
    return Measured(arch, size, {}, dict.fromkeys(RATIOS, Spread(ratio, ratio, ratio)), split, {})


def test_means_are_geometric_and_each_size_has_its_own() -> None:
    means = geometric_means([measured("a", 32, 1.0), measured("a", 64, 3.0), measured("b", 32, 4.0)])
    assert means == {32: pytest.approx(dict.fromkeys(RATIOS, 2.0)), 64: pytest.approx(dict.fromkeys(RATIOS, 3.0))}


def test_the_chart_has_a_bar_a_model_from_nothing_to_all() -> None:
    one = measured("a", 32, 1.0)
    assert shares(one.split) == {"data": 0.25, "host-to-device": 0, "forward": 0.75}
    assert split_row(one) == {"model": "a, 32 px", "data": "25.0", "copy": "0.0", "fwd": "75.0"}
    (axes,) = draw({"a": one.split, "b": {"data": 1.0, "host-to-device": 1.0, "forward": 2.0}}).axes
    ends = [bar.get_x() + bar.get_width() for bar in axes.containers[-1]]
    assert ends == pytest.approx([1, 1])
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in axes.texts] == ["4 ms", "4 ms"]


@pytest.mark.parametrize("kind", ["none", "light", "full"])
def test_the_peers_transforms_give_any_size(kind: Policy) -> None:
    image = Image.new("RGB", (32, 32), (255, 255, 255))
    floats = peer_transform(kind, 64, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))(image)
    assert floats.shape == (3, 64, 64)
    assert floats.dtype == torch.float32
    raw = peer_bytes(kind, 64)(image)
    assert raw.shape == (3, 64, 64)
    assert raw.dtype == torch.uint8
