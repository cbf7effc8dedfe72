import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from analysis.compare import PAGE, check_folders, check_output, main
from analysis.evidence import SplitEvidence, read_evidence, write_evidence
from analysis.export import Export
from analysis.pages.comparison import Entry, found_table, read_entries, searched_table, unique_names, warnings
from analysis.pages.comparison_plots import comparison_sections, page_title
from analysis.pages.paired import Change, Paired, compared, differences, differences_table, matching_rows, verdict
from trainable.errors import UsageError, UserError

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
Runs = tuple[Path, Path]


@pytest.fixture(scope="module")
def runs(experiment: Path, exported: Export, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Twice the same search with its ensemble; what the second says of holdout is made right. Tests only read them."""
    root = tmp_path_factory.mktemp("compared")
    for name in ("usual", "sharper"):
        shutil.copytree(experiment, root / name)
        shutil.copytree(exported.folder, root / name / "ensemble")
    folder = root / "sharper" / "ensemble"
    evidence = read_evidence(folder)
    truth = np.eye(3, dtype=np.float16)[evidence.holdout.labels]
    logits = np.repeat(10 * truth[None], len(evidence.holdout.logits), axis=0)
    write_evidence(evidence._replace(holdout=evidence.holdout._replace(logits=logits)), folder)
    return root / "usual", root / "sharper"


@pytest.fixture
def own_runs(runs: Runs, tmp_path: Path) -> Runs:
    """Copies that a test may change."""
    first, second = (Path(shutil.copytree(run, tmp_path / run.name)) for run in runs)
    return first, second


@pytest.fixture(scope="module")
def entries(runs: Runs) -> list[Entry]:
    return read_entries(runs)


def change_facts(folder: Path, **changes: Any) -> None:
    path = folder / "experiment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_tables_have_a_column_an_experiment(entries: list[Entry], exported: Export) -> None:
    searched, found = searched_table(entries).set_index("what"), found_table(entries).set_index("what")
    assert list(found.columns) == ["usual", "sharper"]
    assert searched.loc["space", "usual"] == "tiny"
    assert searched.loc["scheduler, sampler", "usual"] == "asha, tpe"
    assert found.loc["holdout top-1", "usual"] == f"{exported.manifest.holdout.top1 * 100:.2f} %"
    assert found.loc["holdout ECE", "usual"] == f"{exported.manifest.holdout.ece:.4f}"
    assert found.loc["trials, epochs", "usual"] == "2, 4"


def test_the_difference_is_paired_on_the_same_images(entries: list[Entry]) -> None:
    (told,) = differences(entries)
    usual = entries[0].measured
    assert usual is not None
    assert told.paired is not None
    labels = usual.evidence.holdout.labels
    assert told.paired.images == len(labels)
    assert told.paired.top1.mean == pytest.approx(1 - usual.manifest.holdout.top1)
    assert told.paired.top1.low <= told.paired.top1.mean <= told.paired.top1.high
    assert told.paired.loss.high < 0
    assert differences_table("usual", [told]).iloc[0, 0] == "sharper - usual"


def test_the_paired_interval_is_narrower_than_that_of_either(entries: list[Entry]) -> None:
    """An ensemble doesn't differ from itself at all, whatever the holdout."""
    measured = entries[0].measured
    assert measured is not None
    rows = np.repeat(np.arange(len(measured.evidence.holdout.labels))[:, None], 2, axis=1)
    assert compared(measured, measured, rows).top1 == Change(0, 0, 0)
    assert measured.manifest.holdout.top1_low < measured.manifest.holdout.top1_high


def split(files: tuple[str, ...], labels: list[int]) -> SplitEvidence:
    return SplitEvidence(files, np.array(labels), np.zeros((1, len(files), 2)), np.zeros((len(files), 2)))


def test_images_are_found_by_their_file_and_class_in_whatever_order() -> None:
    first, other = split(("a", "b", "c"), [0, 1, 1]), split(("c", "d", "a", "b"), [1, 0, 0, 0])
    assert matching_rows(first, other).tolist() == [[0, 2], [2, 0]]
    assert matching_rows(first, split(("x",), [0])).shape == (0, 2)


@pytest.mark.parametrize(
    ("top1", "loss", "said"),
    [
        (Change(0.1, 0.01, 0.2), Change(-0.1, -0.2, -0.01), "more often right, lower NLL"),
        (Change(-0.1, -0.2, -0.01), Change(0.1, 0.01, 0.2), "less often right, higher NLL"),
        (Change(0.1, 0.0, 0.2), Change(0.1, -0.1, 0.2), "no difference beyond chance"),
    ],
)
def test_an_interval_that_touches_zero_finds_nothing(top1: Change, loss: Change, said: str) -> None:
    assert verdict(Paired(100, top1, loss)) == said


def test_the_same_data_need_no_warning(entries: list[Entry]) -> None:
    assert warnings(entries) == []
    assert "so the numbers compare" in comparison_sections(entries, [], differences(entries))[0].caption


def test_other_data_are_warned_of_and_not_paired(own_runs: Runs) -> None:
    _, second = own_runs
    change_facts(second, dataset="0123456789abcdef")
    manifest = second / "ensemble" / "ensemble.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"dataset": "0123456789abcdef"}))
    entries = read_entries(own_runs)
    assert re.search(
        r"^the data differ \(usual .{12}, sharper 0123456789ab\): accuracies don't compare$", *warnings(entries)
    )
    assert differences(entries)[0].reason == "their data differ"


def test_other_numbers_of_classes_are_warned_of_and_not_paired(own_runs: Runs) -> None:
    _, second = own_runs
    change_facts(second, classes=200)
    manifest = second / "ensemble" / "ensemble.json"
    values = json.loads(manifest.read_text())
    values["classes"] = [{"id": each["id"] + "x", "words": each["words"]} for each in values["classes"]]
    manifest.write_text(json.dumps(values))
    entries = read_entries(own_runs)
    assert warnings(entries) == ["the numbers of classes differ (usual 3, sharper 200): accuracies don't compare"]
    assert differences(entries)[0].reason == "their classes differ"


def test_an_experiment_without_ensemble_is_compared_as_far_as_it_goes(own_runs: Runs) -> None:
    _, second = own_runs
    shutil.rmtree(second / "ensemble")
    entries = read_entries(own_runs)
    told = differences(entries)
    assert warnings(entries) == ["sharper: no ensemble was exported"]
    assert found_table(entries).set_index("what").loc["holdout top-1", "sharper"] == "-"
    assert told[0].reason == "sharper has no ensemble with its evidence"
    found, holdout, difference, *_ = comparison_sections(entries, warnings(entries), told)
    assert found.caption == "Careful: sharper: no ensemble was exported."
    assert "The ensemble of usual reaches" in holdout.caption
    assert difference.figure is None


def test_broken_evidence_is_told_and_the_rest_compared(own_runs: Runs) -> None:
    first, _ = own_runs
    (first / "ensemble" / "evidence.npz").write_text("broken")
    told = differences(read_entries(own_runs))
    assert told[0].reason == "usual has no ensemble with its evidence"
    assert re.match(r"usual: .*evidence.npz: can't be read", warnings(read_entries(own_runs))[0])


def test_folders_of_the_same_name_are_called_by_their_paths() -> None:
    assert unique_names([Path("a/digits"), Path("b/digits")]) == ["a/digits", "b/digits"]
    assert unique_names([Path("a/one"), Path("b/two")]) == ["one", "two"]


def test_less_than_two_experiments_are_refused(runs: Runs, tmp_path: Path) -> None:
    usual, sharper = runs
    with pytest.raises(UsageError, match=r"usual: one experiment is nothing to compare; give two or more"):
        check_folders([usual])
    with pytest.raises(UsageError, match=r"comes twice .*; give each experiment once"):
        check_folders([usual, sharper, usual / ".." / "usual"])
    with pytest.raises(UsageError, match=r"is no experiment \(no experiment.json in it\)"):
        check_folders([usual, tmp_path])
    with pytest.raises(UsageError, match=r"no such folder"):
        check_folders([usual, tmp_path / "none"])


def test_an_experiment_without_trials_is_refused(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "experiment.json").write_text("{}")
    with pytest.raises(UserError, match=r"no trial has started yet"):
        read_entries([runs[0], tmp_path])


def test_only_a_page_is_replaced(runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"-o .*ensemble.json: the page is HTML; give a name that ends in .html"):
        check_output(runs[0] / "ensemble" / "ensemble.json")
    with pytest.raises(UsageError, match=r"-o .*none/page.html: can't be written \(No such file or directory\)"):
        main(list(runs), tmp_path / "none" / "page.html")


def test_the_command_prints_tables_warns_and_writes_the_page_here(
    own_runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change_facts(own_runs[1], classes=7)
    monkeypatch.chdir(tmp_path)
    main([Path("usual"), Path("sharper")], PAGE)
    printed = capsys.readouterr()
    assert printed.err == "careful: the numbers of classes differ (usual 3, sharper 7): accuracies don't compare\n"
    assert "holdout top-1" in printed.out
    assert "sharper - usual" in printed.out
    assert printed.out.splitlines()[-1] == "compare.html"
    assert "usual against sharper" in Path("compare.html").read_text()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def test_the_help_says_where_the_page_goes() -> None:
    done = run("-m", "analysis.compare", "--help")
    assert done.returncode == 0
    assert "default: compare.html" in done.stdout
    assert "python -m analysis.compare runs/NAME runs/OTHER" in done.stdout


def test_a_mistake_is_told_in_one_line_before_anything_heavy_is_imported(runs: Runs) -> None:
    code = (
        "import runpy, sys; sys.modules |= dict.fromkeys(('torch', 'pandas', 'plotly', 'optuna', 'matplotlib'))\n"
        "runpy.run_module('analysis.compare', run_name='__main__')"
    )
    done = run("-c", code, str(runs[0]))
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*usual: one experiment is nothing to compare; .*\n", done.stderr)
    assert done.stdout == ""


def test_markup_in_the_names_of_folders_stays_text(own_runs: Runs) -> None:
    first, second = own_runs
    named = first.with_name("<b>bold[red]")
    first.rename(named)
    entries = read_entries([named, second])
    assert page_title(entries) == "<b>bold[red] against sharper"
    *_, progress, _ = comparison_sections(entries, [], differences(entries))
    assert progress.figure.data[0].name == "&lt;b&gt;bold[red]"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Callable[[int], webdriver.Chrome]]:
    """Opens headless Chromium at a width, with its console kept."""
    if not (CHROMIUM.exists() and DRIVER.exists()):
        pytest.skip("no Chromium here: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(str(DRIVER)))

    def at_width(pixels: int) -> webdriver.Chrome:
        screen = {"width": pixels, "height": 844, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        return driver

    yield at_width
    driver.quit()


def test_the_page_is_drawn_in_a_browser_and_fits_a_phone(
    runs: Runs, browser: Callable[[int], webdriver.Chrome], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    main(list(runs), page)
    for pixels in (1280, 390):
        driver = browser(pixels)
        driver.get(page.as_uri())
        deadline = time.monotonic() + 30
        while (
            not driver.execute_script("return document.documentElement.dataset.drawn") and time.monotonic() < deadline
        ):
            time.sleep(0.05)
        plots = driver.execute_script(
            "return [...document.querySelectorAll('.plot')].map((plot) => plot.querySelectorAll('.main-svg').length)"
        )
        assert len(plots) == 3
        assert all(plots)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= pixels
        assert driver.get_log("browser") == []
