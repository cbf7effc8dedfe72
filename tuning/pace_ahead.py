"""Measures the speed of the first configuration in a process that gets ready while Ray starts."""

import json
import subprocess
import sys

from trainable.pace import Pace
from tuning.plan import SearchPlan
from tuning.resources import Slots
from tuning.time_plan import first_configuration

PATIENCE_S = 120.0
"""What the measurement gets, on a machine that is busy with other work."""


class PaceAhead:
    """The process; on this machine's CPU only, whose cores Ray doesn't use before there are trials."""

    def __init__(self, plan: SearchPlan, slots: Slots) -> None:
        command = [sys.executable, "-m", "trainable.pace"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([first_configuration(plan), max(1, int(slots.cpus_per_trial))]) + "\n")
        self.process.stdin.flush()

    def result(self) -> Pace | None:
        """Let it measure now; None if it couldn't, which trials will then say better."""
        try:
            answer, _ = self.process.communicate("now\n", timeout=PATIENCE_S)
            return Pace(*json.loads(answer))
        except (subprocess.TimeoutExpired, ValueError):
            self.process.kill()
            return None
