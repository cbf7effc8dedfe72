"""The report as people open it: a file in a browser, on a wide and a narrow screen, light and dark."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from analysis.report import write_report
from benchmarks.analysis_speed import write_experiment
from trainable.errors import UserError

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
OPEN_S = 2.0
"""Of the browser's main thread, until all plots are drawn: other load on the machine doesn't count."""
CONTRAST = 4.5
"""Of text, as WCAG 2 wants it (AA)."""

READ_CONTRASTS = """
const numbers = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
const linear = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const light = (colour) => numbers(colour).map((c) => linear(c / 255))
  .reduce((sum, c, place) => sum + c * [0.2126, 0.7152, 0.0722][place], 0);
const page = light(getComputedStyle(document.body).backgroundColor);
const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
const words = "h1, .status, .note, .caption, a:not(.skip), td, .plot text";
return [...document.querySelectorAll(words)].filter((e) => e.textContent.trim())
  .map((e) => { const style = getComputedStyle(e);
  return ratio(page, light(e instanceof SVGElement ? style.fill : style.color)); });
"""

Browse = Callable[..., webdriver.Chrome]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 1,000 trials; tests only read it."""
    return write_report(write_experiment(tmp_path_factory.mktemp("runs") / "thousand", trials=1000))


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    if not (CHROMIUM.exists() and DRIVER.exists()):
        pytest.skip("no Chromium here: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    yield driver
    driver.quit()


@pytest.fixture
def browse(chromium: webdriver.Chrome) -> Browse:
    """Opens a page at a size, and waits until all plots are drawn."""

    def open_page(page: Path, width: int = 1280, height: int = 800, scheme: str = "light") -> webdriver.Chrome:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme_feature = {"name": "prefers-color-scheme", "value": scheme}
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme_feature]})
        chromium.get(page.as_uri())
        ends = time.monotonic() + 60
        while not chromium.execute_script("return document.documentElement.dataset.drawn"):
            assert time.monotonic() < ends, "the plots aren't drawn"
            time.sleep(0.05)
        return chromium

    return open_page


def test_all_plots_are_drawn_without_an_error_and_the_answer_needs_no_scrolling(browse: Browse, report: Path) -> None:
    driver = browse(report)
    assert driver.get_log("browser") == []
    drawn = driver.execute_script("return plots.map((plot) => plot.querySelectorAll('.main-svg path').length)")
    assert len(drawn) == 7
    assert min(drawn) > 5
    last = driver.execute_script("return document.querySelector('.commands').getBoundingClientRect().bottom")
    assert last < 800
    assert driver.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_a_phone_shows_it_without_scrolling_sideways(browse: Browse, report: Path) -> None:
    driver = browse(report, 390, 844)
    assert driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]") == [390, 390]
    wide = driver.execute_script("return document.querySelector('#slices .wide').scrollWidth")
    assert wide > 600


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_words_can_be_read_in_light_and_dark(browse: Browse, report: Path, scheme: str) -> None:
    driver = browse(report, scheme=scheme)
    background = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}[scheme]
    ratios = driver.execute_script(READ_CONTRASTS)
    assert len(ratios) > 100
    assert min(ratios) >= CONTRAST


def test_it_opens_within_two_seconds(browse: Browse, report: Path) -> None:
    spent = []
    for _ in range(2):
        values = browse(report).execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        spent.append(next(each["value"] for each in values if each["name"] == "TaskDuration"))
    assert 0.1 < min(spent) < OPEN_S


def test_keyboard_and_screen_reader_reach_everything(browse: Browse, report: Path) -> None:
    driver = browse(report)
    assert driver.execute_script("return document.documentElement.lang") == "en"
    lost = "return [...document.querySelectorAll('[aria-labelledby],[aria-describedby]')].flatMap((e) =>"
    lost += " [e.getAttribute('aria-labelledby'), e.getAttribute('aria-describedby')])"
    lost += ".filter((id) => id && !document.getElementById(id)?.textContent)"
    assert driver.execute_script(lost) == []
    deaf = "return [...document.querySelectorAll('.scroll, .wide[style], pre')].filter((e) => e.tabIndex < 0).length"
    assert driver.execute_script(deaf) == 0
    targets = "return [...document.querySelectorAll('nav a')].every((a) => document.querySelector(a.hash))"
    assert driver.execute_script(targets)


def test_printing_from_a_dark_screen_uses_light_colours(browse: Browse, report: Path) -> None:
    driver = browse(report, scheme="dark")
    driver.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert driver.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    widths = "return plots.map((plot) => plot._fullLayout.width)"
    assert set(driver.execute_script(widths)) == {680}
    driver.execute_script("dispatchEvent(new Event('afterprint'))")
    assert driver.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"


