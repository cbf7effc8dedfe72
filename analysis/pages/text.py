"""Numbers and names as the pages write them."""

import html

from trainable.escape import printable

HOUR_S = 3600.0


def plot_text(text: object) -> str:
    """Text from data for a plot, where plotly would take `<b>` for a tag."""
    return html.escape(printable(str(text)), quote=False)


def share(value: float, digits: int = 1) -> str:
    """0.9333 as `93.3 %`; a dash where it isn't known (NaN)."""
    return "-" if value != value else f"{value * 100:.{digits}f} %"


def points(difference: float) -> str:
    """A difference of two shares, such as 0.021, as `+2.1 points`."""
    return f"{difference * 100:+.1f} points"


def slot_time(seconds: float) -> str:
    """Time that slots were used, as `3.2 slot hours`, or `12 slot minutes` below an hour."""
    scale, unit = time_unit(seconds)
    return f"{seconds / scale:.3g} slot {unit}"


def time_unit(seconds: float) -> tuple[float, str]:
    """The unit that suits so many seconds: its own length in seconds, and its name."""
    return (HOUR_S, "hours") if seconds >= HOUR_S else (60.0, "minutes")


def compact(number: float) -> str:
    """Whole numbers as they are, with commas; others in three digits, and from 100 on rounded: `12.5`, `0.333`."""
    return f"{round(number):,}" if number == round(number) or abs(number) >= 100 else f"{number:.3g}"


def count(number: float, noun: str) -> str:
    """`1 trial`, `1,200 trials`, `12.5 epochs`."""
    written = compact(number)
    return f"{written} {noun}" + ("" if written == "1" else "s")


def listed(parts: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
