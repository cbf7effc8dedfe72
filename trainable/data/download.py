"""Fetches Tiny-ImageNet-200 (237 MB) and unpacks it.

    python -m trainable.data.download                            # into data/tiny-imagenet-200
    python -m trainable.data.download --url http://mirror.example/tiny-imagenet-200.zip --sha256 ...

A transfer that breaks off goes on where it stopped, also when the command is started again. The checksum is verified
before anything is unpacked, and the folder appears complete or not at all.
"""

import hashlib
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

import typer
from filelock import FileLock, Timeout

from trainable.data._transfer import fetch, forget
from trainable.data._unpack import unpack
from trainable.errors import UsageError, UserError

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
URL_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"

app = typer.Typer(add_completion=False)


@app.command()
def main(
    to: Annotated[Path, typer.Option(help="Folder that the data set's folder is put into.")] = Path("data"),
    url: Annotated[str, typer.Option(help="http(s) or file address of the zip, or its path.")] = URL,
    sha256: Annotated[str, typer.Option(help="Expected checksum of the zip.")] = "",
    md5: Annotated[str, typer.Option(help="Expected checksum of the zip; known for the default address.")] = "",
) -> None:
    """Download Tiny-ImageNet-200, verify and unpack it."""
    download(to, url, sha256, md5)


def download(to: Path, url: str = URL, sha256: str = "", md5: str = "") -> Path:
    """Gives the folder `to/<name of the zip>`, after fetching, verifying and unpacking it where it isn't there yet.

    Without a given checksum the one of the default address is used; other addresses are then not verified.
    Raises UsageError for an address that can't be meant, UserError for everything that goes wrong.
    """
    name = Path(unquote(urlsplit(url).path)).name
    if not name.lower().endswith(".zip"):
        raise UsageError(f"{url}: is no address of a zip file; --url must end in .zip")
    target = to / name[: -len(".zip")]
    if target.is_dir():
        typer.echo(f"{target}: already there, nothing to do")
        return target
    if url == URL and not sha256 and not md5:
        md5 = URL_MD5
    try:
        to.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock", timeout=0):
            _fetch_and_unzip(url, name, target, {"sha256": sha256, "md5": md5})
    except Timeout as error:
        raise UserError(f"{target}: another download is running; wait for it to end") from error
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror or error}); mend it or change --to") from error
    typer.echo(f"{target}: ready")
    return target


def _fetch_and_unzip(url: str, name: str, target: Path, checksums: dict[str, str]) -> None:
    local = _local_archive(url, target.with_name(name))
    archive = local or target.with_name(name + ".part")
    if not local:
        fetch(url, archive)
    _verify(archive, checksums, ours=not local)
    unpack(archive, target)
    if not local:
        forget(archive)


def _local_archive(url: str, earlier: Path) -> Path | None:
    """The archive that needs no transfer: 1. a local address; 2. a zip of that name which the user has put there."""
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        return earlier if earlier.is_file() else None
    if parts.scheme not in ("file", ""):
        raise UsageError(f"{url}: {parts.scheme} is not supported; --url takes http, https, file or a path")
    path = Path(unquote(parts.path))
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give --url the zip")
    return path


def _verify(archive: Path, checksums: dict[str, str], ours: bool) -> None:
    """Compares with the checksums that aren't empty; a wrong download is deleted, a user's own file is left alone."""
    for kind, expected in checksums.items():
        if not expected:
            continue
        with archive.open("rb") as file:
            actual = hashlib.file_digest(file, kind).hexdigest()
        if actual != expected.strip().lower():
            mend = "it was deleted, run the command again" if ours else "delete it and run the command again"
            if ours:
                forget(archive)
            raise UserError(f"{archive}: {kind} is {actual} instead of {expected}: not the expected file; {mend}")


if __name__ == "__main__":
    from trainable.console import run_app

    run_app(app)
