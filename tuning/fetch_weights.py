"""Fetch a space's published weights ahead of time, for machines without network.

[bold]python -m tuning.fetch_weights --space photos[/]  downloads into timm's cache, where searches find them.

[bold]python -m tuning.fetch_weights --space photos --to WEIGHTS[/]  also copies them into a folder to carry along:
there, tuning.run --space photos --pretrained WEIGHTS.
"""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from search_spaces import SpaceError, get_space, names, narrow
from trainable.config import ARCHITECTURES
from trainable.console import UNDERSCORES_ARE_DASHES, run_app
from trainable.errors import UsageError, UserError
from trainable.files import write_atomically
from trainable.sizes import size_text
from tuning.plan import architectures_of
from tuning.pretrained import find_weights, names_text

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(context_settings=UNDERSCORES_ARE_DASHES, help=__doc__)
def main(
    space: Annotated[str, typer.Option(help=f"Whose architectures: {', '.join(names())}, or a file.")] = "photos",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="arch=A,B", help="Only these architectures.")
    ] = None,
    to: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Copy them there too, one file each.")] = None,
) -> None:
    """Download what isn't here yet; one that can't be had doesn't keep the others from it."""
    try:
        archs = architectures_of(narrow(get_space(space), settings or []))
    except SpaceError as error:
        raise UsageError(str(error)) from None
    weights = find_weights("timm", archs)
    if weights.found:
        print(weights.note)
    from trainable.data.weights import download_from_hub

    failed = dict(weights.missing)
    for arch in weights.found:
        try:
            file = download_from_hub(arch)
            place = copy(file, arch, to) if to else file
            print(f"{arch}: {size_text(place.stat().st_size)} in {place}")
        except UserError as error:
            failed[arch] = str(error)
    if failed:
        reasons = "; ".join(dict.fromkeys(failed.values()))
        raise UserError(f"{len(failed)} of {len(archs)} can't be had: {names_text(list(failed))} ({reasons})")


def copy(file: Path, arch: str, folder: Path) -> Path:
    """The file in the folder, named as `--pretrained FOLDER` finds it."""
    place = folder / f"{ARCHITECTURES.get(arch, arch)}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(place, lambda path: shutil.copyfile(file, path))
    except OSError as error:
        raise UserError(f"--to {folder}: can't be written ({error.strerror or error}); choose another") from None
    return place


if __name__ == "__main__":
    run_app(app)
