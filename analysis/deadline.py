"""When an export has to end, and where its time went."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

CAUTION = 1.25
"""What a part may take longer than estimated: it fits if so much more would."""
REST = "rest"
"""What no part has measured."""


@dataclass(frozen=True)
class Deadline:
    """Seconds that a command may take from its start, with those that its parts took; passed to whatever asks it."""

    seconds: float = math.inf
    """Infinity: no limit."""
    started: float = field(default_factory=time.monotonic)
    parts: dict[str, float] = field(default_factory=dict)
    """Seconds by the name of a part, in the order of their beginnings."""

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit."""
        return math.isfinite(self.seconds)

    def spent(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def left(self) -> float:
        """Seconds until the end; below 0 after it."""
        return self.seconds - self.spent()

    def fits(self, seconds: float) -> bool:
        """Whether what is estimated to take that long can begin now."""
        return seconds * CAUTION <= self.left()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measures the block as a part; one of the same name again is added to it. Parts don't contain each other."""
        began = time.monotonic()
        self.parts.setdefault(name, 0.0)
        try:
            yield
        finally:
            self.parts[name] += time.monotonic() - began

    def summary(self) -> str:
        """`12.3 s of 90 s: votes 3.1, holdout 4.2, rest 5.0`."""
        spent = self.spent()
        parts = self.parts | {REST: max(0.0, spent - sum(self.parts.values()))}
        limit = f" of {self.seconds:.4g} s" if self.is_limited else ""
        return f"{spent:.1f} s{limit}: {', '.join(f'{name} {seconds:.1f}' for name, seconds in parts.items())}"
