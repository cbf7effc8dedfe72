"""The command as a user starts it: one real server on Ray Serve, asked by a real client and by a real browser."""

import asyncio
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import psutil
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import text_to_be_present_in_element
from selenium.webdriver.support.ui import WebDriverWait

from analysis import load_ensemble
from analysis.export import Export
from trainable.data.decode import read_image

RATE = 30
CLIENTS = itertools.count(1)


class Server(NamedTuple):
    """The command's process, and where it answers."""

    process: subprocess.Popen[str]
    url: str


@pytest.fixture(scope="module")
def server(exported: Export, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    errors = tmp_path_factory.mktemp("server") / "stderr"
    command = [sys.executable, "-m", "analysis.serve", str(exported.folder), "--port", "0", "--rate", f"{RATE}/hour",
               "--max-mb", "1", "--max-megapixels", "1", "--max-images", "4", "--batch-wait-ms", "100"]  # fmt: skip
    with errors.open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, errors.read_text()
        yield Server(process, found[0])
    finally:
        stop(process)


def stop(process: subprocess.Popen[str]) -> int:
    """End the command as Ctrl-C in a terminal does: the whole process group gets the signal."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    code = process.wait(60)
    if process.stdout:
        process.stdout.close()
    return code


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    """A client that a reverse proxy on this machine tells from the other tests' ones, each with its own rate."""
    address = f"10.0.0.{next(CLIENTS)}"
    with httpx.Client(base_url=server.url, headers={"X-Forwarded-For": address}, timeout=30) as session:
        yield session


def run(*arguments: object, code: str = "") -> subprocess.CompletedProcess[str]:
    started = ["-c", code] if code else ["-m", "analysis.serve"]
    return subprocess.run(
        [sys.executable, *started, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )


def test_help_shows_an_example_and_imports_nothing_heavy() -> None:
    assert "python -m analysis.serve runs/NAME/ensemble" in run("--help").stdout
    heavy = "{'torch', 'ray', 'fastapi', 'pandas', 'limits'}"
    done = run(code=f"import sys, analysis.serve; print(sorted({heavy} & set(sys.modules)))")
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("/none",), 2, "error: /none: no such folder; "),
        (("/",), 1, "error: /: not a complete export (no ensemble.json); "),
        (("/none", "--gpus-per-replica", "1.5"), 2, "error: --gpus-per-replica 1.5: above 1 give a whole number"),
        (("/none", "--max-batch", "0"), 2, "error: Invalid value for '--max-batch'"),
        (("{}", "--rate", "fast"), 2, "error: --rate fast: no rate; give a number per time"),
        (("{}", "--host", "no.such.host.invalid"), 2, "error: --host no.such.host.invalid: no address of this"),
        (("{}", "--host", "192.0.2.1"), 2, "error: --port 8000: can't be used on 192.0.2.1 ("),
    ],
)
def test_a_mistake_is_told_in_one_line_before_ray_starts(
    exported: Export, arguments: tuple[str, ...], code: int, error: str
) -> None:
    done = run(*(argument.format(exported.folder) for argument in arguments))
    assert done.returncode == code
    assert done.stderr.startswith(error)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_port_in_use_is_told_in_one_line(exported: Export) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(exported.folder, "--port", port)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: --port {port}: can't be used on 127.0.0.1 (address already in use); give another --port, or 0\n"
    )


def test_a_changed_member_is_found_before_ray_starts(exported: Export, tmp_path: Path) -> None:
    folder = shutil.copytree(exported.folder, tmp_path / "ensemble")
    with next((folder / "members").iterdir()).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    done = run(folder)
    assert done.returncode == 1
    assert "isn't the file that was exported; export it again" in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_the_extra_the_command_says_what_to_install(exported: Export) -> None:
    without = (
        "import runpy, sys; sys.modules['fastapi'] = None; runpy.run_module('analysis.serve', run_name='__main__')"
    )
    done = run(exported.folder, code=without)
    assert done.returncode == 1
    assert done.stderr == (
        "error: fastapi isn't installed, which the server needs; pip install 'tune-to-ensemble[serve]'\n"
    )


def test_the_answer_is_that_of_the_ensemble(client: httpx.Client, exported: Export, images: Path) -> None:
    paths = sorted((images / "test").iterdir())
    answer = client.post("/predict", files=[("images", (path.name, path.read_bytes())) for path in paths])
    assert answer.status_code == 200
    ensemble = load_ensemble(exported.folder, "cpu")
    probabilities = ensemble.predict(np.stack([read_image(path, 32) for path in paths]))
    told = answer.json()["images"]
    assert [image["file"] for image in told] == [path.name for path in paths]
    assert [image["confidence"] for image in told] == pytest.approx(probabilities.max(axis=1), abs=1e-5)
    words = [ensemble.classes[number].words for number in probabilities.argmax(axis=1)]
    assert [image["words"] for image in told] == words


def test_requests_that_arrive_together_are_one_batch(client: httpx.Client, server: Server, images: Path) -> None:
    body = (images / "test" / "0.png").read_bytes()

    async def ask_at_once() -> list[int]:
        async with httpx.AsyncClient(base_url=server.url, headers=client.headers, timeout=30) as session:
            answers = await asyncio.gather(*(session.post("/predict", content=body) for _ in range(16)))
            return [answer.status_code for answer in answers]

    before = batches(client)
    assert asyncio.run(ask_at_once()) == [200] * 16
    images_seen, batches_seen = (after - earlier for after, earlier in zip(batches(client), before, strict=True))
    assert images_seen == 16
    assert batches_seen <= 8


