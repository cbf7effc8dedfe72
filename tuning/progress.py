"""What the user sees while a search runs: facts computed from trials, drawn as one live table or as plain lines."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search_spaces import is_probe
from search_spaces.space import applies
from trainable import metrics
from trainable.escape import printable
from tuning.decisions import DecisionLog, RungRow, rung_table
from tuning.engine import Decision
from tuning.failures import failure_reason
from tuning.past import FAILURE, PastTrial
from tuning.plan import SearchPlan, clock
from tuning.time_plan import Clock, clock_of

SUMMARY_EVERY_S = 30
"""Seconds between two summaries where stdout is no terminal."""

STATES = ("running", "pending", "paused", "stopped", "finished", "diverged", "failed")
"""How a trial stands: `stopped` ended early, `finished` at its full length."""


class TrialView(NamedTuple):
    """What the display knows of a trial: top-1 after each epoch, and how it stands."""

    name: str
    arch: str
    state: str
    top1: dict[float, float]
    is_probe: bool = False

    @property
    def epochs(self) -> float:
        """That it was trained for."""
        return 0.0 if self.is_probe else max(self.top1, default=0.0)


class Best(NamedTuple):
    """The best score so far."""

    name: str
    arch: str
    epoch: float
    top1: float


def best_epoch(trials: list[TrialView]) -> Best | None:
    """The highest top-1 that any trial reached, the earliest where several did."""
    epochs = [Best(trial.name, trial.arch, epoch, top1) for trial in trials for epoch, top1 in trial.top1.items()]
    return max(epochs, key=lambda best: best.top1, default=None)


def trial_state(status: str, complete: bool, diverged: bool) -> str:
    """Ray's status in the user's terms: pending, running, paused, finished, stopped, diverged or failed."""
    if status == Trial.TERMINATED:
        return "diverged" if diverged else "finished" if complete else "stopped"
    return {Trial.RUNNING: "running", Trial.PAUSED: "paused", Trial.ERROR: "failed"}.get(status, "pending")


class Progress(Callback):
    """Follows a search: a live table on a terminal, lines elsewhere; the console may be quiet."""

    def __init__(
        self,
        plan: SearchPlan,
        expected_epochs: float | None,
        dashboard: str,
        console: Console,
        clock: Clock | None = None,
    ) -> None:
        self.plan = plan
        self.expected_epochs = expected_epochs
        self.dashboard = dashboard
        self.console = console
        self.clock = clock or clock_of(plan)
        self.epochs_here = 0.0
        self.next_summary = time.monotonic() + SUMMARY_EVERY_S
        self.trials: dict[str, TrialView] = {}
        self.statuses: dict[str, str] = {}
        """Of each trial in Ray's terms, at the last look."""
        self.log = DecisionLog(plan.folder)
        self.decisions: list[Decision] = []
        self.live = Live(console=console, get_renderable=self.render, refresh_per_second=2, transient=False)

    def __enter__(self) -> "Progress":
        if self.console.is_terminal and not self.console.quiet:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def remember(self, past: Sequence[PastTrial]) -> None:
        """Take over the trials of an interrupted search."""
        for trial in past:
            status = Trial.ERROR if trial.failed else Trial.TERMINATED if trial.ended else Trial.PAUSED
            state = trial_state(status, max(trial.records, default=0) >= self.plan.length, trial.diverged)
            top1 = {record[metrics.EPOCH]: record.get(metrics.SCORE, 0.0) for record in trial.records.values()}
            arch, probe = trial.config.get("arch", "?"), is_probe(trial.config)
            self.trials[trial.key] = TrialView(trial.folder.name, arch, state, top1, probe)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial starts, or goes on from where it paused."""
        done = max(self._view(trial).top1, default=0)
        self._line(
            f"{trial} continues after epoch {done:g}" if done else f"{trial} starts: {self._configuration(trial)}"
        )

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info: Any) -> None:
        """A trial finished a step."""
        view, epoch = self._view(trial), result[metrics.EPOCH]
        before = view.epochs
        view.top1[epoch] = result[metrics.SCORE]
        self.epochs_here += max(0.0, view.epochs - before)
        what = "probe" if view.is_probe else f"epoch {epoch:.3g}/{self.plan.epochs:.3g}"
        self._line(
            f"{trial} {what}: top-1 {result[metrics.SCORE]:.1%}, "
            f"loss {result[metrics.TRAIN_LOSS]:.3f} train {result[metrics.SELECT_LOSS]:.3f} select, "
            f"{result[metrics.IMAGES_PER_SECOND]:.0f} images/s"
        )

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial ended, early or at its full length."""
        view = self._view(trial, Trial.TERMINATED)  # Ray changes the status after this call
        self._line(f"{trial} {view.state}" + ("" if view.is_probe else f" after epoch {view.epochs:.3g}"))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial failed, and is tried again unless that was the last time."""
        final = (self.plan.folder / str(trial) / FAILURE).exists()
        self._view(trial, Trial.ERROR if final else Trial.PENDING)
        self.say(f"{trial} {'failed' if final else 'broke and is tried again'}: {failure_reason(trial)}")

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Ray tries a trial again."""
        self.say(f"{trial} broke and is tried again: {failure_reason(trial)}")

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Ray's loop went round once."""
        for trial in trials:
            if self.statuses.get(trial.trial_id) != trial.status:
                self.statuses[trial.trial_id] = trial.status
                self._view(trial)
        if time.monotonic() >= self.next_summary:
            self.next_summary = time.monotonic() + SUMMARY_EVERY_S
            for line in self.summary():
                self._line(line)

    def summary(self) -> list[str]:
        """The display's facts as plain lines."""
        views = list(self.trials.values())
        states = Counter(view.state for view in views)
        of_all = "" if self.plan.trials is None else f" of {self.plan.trials} trials"
        lines = [", ".join(f"{count} {state}" for state, count in states.items()) + of_all]
        for row in self._rungs():
            lines.append(
                f"rung {self._epoch_text(row.step)}: {row.reached} reached, best {percent(row.best)}, "
                f"{row.went_on} went on, the worst at {percent(row.worst_on)}"
            )
        best = best_epoch(views)
        if best:
            lines.append(f"best so far {best.top1:.1%} by {best.name} at epoch {best.epoch:.3g}")
        return [*lines, self.budget_line()]

    def budget_line(self) -> str:
        """Epochs and time used, and the time that is left."""
        elapsed, done = time.time() - self.clock.started, self._epochs()
        of_all = "" if self.expected_epochs is None else f" of about {self.expected_epochs:.0f}"
        return f"{done:.3g}{of_all} epochs, {clock(elapsed)} used, {self._left(elapsed, done)}"

    def spent(self) -> dict[str, float]:
        """Of each budget that the search has, by its kind, the share that is used up."""
        shares = {}
        if self.expected_epochs:
            shares["epochs"] = self._epochs() / self.expected_epochs
        if self.plan.time_budget_s:
            shares["time"] = (time.time() - self.clock.started) / self.plan.time_budget_s
        return shares

    def _epochs(self) -> float:
        return sum(view.epochs for view in self.trials.values())

    def _left(self, elapsed: float, done: float) -> str:
        """With a time budget until the last file is written, else until the last epoch; at least a second."""
        estimates = [self.clock.left()] if self.plan.time_budget_s else []
        if self.epochs_here and self.expected_epochs is not None:
            estimates.append(elapsed / self.epochs_here * max(0.0, self.expected_epochs - done))
        return f"about {clock(max(1.0, min(estimates)))} left" if estimates else "time left not known yet"

    def render(self) -> Group:
        """The live display."""
        views = list(self.trials.values())
        states = Counter(view.state for view in views)
        trials = Table(box=None, pad_edge=False, header_style="dim")
        for state in STATES:
            trials.add_column(state, justify="right")
        trials.add_row(*(str(states[state]) for state in STATES))
        rungs = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("rung (epochs)", "reached", "went on", "best top-1", "worst that went on"):
            rungs.add_column(column, justify="right")
        for row in self._rungs():
            counts = (self._epoch_text(row.step), str(row.reached), str(row.went_on))
            rungs.add_row(*counts, percent(row.best), percent(row.worst_on))
        best = best_epoch(views)
        found = f"{best.top1:.1%} by {best.name} at epoch {best.epoch:.3g}" if best else "no epoch finished yet"
        return Group(
            Text.assemble(("search ", "bold"), self.plan.name, ("   dashboard ", "dim"), self.dashboard),
            self._bar(),
            Text.assemble(("best so far ", "bold"), (found, "green" if best else "")),
            trials,
            rungs if rungs.row_count else Text(""),
            Text(self.last_decision(), style="dim", no_wrap=True, overflow="ellipsis"),
            Text("Ctrl-C stops cleanly; the search can be resumed", style="dim"),
        )

    def last_decision(self) -> str:
        """The latest start or promotion in words."""
        moves = [each for each in self.decisions if each.target is not None]
        if not moves:
            return ""
        last = moves[-1]
        name = self.trials[last.trial].name if last.trial in self.trials else last.trial
        gain = "" if last.expected_improvement is None else f" (expected improvement {last.expected_improvement:.3f})"
        return f"last decision: {name} {last.kind}s, to epoch {self._epoch_text(last.target)}: {last.reason}{gain}"

    def _epoch_text(self, step: float | None) -> str:
        """The epoch that a step ends with, for people."""
        return f"{self.plan.epochs_of(step or 0):.3g}"

    def _rungs(self) -> list[RungRow]:
        self.decisions += self.log.read_new()
        return rung_table(self.decisions, self.plan.rungs)

    def _bar(self) -> Table:
        bar = Table.grid(padding=(0, 2))
        share = max(self.spent().values(), default=0.0)
        bar.add_row(ProgressBar(total=1, completed=min(1, share), width=30), self.budget_line())
        return bar

    def _view(self, trial: Trial, status: str | None = None) -> TrialView:
        known = self.trials.get(trial.trial_id)
        top1 = known.top1 if known else {}
        last = trial.last_result or {}
        complete = metrics.EPOCH in last and metrics.is_complete(last, trial.config)
        state = trial_state(status or trial.status, complete, bool(last.get(metrics.DIVERGED)))
        view = TrialView(str(trial), trial.config.get("arch", "?"), state, top1, is_probe(trial.config))
        self.trials[trial.trial_id] = view
        return view

    def _configuration(self, trial: Trial) -> str:
        there = [each for each in self.plan.space.dimensions if applies(each, trial.config)]
        names = [dimension.name for dimension in there if dimension.name in trial.config]
        values = (trial.config[name] for name in names)
        return ", ".join(
            f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in zip(names, values, strict=True)
        )

    def say(self, text: str) -> None:
        """A line that a person should read also where a live table is shown."""
        line = f"{time.strftime('%H:%M:%S')} {printable(text)}"
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _line(self, text: str) -> None:
        if not self.console.is_terminal:
            self.say(text)


def percent(score: float | None) -> str:
    """`97.5%`; `-` where there is none."""
    return "-" if score is None else f"{score:.1%}"
