"""What is left of a time budget, judged by rough costs and by how this machine has kept to them so far."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

MARGIN = 1.2
"""How much longer than expected a part may take without breaking the budget."""


class Clock:
    """The time budget of a report. Costs are seconds on one usual core, and the pace is how much longer they take."""

    def __init__(self, budget_s: float | None = None, begun: float | None = None) -> None:
        """Counts from `begun` on the clock of time.monotonic, or from now; without a budget all fits."""
        self.budget_s = budget_s
        self.begun = time.monotonic() if begun is None else begun
        self.expected = self.taken = 0.0

    @property
    def pace(self) -> float:
        """What the parts so far have taken, as a multiple of their costs; 1 before the first."""
        return self.taken / self.expected if self.expected else 1.0

    def fits(self, cost: float) -> bool:
        """Whether a part with this cost can be expected to end in time."""
        if self.budget_s is None:
            return True
        return time.monotonic() - self.begun + MARGIN * self.pace * cost <= self.budget_s

    @contextmanager
    def timed(self, cost: float) -> Iterator[None]:
        """Measures what was expected to have this cost."""
        begun = time.monotonic()
        yield
        self.taken += time.monotonic() - begun
        self.expected += cost