def batches(client: httpx.Client) -> tuple[float, float]:
    """Images that went through the models, and in how many batches."""
    text = client.get("/metrics").text
    found = [re.search(rf"^ensemble_batch_size_{of} (\S+)$", text, re.MULTILINE) for of in ("sum", "count")]
    assert all(found)
    images_seen, count = (float(each[1]) for each in found if each)
    return images_seen, count


def test_beyond_a_limit_the_code_and_the_reason_tell_which(client: httpx.Client) -> None:
    chunked = client.post("/predict", content=iter([bytes(10**6), b"x"]))
    assert chunked.status_code == 413
    assert chunked.json() == {"error": "the body has more than 1,000,000 bytes, which is the limit"}
    many = client.post("/predict", files=[("images", ("a.png", b"x"))] * 5)
    assert many.json() == {"error": "5 images; the limit is 4 a request"}
    text = client.post("/predict", content=b"text")
    assert text.status_code == 422
    assert text.json() == {"error": "not an image", "images": [{"file": "body", "error": "not an image"}]}
    codes = [client.post("/predict", content=b"").status_code for _ in range(RATE)]
    assert codes == [400] * (RATE - 3) + [429] * 3
    assert int(client.post("/predict", content=b"").headers["retry-after"]) > 0


def test_health_and_descriptions_are_there(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/openapi.json").json()["info"]["title"] == "tiny"
    assert "swagger-ui" in client.get("/docs").text


def test_all_its_processes_listen_on_this_machine_alone(server: Server) -> None:
    family = psutil.Process(server.process.pid).children(recursive=True)
    listening = [each.laddr.ip for process in family for each in sockets(process) if each.status == psutil.CONN_LISTEN]
    assert len(listening) > 5
    assert set(listening) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def sockets(process: psutil.Process) -> list[psutil._ntuples.pconn]:
    """Of one process; none where it has just ended."""
    try:
        return process.net_connections("tcp")
    except psutil.NoSuchProcess:
        return []


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,800"):
        options.add_argument(argument)
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


def show(browser: webdriver.Chrome, server: Server, width: int) -> None:
    """Load the page in a window of this width in pixels."""
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(server.url)


def choose(browser: webdriver.Chrome, *files: Path) -> None:
    """Choose files as by the dialogue, and wait until there is an answer to each."""
    browser.find_element(By.ID, "files").send_keys("\n".join(str(file) for file in files))
    WebDriverWait(browser, 30).until(lambda driver: len(driver.find_elements(By.TAG_NAME, "article")) == len(files))


@pytest.mark.parametrize("width", [1280, 390])
def test_an_image_chosen_on_the_page_shows_bars_and_votes(
    server: Server, browser: webdriver.Chrome, images: Path, width: int
) -> None:
    show(browser, server, width)
    choose(browser, images / "test" / "0.png")
    bars, votes = browser.find_elements(By.TAG_NAME, "tbody")
    widths = [bar.size["width"] for bar in bars.find_elements(By.CLASS_NAME, "fill")]
    assert len(widths) == 3
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 20
    assert len(votes.find_elements(By.TAG_NAME, "tr")) == 2
    assert re.search(r"[012] of 2 agree", browser.find_element(By.TAG_NAME, "article").text)
    assert re.match(r"\w+, \d+\.\d %", browser.find_element(By.TAG_NAME, "h2").text)
    assert browser.execute_script("return document.querySelector('article img').naturalWidth") == 32
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []


def test_a_dropped_and_a_pasted_file_are_predicted_and_a_bad_one_says_why(
    server: Server, browser: webdriver.Chrome, tmp_path: Path, images: Path
) -> None:
    show(browser, server, 1280)
    text = tmp_path / "notes <b>.txt"
    text.write_text("no image")
    choose(browser, images / "test" / "1.png", text)
    assert browser.find_elements(By.TAG_NAME, "h2")[1].text == "Can't be predicted"
    assert "notes <b>.txt" in browser.find_elements(By.TAG_NAME, "article")[1].text
    drawn = """
      const [kind, done] = arguments;
      const canvas = new OffscreenCanvas(40, 40);
      canvas.getContext("2d").fillRect(0, 0, 20, 20);
      canvas.convertToBlob().then((blob) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([blob], kind + ".png", { type: "image/png" }));
        document.body.dispatchEvent(kind === "drop"
          ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
          : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }));
        done();
      });
    """
    for kind in ("drop", "paste"):
        browser.execute_async_script(drawn, kind)
        WebDriverWait(browser, 30).until(text_to_be_present_in_element((By.ID, "results"), f"{kind}.png"))
    assert browser.get_log("browser") == []


def test_the_page_can_be_used_by_keyboard_and_says_what_was_refused(
    server: Server, browser: webdriver.Chrome, tmp_path: Path
) -> None:
    show(browser, server, 390)
    browser.switch_to.active_element.send_keys("\t")
    assert browser.switch_to.active_element.get_attribute("id") == "files"
    assert "Choose an image" in browser.switch_to.active_element.accessible_name
    large = tmp_path / "large.png"
    large.write_bytes(bytes(10**6 + 1))
    browser.find_element(By.ID, "files").send_keys(str(large))
    status = browser.find_element(By.ID, "status")
    WebDriverWait(browser, 30).until(lambda driver: status.text.startswith("Refused"))
    assert status.text == "Refused: the body has more than 1,000,000 bytes, which is the limit."
    assert status.get_attribute("role") == "status"


def test_ctrl_c_ends_the_server_and_all_its_processes(server: Server) -> None:
    family = psutil.Process(server.process.pid).children(recursive=True)
    started = time.monotonic()
    assert stop(server.process) == 130
    assert time.monotonic() - started < 30
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    with pytest.raises(httpx.ConnectError, match="refused"):
        httpx.get(server.url)
