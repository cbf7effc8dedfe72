"""Transfers one file over HTTP; what has arrived stays in place, so that a broken transfer can go on."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from trainable.errors import UserError

TIMEOUT_S = (10, 60)
"""To connect, and between two pieces."""
PIECE_BYTES = 1 << 16
"""A transfer that breaks off loses at most one piece."""
UNPACKED_SHARE = 3
"""Room that the archive and its content need together, in sizes of the archive."""


def fetch(url: str, part: Path) -> None:
    """Completes `part` from `url`: goes on after what is there already, as long as every try brings something.

    Raises UserError with the reason where nothing more arrives; `part` keeps what has arrived.
    """
    with _bar(part.stem) as (bar, task):
        while True:
            before = _size(part)
            try:
                if _fetch_once(url, part, bar, task):
                    return
                reason = "the transfer broke off"
            except requests.RequestException as error:
                reason = _reason(error)
            if _size(part) <= before:
                kept = f"; {_size(part):,} bytes are kept" if part.exists() else ""
                raise UserError(f"{url}: {reason}{kept}; check the network and run the command again, or give --url")


def forget(part: Path) -> None:
    """Deletes `part` and what is known about it."""
    part.unlink()
    _origin(part).unlink(missing_ok=True)


def _fetch_once(url: str, part: Path, bar: Progress, task: TaskID) -> bool:
    """One request; true where `part` is complete after it."""
    have = _size(part)
    with requests.get(url, headers=_headers(part, have), stream=True, timeout=TIMEOUT_S) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable and _total(response) == have:
            return True
        if have and not _fits(response, part, have):
            forget(part)
            return _fetch_once(url, part, bar, task)
        if not response.ok:
            raise UserError(f"{url}: the server answers {response.status_code} {response.reason}; check --url")
        if response.status_code != requests.codes.partial_content:
            have = 0  # the whole file comes: the server knows no ranges, or the file has changed
        total = _total(response)
        _check_free_space(part, UNPACKED_SHARE * total - have)
        _origin(part).write_text(f"{total}\n{_validator(response)}")
        bar.update(task, total=total or None, completed=have)
        with part.open("ab" if have else "wb") as out:
            for piece in response.iter_content(PIECE_BYTES):
                out.write(piece)
                bar.advance(task, len(piece))
    return not total or _size(part) == total


def _headers(part: Path, have: int) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if _origin(part).is_file() and (validator := _origin(part).read_text().partition("\n")[2]):
            headers["If-Range"] = validator
    return headers


def _fits(response: requests.Response, part: Path, have: int) -> bool:
    """Whether the answer can be used beside the `have` bytes that are there: they aren't of another file."""
    if response.status_code == requests.codes.requested_range_not_satisfiable:
        return False
    if response.status_code != requests.codes.partial_content:
        return True
    earlier_total = _origin(part).read_text().partition("\n")[0] if _origin(part).is_file() else ""
    starts_there = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
    return starts_there and earlier_total in ("", "0", str(_total(response)))


def _total(response: requests.Response) -> int:
    """Length of the whole file in bytes; 0 where the server doesn't say."""
    if "Content-Range" in response.headers:
        total = response.headers["Content-Range"].rpartition("/")[2]
    else:
        total = response.headers.get("Content-Length", "")
    return int(total) if total.isdigit() else 0


def _validator(response: requests.Response) -> str:
    """What tells this version of the file from others: a strong ETag, or the date."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return "the server does not answer"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the transfer broke off"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return str(error)


def _check_free_space(part: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(part.parent).free
    if free_bytes < needed_bytes:
        raise UserError(
            f"{part.parent}: archive and content need {needed_bytes / 1e6:,.0f} MB but {free_bytes / 1e6:,.0f} MB are "
            "free; make room or choose another disk with --to"
        )


def _origin(part: Path) -> Path:
    """The file beside `part` that holds the length and the validator of what is being fetched."""
    return part.with_name(part.name + ".origin")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextmanager
def _bar(text: str) -> Iterator[tuple[Progress, TaskID]]:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        yield bar, bar.add_task(text, total=None)
