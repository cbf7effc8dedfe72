import base64
import io
import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.calibration import figures, fit_temperature, interval
from analysis.evidence import Evidence, SplitEvidence, read_evidence, write_evidence
from analysis.manifest import (
    MANIFEST,
    MEMBERS,
    ClassEntry,
    Figures,
    FrontPoint,
    Gain,
    Manifest,
    Member,
    Single,
    read_manifest,
)
from analysis.pages.ensemble_plots import ensemble_sections
from analysis.pages.ensemble_tables import Measured, read_measured
from analysis.pages.page import render_page
from analysis.pages.section import Section
from analysis.pages.text import share
from analysis.pooling import pool
from trainable.errors import UserError

KEYS = (
    "ensemble-gain", "ensemble-size", "diversity", "calibration", "optimism", "confusion", "confident-errors",
)  # fmt: skip
HOSTILE = "<script>alert(1)</script>$\\frac$"
CLASSES = ("blue", "green", "red", "sky")
TRIALS = ("0001-resnet18", "0002-vit_small", "0003-swin_tiny")
SKILLS = (2.2, 2.0, 1.8)
"""By how much a member's logit of the true class is raised, in standard deviations of its noise."""
SELECT, HOLDOUT = 80, 240
OVERCONFIDENT = 3.0


def draw_split(name: str, images: int, skills: tuple[float, ...], generator: np.random.Generator) -> SplitEvidence:
    """Images in turn of each class; the members' noise is half their own and half shared."""
    labels = np.arange(images) % len(CLASSES)
    shared, own = generator.normal(size=(images, 4)), generator.normal(size=(len(skills), images, 4))
    truth = np.eye(4)[labels]
    logits = OVERCONFIDENT * (np.array(skills)[:, None, None] * truth + (shared + own) / np.sqrt(2))
    files = tuple(f"{name}/{CLASSES[label]}/{place}.png" for place, label in enumerate(labels))
    return SplitEvidence(files, labels, logits.astype(np.float16), logits[0].astype(np.float16))


def front_point(logits: np.ndarray, temperatures: list[float], labels: np.ndarray) -> FrontPoint:
    """The first members with equal weights."""
    members = len(logits)
    weights = (1 / members,) * members
    select = figures(pool(logits, temperatures, weights), labels)
    return FrontPoint(
        members=TRIALS[:members],
        weights=weights,
        parameters=1_000_000 * members,
        latency_ms=2.0 * members,
        out_of_bag=select.loss,
        select=select,
    )


def describe(evidence: Evidence, members: int) -> Manifest:
    """The manifest of the first `members` of the drawn ones; the front has them all."""
    (_, labels, logits, _), holdout = evidence
    temperatures = [fit_temperature(each, labels) for each in logits]
    weights = [1 / members] * members
    temperature = fit_temperature(np.log(pool(logits[:members], temperatures[:members], weights)), labels)

    def reached(split: SplitEvidence) -> Figures:
        return figures(pool(split.logits[:members], temperatures[:members], weights, temperature), split.labels)

    def alone(split: SplitEvidence, place: int) -> Figures:
        return figures(pool(split.logits[[place]], [temperatures[place]], [1.0]), split.labels)

    entries = [
        Member(
            trial=TRIALS[place], file=f"{MEMBERS}/{TRIALS[place]}.safetensors", config={"arch": "resnet18"},
            mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), image_size=32, temperature=temperatures[place],
            parameters=1_000_000, select=alone(evidence.select, place), holdout=alone(holdout, place),
        )
        for place in range(members)
    ]  # fmt: skip
    together = pool(holdout.logits[:members], temperatures[:members], weights).argmax(axis=1) == holdout.labels
    better = together.astype(float) - (holdout.single.argmax(axis=1) == holdout.labels)
    low, high = interval(better)
    return Manifest(
        experiment="drawn",
        classes=tuple(ClassEntry(id=name, words=name) for name in CLASSES),
        members=tuple(entries),
        weights=tuple(weights),
        temperature=temperature,
        views=("whole",),
        select=reached(evidence.select),
        holdout=reached(holdout),
        uncalibrated=figures(pool(holdout.logits[:members], [1.0] * members, weights), holdout.labels),
        single=Single(trial=TRIALS[0], select=entries[0].select, holdout=entries[0].holdout),
        gain=Gain(difference=float(better.mean()), low=low, high=high),
        front=tuple(front_point(logits[:count], temperatures[:count], labels) for count in range(1, len(logits) + 1)),
        dataset="abc",
        versions={},
        created=datetime(2026, 1, 1, tzinfo=UTC),
    )


