"""The sections about the exported ensemble, from its manifest and its evidence alone."""

from pathlib import Path

from analysis.pages.calibration_plot import calibration_section
from analysis.pages.confident_errors import errors_section
from analysis.pages.confusion_plot import confusion_section
from analysis.pages.diversity_plot import diversity_section
from analysis.pages.ensemble_tables import front_table, read_measured
from analysis.pages.gain_plots import gain_section, size_section
from analysis.pages.optimism_plot import optimism_section
from analysis.pages.records import ENSEMBLE
from analysis.pages.section import Section


def ensemble_sections(folder: Path) -> list[Section]:
    """What the ensemble in `folder`/ensemble gains, costs, and gets wrong, of the experiment in `folder`.

    UserError where the export can't be read, or lacks its evidence.
    """
    measured = read_measured(folder / ENSEMBLE)
    front = front_table(measured)
    return [
        gain_section(measured.manifest, front),
        size_section(measured.manifest, front),
        diversity_section(measured),
        calibration_section(measured),
        optimism_section(measured.manifest),
        confusion_section(measured),
        errors_section(measured, folder),
    ]