def test_a_png_of_each_main_figure_lies_beside(report: Path) -> None:
    names = {path.stem for path in report.parent.glob("*.png")}
    assert names == {"curves", "progress", "importance", "architectures", "time"}
    for name in names:
        image = Image.open(report.with_name(f"{name}.png"))
        assert image.width > 1000
        assert len(image.convert("L").getcolors(256) or ()) > 5


def test_the_page_of_an_ensemble_has_its_sections(experiment: Path, exported: object, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(experiment, tmp_path / "tiny"))
    shutil.copytree(exported.folder, folder / "ensemble")
    page = write_report(folder).read_text()
    assert "Accuracy on holdout" in page
    assert re.search(r'<section id="(ensemble-gain|calibration)"', page)
    (folder / "ensemble" / "evidence.npz").unlink()
    assert "can&#39;t be drawn: " in write_report(folder).read_text()


@pytest.mark.parametrize("spoilt", ["no epoch", "failed", "one epoch", "diverged", "no journal", "foreign files"])
def test_the_page_is_written_whatever_a_search_left(spoilt, write_trial, record) -> None:
    records = {"no epoch": [], "failed": [], "diverged": [record(1, 0.0, diverged=True, done=True)]}
    trial = write_trial("0001-a", records.get(spoilt, [record(1, timestamp=100, pid=1, hostname="h")]))
    if spoilt == "failed":
        (trial / "failure.txt").write_text("out of memory\n")
    if spoilt == "foreign files":
        (trial.parent / "ensemble").write_text("not a folder")
        (trial.parent / "report").mkdir()
        (trial.parent / "report" / "mine.txt").touch()
    page = write_report(trial.parent)
    assert "0001-a" in page.read_text()
    assert (trial.parent / "report" / "mine.txt").exists() == (spoilt == "foreign files")


def test_a_budget_leaves_out_what_takes_longer_and_the_page_says_so(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path / "made-up", trials=20, epochs=4)
    whole = write_report(folder).read_text()
    assert "Left out" not in whole
    (folder / "report" / "mine.png").touch()
    page = write_report(folder, time_budget_s=0.001).read_text()
    assert [re.findall('<section id="([a-z-]+)"', each)[-1] for each in (whole, page)] == ["reproduce", "left-out"]
    assert 'id="answer"' in page
    assert 'id="curves"' in page
    assert 'id="failures"' in page
    assert f"<code>python -m analysis.report {folder}</code>" in page
    assert not (folder / "report" / "curves.png").exists(), "it would be of the report before"
    assert (folder / "report" / "mine.png").exists()
    assert len(write_report(folder, time_budget_s=3600).read_text()) == len(whole)


def test_the_command_says_what_it_left_out_and_is_quick_as_it_imports_little(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path / "made-up", trials=20, epochs=4)
    heavy = ("matplotlib", "optuna", "scipy", "sklearn", "torch")
    code = (
        f"import atexit, runpy, sys; sys.argv = ['report', {str(folder)!r}, '--time-budget', '0.01s'];"
        f"atexit.register(lambda: print(sorted({{*{heavy}}} & set(sys.modules))));"
        "runpy.run_module('analysis.report', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    written, left_out, imported = done.stdout.splitlines()
    assert written == f"report   {folder}/report/index.html"
    assert left_out.startswith("left out what the search paid for its best, ")
    assert left_out.endswith("the plots as PNG files: no time within 0.01s")
    assert imported == "[]"


def test_a_folder_that_cant_be_written_is_told(write_trial, record) -> None:
    folder = write_trial("0001-a", [record(1)]).parent
    (folder / "report").touch()
    with pytest.raises(UserError, match=r"report: can't be written \(File exists\); free it and try again"):
        write_report(folder)


@pytest.mark.parametrize(
    ("facts", "code", "error"),
    [
        (None, 2, "no such folder"),
        ("{}", 1, "no trial has started yet"),
        ('{"pl', 1, "not JSON"),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path: Path, facts: str | None, code: int, error: str) -> None:
    folder = tmp_path / "runs"
    if facts is not None:
        folder.mkdir()
        (folder / "experiment.json").write_text(facts)
    command = [sys.executable, "-m", "analysis.report", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert error in done.stderr
    assert done.stdout == ""


def test_a_budget_that_is_none_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "analysis.report", str(tmp_path), "--time-budget", "soon"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --time-budget soon: ")
    assert done.stderr.count("\n") == 1


def test_help_imports_nothing_heavy() -> None:
    heavy = ("pandas", "plotly", "optuna", "matplotlib", "numpy", "pydantic")
    code = f"import sys, analysis.report, json; print(json.dumps(sorted({{*{heavy}}} & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