def make_export(folder: Path, members: int, skills: tuple[float, ...]) -> None:
    """Writes `folder`/ensemble from drawn logits, and an experiment.json that says where its images are."""
    generator, target = np.random.default_rng(0), folder / "ensemble"
    drawn = Evidence(draw_split("train", SELECT, skills, generator), draw_split("val", HOLDOUT, skills, generator))
    manifest = describe(drawn, members)
    (target / MEMBERS).mkdir(parents=True)
    for member in manifest.members:
        (target / member.file).touch()
    write_evidence(Evidence(*(split._replace(logits=split.logits[:members]) for split in drawn)), target)
    (target / MANIFEST).write_text(manifest.model_dump_json())
    (folder / "experiment.json").write_text(json.dumps({"plan": {"trial": {"data": str(folder / "data")}}}))


@pytest.fixture(scope="module")
def ensemble_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment's folder with an ensemble of two of three members; tests only read it."""
    folder = tmp_path_factory.mktemp("runs") / "drawn"
    make_export(folder, 2, SKILLS)
    for place in range(HOLDOUT):
        name = CLASSES[place % 4]
        path = folder / "data" / "val" / name / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 24), "skyblue" if name == "sky" else name).save(path)
    return folder


@pytest.fixture(scope="module")
def measured(ensemble_run: Path) -> Measured:
    return read_measured(ensemble_run / "ensemble")


def by_key(folder: Path) -> dict[str, Section]:
    return {section.key: section for section in ensemble_sections(folder)}


@pytest.fixture(scope="module")
def sections(ensemble_run: Path) -> dict[str, Section]:
    return by_key(ensemble_run)


@pytest.fixture
def own_run(ensemble_run: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(ensemble_run, tmp_path / "own"))


def rewrite(folder: Path, manifest: Manifest, **changes: object) -> None:
    (folder / "ensemble" / MANIFEST).write_text(manifest.model_copy(update=changes).model_dump_json())


def test_each_section_has_words_numbers_and_a_plot_on_the_page_and_as_png(sections: dict[str, Section]) -> None:
    assert tuple(sections) == KEYS
    for key, section in sections.items():
        assert (section.figure is not None) == (key != "confident-errors")
        assert section.table is not None
        assert len(section.table)
        assert section.png is not None
        drawn = io.BytesIO()
        section.png().savefig(drawn, format="png", dpi=40)
        assert len(np.unique(np.asarray(Image.open(drawn).convert("L")))) > 20


def test_captions_tell_what_was_found(sections: dict[str, Section], measured: Measured) -> None:
    manifest = measured.manifest
    gain = manifest.gain
    assert f"reaches {share(manifest.holdout.top1)} on holdout" in sections["ensemble-gain"].caption
    assert f"{gain.low * 100:+.1f} points to {gain.high * 100:+.1f} points" in sections["ensemble-gain"].caption
    assert "On select, 3 members reach" in sections["ensemble-gain"].caption
    assert "2 million parameters" in sections["ensemble-size"].caption
    assert (
        f"the ECE from {manifest.uncalibrated.ece:.3f} to {manifest.holdout.ece:.3f}" in sections["calibration"].caption
    )
    optimism = (manifest.select.top1 - manifest.holdout.top1) * 100
    assert f"an optimism of {optimism:+.1f} points" in sections["optimism"].caption
    wrong = round((1 - manifest.holdout.top1) * manifest.holdout.images)
    assert f"{wrong} holdout images of {manifest.holdout.images} are guessed wrong" in sections["confusion"].caption


def test_the_exported_ensemble_is_the_star_of_the_front(sections: dict[str, Section]) -> None:
    for key in ("ensemble-gain", "ensemble-size"):
        for trace in sections[key].figure.data:
            assert list(trace.marker.symbol) == ["circle", "star", "circle"]


def test_calibration_numbers_stand_above_the_bins(sections: dict[str, Section], measured: Measured) -> None:
    table = sections["calibration"].table
    assert table.iloc[:3, 0].tolist() == ["NLL", "Brier score", "ECE"]
    assert table.iloc[0, 2] == f"{measured.manifest.holdout.loss:.4f}"
    images = [int(cell.rpartition(" ")[2]) for cell in table.iloc[3:, 2] if cell != "-"]
    assert sum(images) == measured.manifest.holdout.images


def test_the_confusion_map_counts_all_images_and_colours_only_errors(
    sections: dict[str, Section], measured: Measured
) -> None:
    heat, texts = sections["confusion"].figure.data
    assert sum(int(text) for text in texts.text if text) == measured.manifest.holdout.images
    assert np.isnan(heat.z.diagonal()).all()
    assert heat.zmax == np.nanmax(heat.z)


