"""Equal seconds from published weights: sides that start from the same ones, from end to end."""

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks._equal_sides import OURS, SIDES
from benchmarks._equal_stock import space_of, transform
from benchmarks._equal_task import Task, facts_of, open_images
from benchmarks.transfer import EVERY_SIDE
from trainable.data.cache import default_cache_dir
from trainable.data.lite import PACKAGES, lite_weights

ROOT = Path(__file__).parents[2]


def task_of(root: Path, output: Path, **values) -> Task:
    facts = facts_of(open_images(root, 32, 0)) | {"data": root, "flip": True, "space": "photos", "seconds": 5.0}
    return Task(**facts, seed=0, cores=2, output=output, stock_epochs=2, **values)


def test_every_side_is_known_and_ours_starts_from_the_same_weights(colour_folder, tmp_path):
    assert set(EVERY_SIDE.split(",")) <= SIDES.keys()
    weights = {arch: lite_weights(arch, default_cache_dir()) for arch in PACKAGES}
    for task, option in (
        (task_of(colour_folder, tmp_path, weights=weights), "lite"),
        (task_of(colour_folder, tmp_path), "none"),
    ):
        command = SIDES[OURS].command(task)
        assert command[command.index("--pretrained") + 1] == option


def test_stock_chooses_among_what_has_weights_and_shows_images_as_they_expect_them(colour_folder, tmp_path):
    weights = {arch: lite_weights(arch, default_cache_dir()) for arch in PACKAGES}
    assert space_of("photos", list(weights))["arch"].categories == list(PACKAGES)
    shown = transform(task_of(colour_folder, tmp_path, weights=weights), augmented=False).transforms[-1]
    assert (shown.mean, shown.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_frozen_features_and_one_fine_tuning_run_on_the_digits(tmp_path):
    options = ["--quick", "--sides", "frozen,one", "--results", "results.jsonl"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.transfer", *options],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [record["side"] for record in records] == ["frozen", "one"]
    for record in records:
        assert 0 <= record["balanced"] <= 1
        assert record["about"]["arch"] == "tf_efficientnet_lite0"
