"""Which packages a peer needs beyond those of this project, and whether they are here."""

import importlib.metadata

from trainable.errors import UserError

CURRENT, LEGACY = "0.16.0", "0.14.2"
SYNE_RELEASES = {
    "syne-asha-stopping": CURRENT,
    "syne-bohb": CURRENT,
    "syne-cqr": CURRENT,
    "syne-asha-promotion": LEGACY,
    "syne-mobster": LEGACY,
    "syne-hypertune": LEGACY,
    "syne-dyhpo": LEGACY,
}
"""The release of Syne Tune whose class each method is."""
EXTRA = "pip install -c constraints.txt -e '.[peers]'"
LEGACY_INSTALL = (
    f"pip install --no-deps --target FOLDER syne-tune=={LEGACY} autograd, beside the extra 'peers', "
    "and start with PYTHONPATH=FOLDER"
)


def check_installed(name: str) -> None:
    """Whether a method can run here.

    Raises:
        UserError: A package is missing or of another release.
    """
    if name == "ray-bohb":
        for package in ("hpbandster", "ConfigSpace"):
            if version(package) is None:
                raise UserError(f"method {name!r} needs {package}; {EXTRA}")
    wanted, found = SYNE_RELEASES.get(name), version("syne-tune")
    if wanted is not None and found != wanted:
        how = EXTRA if wanted == CURRENT else LEGACY_INSTALL
        raise UserError(f"method {name!r} needs syne-tune {wanted}, found {found or 'none'}; {how}")


def version(package: str) -> str | None:
    """The installed version; None where there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