def test_the_surest_errors_are_shown_as_they_are(sections: dict[str, Section]) -> None:
    section = sections["confident-errors"]
    found = re.findall(r'src="data:image/png;base64,([^"]+)" alt="([^:]+): (\w+), taken for (\w+)"', section.html)
    assert [file for _, file, _, _ in found] == section.table["image"].tolist()
    colours = {"blue": (0, 0, 255), "green": (0, 128, 0), "red": (255, 0, 0), "sky": (135, 206, 235)}
    for encoded, _, truth, guess in found:
        assert truth != guess
        assert Image.open(io.BytesIO(base64.b64decode(encoded))).getpixel((5, 5)) == colours[truth]


def test_without_the_data_set_one_line_says_so(own_run: Path) -> None:
    shutil.move(own_run / "data", own_run / "elsewhere")
    facts = {"plan": {"trial": {"data": str(own_run / "data")}}}
    (own_run / "experiment.json").write_text(json.dumps(facts))
    section = by_key(own_run)["confident-errors"]
    assert section.caption.endswith(f"Without images: the data set's folder {own_run / 'data'} isn't there any more.")
    assert section.html == ""
    assert section.png is None
    (own_run / "experiment.json").write_text("{}")
    assert by_key(own_run)["confident-errors"].caption.endswith("the data set's folder isn't known.")


def test_files_outside_of_the_data_set_are_never_shown(own_run: Path) -> None:
    folder = own_run / "ensemble"
    evidence = read_evidence(folder)
    Image.new("RGB", (8, 8)).save(own_run / "private.png")
    (own_run / "experiment.json").write_text(json.dumps({"plan": {"trial": {"data": str(own_run / "data")}}}))
    names = ("../private.png", str(own_run / "private.png"))
    files = tuple(names[place % 2] for place in range(len(evidence.holdout.files)))
    write_evidence(evidence._replace(holdout=evidence.holdout._replace(files=files)), folder)
    section = by_key(own_run)["confident-errors"]
    assert section.html == ""
    assert "12 of the 12 images can't be read" in section.caption


def test_names_from_files_stay_text(own_run: Path) -> None:
    manifest = read_manifest(own_run / "ensemble")
    classes = tuple(ClassEntry(id=f"{HOSTILE}{place}", words=f"{HOSTILE}{place}") for place in range(4))
    rewrite(own_run, manifest, classes=classes)
    made = list(by_key(own_run).values())
    assert "<script>alert" not in render_page("own", made, "analysis.report")
    for section in made[-2:]:
        section.png().savefig(io.BytesIO(), format="png", dpi=20)


def test_one_member_that_is_always_right_leaves_nothing_to_draw(tmp_path: Path) -> None:
    make_export(tmp_path, 1, (200.0,))
    made = by_key(tmp_path)
    assert made["diversity"].caption == "There is one member, so nothing to compare."
    assert made["confusion"].caption == "None: all 240 holdout images are guessed right."
    assert made["confident-errors"].caption == "Nowhere: no holdout image is guessed wrong."
    assert "The ensemble of 1 member (star) reaches 100.0 %" in made["ensemble-gain"].caption
    render_page("perfect", list(made.values()), "analysis.report")


def test_of_many_classes_the_worst_are_drawn(own_run: Path) -> None:
    folder, generator = own_run / "ensemble", np.random.default_rng(0)
    manifest, evidence = read_manifest(folder), read_evidence(folder)
    wide = [
        split._replace(
            labels=np.arange(len(split.labels)) % 40,
            logits=generator.normal(size=(2, len(split.labels), 40)).astype(np.float16),
            single=generator.normal(size=(len(split.labels), 40)).astype(np.float16),
        )
        for split in evidence
    ]
    write_evidence(type(evidence)(*wide), folder)
    rewrite(own_run, manifest, classes=tuple(ClassEntry(id=f"c{place}", words=f"class {place}") for place in range(40)))
    section = by_key(own_run)["confusion"]
    assert "the 15 worst of 40 classes" in section.caption
    assert section.figure.data[0].z.shape == (15, 16)
    assert section.figure.layout.xaxis.ticktext[-1] == "others"


def test_an_export_without_evidence_is_told(own_run: Path) -> None:
    (own_run / "ensemble" / "evidence.npz").unlink()
    with pytest.raises(UserError, match=r"evidence.npz: can't be read"):
        ensemble_sections(own_run)
