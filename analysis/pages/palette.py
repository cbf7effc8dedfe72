"""Colours that read on white and on near-black, the same for an architecture in all plots of a page."""

from collections.abc import Iterable

COLOURS = (
    "#4c8bd6", "#e8833a", "#3fa66b", "#a878d0", "#d65f7f", "#3fb0b8", "#b5933a", "#8794a6", "#7a9c3f", "#c96fb8",
)  # fmt: skip
"""For kinds of things, in this order."""
ACCENT = COLOURS[0]
"""The one line that matters."""
SECOND = COLOURS[1]
"""What stands beside it."""
NEUTRAL = "#8b929c"
"""What stands back: reference lines, what isn't an architecture."""
ALARM = "#d9534f"
"""What went wrong."""
SCALE = [[0.0, "#a3adb8"], [0.5, "#4c8bd6"], [1.0, "#e8602c"]]
"""From little to much, both visible on white and on near-black."""


def architecture_colours(architectures: Iterable[str]) -> dict[str, str]:
    """A colour for each architecture by name; from the eleventh on they come again."""
    return {arch: COLOURS[place % len(COLOURS)] for place, arch in enumerate(sorted(set(architectures)))}
