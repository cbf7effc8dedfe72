"""Find a space by its name, or read a user's own from a .toml or .py file. A .py file is code: it is run.

name = "my-models"

[fixed]
arch = "convnext_tiny"

[[dimensions]]
kind = "float"
name = "lr"
low = 1e-4
high = 1e-2
log = true
"""

import os
import runpy
import tomllib
import traceback
from pathlib import Path
from typing import Any

from search_spaces import deit, photos, resnet, swin, vit
from search_spaces.errors import SpaceError, did_you_mean
from search_spaces.hyperparameters import HYPERPARAMETERS
from search_spaces.space import Choice, Space
from search_spaces.union import union

_FAMILIES = (resnet.SPACE, vit.SPACE, deit.SPACE, swin.SPACE)
_ALL = union("all", _FAMILIES, "All eight architectures")
_SPACES = {space.name: space for space in (*_FAMILIES, _ALL, photos.SPACE)}


def names() -> list[str]:
    """The built-in spaces: the families, `all`, which is their union, and `photos`."""
    return list(_SPACES)


def get_space(name_or_path: str) -> Space:
    """A built-in space by name, or a user's own by the path of its file.

    Args:
        name_or_path: One of `names()`, or a path that ends in `.toml` (the fields of `Space`; `name` defaults to
            the file's) or `.py` (it defines `SPACE`; the file is run).

    Raises:
        SpaceError: The name is unknown, or the file is missing, broken, or not a space that we can train.
    """
    if name_or_path in _SPACES:
        return _SPACES[name_or_path]
    path = Path(os.path.expanduser(name_or_path))
    if path.suffix not in (".toml", ".py"):
        hint = did_you_mean(name_or_path, _SPACES)
        raise SpaceError(f"unknown space {name_or_path!r}; {hint}; or give the path of a .toml or .py file")
    if not os.path.isfile(path):
        raise SpaceError(f"{path}: no such file; a space is a .toml or .py file, or one of {', '.join(_SPACES)}")
    space = _read_toml(path) if path.suffix == ".toml" else _run_python(path)
    _check_trainable(space, path)
    return space


def _read_toml(path: Path) -> Space:
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        repr(data)  # ValueError for a hexadecimal of more digits than Python writes, also in a message
        return Space.model_validate({"name": path.stem, **data})
    except (OSError, ValueError, RecursionError) as error:  # tomllib's and Python's own, and SpaceError
        raise SpaceError(f"{path}: {_flat(error)}") from error


def _run_python(path: Path) -> Space:
    try:
        space = runpy.run_path(str(path)).get("SPACE")
    except (Exception, SystemExit) as error:
        raise SpaceError(f"{path}:{_line(error, path)}: {type(error).__name__}: {_flat(error)}") from error
    if not isinstance(space, Space):
        found = "defines no SPACE" if space is None else f"defines SPACE as a {type(space).__name__}"
        raise SpaceError(f"{path}: {found}; it must be a search_spaces.Space")
    return space


def _line(error: BaseException, path: Path) -> int:
    if isinstance(error, SyntaxError) and error.lineno and error.filename == str(path):
        return error.lineno
    own = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return own[-1] if own and own[-1] else 1


def _flat(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(text.split())


def _check_trainable(space: Space, path: Path) -> None:
    dimensions = {dimension.name: dimension for dimension in space.dimensions}
    for name in (*space.fixed, *dimensions):
        if name not in HYPERPARAMETERS:
            raise SpaceError(f"{path}: unknown hyper-parameter {name!r}; {did_you_mean(name, HYPERPARAMETERS)}")
    arch = dimensions.get("arch")
    if isinstance(arch, Choice) and not arch.when:
        architectures: tuple[Any, ...] = arch.values
    else:
        architectures = (space.fixed.get("arch"),)
    for architecture in architectures:
        if not isinstance(architecture, str):
            raise SpaceError(
                f"{path}: no architecture ({architecture!r}); give an unconditional choice 'arch' of names, or fix one"
            )
