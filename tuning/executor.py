"""One search: its engine, slots and logs, told of what happens to trials; and what a resume or a retry goes on with."""

import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from optuna.trial import TrialState as OptunaState

from trainable import metrics
from trainable.address import patiently
from trainable.errors import UserError
from trainable.ranking import rank_score
from tuning.decisions import DecisionLog
from tuning.engine import Action, Decision, Status
from tuning.failures import cause_of, is_memory, is_node, is_unreachable
from tuning.past import FAILURE, PastTrial, read_trial, trial_key
from tuning.plan import SearchPlan
from tuning.policies import make_engine
from tuning.ray_trials import NewTrial
from tuning.storage import experiment_id
from tuning.study import StudyLog, new_journal
from tuning.warm_start import Earlier

TIME_IS_UP = "the time budget is used up"
SEARCH_OVER = "the search is over, and nothing lets it go on"
MOST_ALIKE = 3
"""Trials in a row that failed for the same cause end the search: what comes next would fail too."""


class Executor:
    """The engine of one search, with its slots, its study, its decisions file, and what an earlier run left.

    A trial that failed is tried again from its newest checkpoint, `retries` times without a new epoch in between.
    """

    def __init__(
        self,
        plan: SearchPlan,
        slots: int,
        past: Sequence[PastTrial] = (),
        earlier: Sequence[Earlier] = (),
        retries: int = 0,
        say: Callable[[str], None] = lambda text: None,
        deadline: float = math.inf,
    ) -> None:
        self.plan = plan
        self.slots = slots
        """Trials that may run at once."""
        self.spared = 0
        """Slots that are left empty since memory was short."""
        self.retries = retries
        self.say = say
        self.experiment = experiment_id(plan.folder)
        self.place = plan.place
        self.folders = {trial.key: trial.folder for trial in past}
        taken = {trial.number for trial in past}
        self.numbers: Iterator[int] = (number for number in itertools.count(1) if number not in taken)
        self.waiting: list[str] = []
        """Trials to go on with from their files at once: they were cut off, or failed and are tried again."""
        self.away: set[str] = set()
        """Trials that wait at a rung and that Ray doesn't know yet in this process."""
        self.failures: Counter[str] = Counter()
        """Of each trial since its last new epoch."""
        self.excused: set[str] = set()
        """Trials that Ray lost touch with since their last new epoch: once that may be the machine's fault."""
        self.failed: list[tuple[str, str]] = []
        """The last trials that failed for good, all for the same cause, since one did well; each with its cause."""
        self.stopped_by: str | None = None
        """The reason of the failures that ended the search."""
        self.log = DecisionLog(plan.folder)
        self.study = StudyLog(plan.name, plan.space, new_journal(plan.folder))
        self.deadline = deadline
        """Seconds since 1970 at which the last step has to be done."""
        self.engine = make_engine(plan, earlier, self.log.add, lambda: self.deadline - time.time())
        if past:
            self._take_up(past)

    @property
    def has_free_slot(self) -> bool:
        """Whether fewer trials run, or are about to, than may."""
        return self.engine.running < self.slots

    def resize(self, slots: int) -> None:
        """The machines have room for so many trials now."""
        self.slots = max(1, slots - self.spared)

    def occupies(self, key: str) -> bool:
        """Whether the trial has a slot: it runs in Ray, or is about to."""
        return self.engine.trials[key].status is Status.RUNNING and key not in self.waiting

    def start(self) -> NewTrial | None:
        """A new trial, if a slot is free for one."""
        if not self.has_free_slot:
            return None
        number = next(self.numbers)
        key = trial_key(self.experiment, number)
        config = self.engine.start(key)
        if config is None:
            self.numbers = itertools.chain([number], self.numbers)
            return None
        self.study.start(key, config)
        return NewTrial(key, number, config)

    def next_back(self) -> str | None:
        """The trial that goes on from its files, if one should and a slot is free; it counts as running then."""
        if self.waiting:
            running_in_ray = self.engine.running - len(self.waiting)
            return self.waiting.pop(0) if running_in_ray < self.slots else None
        self.look_at_the_clock()
        move = self.engine.next_move() if self.has_free_slot else None
        if move is None or move.key not in self.away:
            return None
        self.away.remove(move.key)
        self.engine.promote()
        return move.key

    def report(self, key: str, record: dict[str, Any]) -> Action:
        """A trial finished a step, or was cut short by the deadline."""
        self.look_at_the_clock()
        step, score = metrics.step_of(record), rank_score(record)
        again = step in self.engine.trials[key].curve
        self._note_probe(key, record)
        action = self.engine.report(key, step, score, metrics.epoch_seconds(record))
        if not again:
            del self.failures[key]
            self.excused.discard(key)
            if step == int(step):  # Optuna takes whole ones only
                self.study.report(key, int(step), self.engine.trials[key].curve[step])
        if action is not Action.CONTINUE and not self.stopped_by:
            self.failed.clear()
        return action

    def _note_probe(self, key: str, record: dict[str, Any]) -> None:
        """Let the engine know what a probe says of images that it wasn't fitted to."""
        trial = self.engine.trials[key]
        trial.probe_loss = record[metrics.TRAIN_LOSS] if trial.is_probe else None

    def look_at_the_clock(self) -> None:
        """Close the search once its time is up: what runs then ends with its update, and is kept."""
        if time.time() >= self.deadline and not self.engine.closed:
            self.engine.close(TIME_IS_UP)

    def close(self, key: str, record: dict[str, Any] | None) -> None:
        """A trial left Ray: it reached its full length, diverged, or the search is over."""
        trial = self.engine.trials[key]
        if record and record.get(metrics.EPOCH) is not None and metrics.step_of(record) not in trial.curve:
            self.report(key, record)
        if record and record.get(metrics.DIVERGED):
            self.engine.diverge(key)
        self._end(key)

    def fail(self, key: str, reason: str) -> bool:
        """A trial broke; returns whether it is tried again, now or by a resumed search."""
        if self.slots > 1 and is_memory(reason):  # the fault of all that ran
            self.slots -= 1
            self.spared += 1
            self.say(f"memory is short: {self.slots} trial{'s' * (self.slots > 1)} at once from now on")
        elif is_unreachable(reason) and key not in self.excused:
            self.excused.add(key)
        elif not is_node(reason):
            self.failures[key] += 1
        is_final = self.failures[key] > self.retries
        if not is_final and not self.engine.closed:
            self._try_again(key)
            return True
        self.engine.fail(key, reason)
        self.study.end(key, OptunaState.FAIL)
        if not is_final:
            return True  # by a resumed search
        alike = [(other, cause) for other, cause in self.failed if cause == cause_of(reason)]
        if alike or not self.stopped_by:
            self.failed = [*alike, (key, cause_of(reason))]
        if len(self.failed) >= MOST_ALIKE and not self.engine.closed:
            self.stopped_by = reason
            self.engine.close(f"{MOST_ALIKE} trials in a row failed alike: {reason}")
        return False

    def _try_again(self, key: str) -> None:
        """Let a trial go on from its files; one that broke while it was saved at its rung runs there again."""
        status = self.engine.trials[key].status
        if status is not Status.RUNNING:
            status = self.engine.settle(key, self.read(key).saved)
        if status is Status.RUNNING:
            self.waiting.append(key)
        elif status is Status.PAUSED:
            self.away.add(key)
        else:
            self._end(key)

    def read(self, key: str) -> PastTrial:
        """What the trial's folder shows; UserError where its configuration was deleted."""
        past = patiently(partial(read_trial, self.folders[key], self.experiment, self.place))
        if past is None:
            raise UserError(f"{self.folders[key]}: its params.json is gone; put it back, then go on by --resume")
        return past

    def ended(self, past: Sequence[PastTrial]) -> list[PastTrial]:
        """Those of an interrupted search that don't go on."""
        return [trial for trial in past if self.engine.trials[trial.key].status is Status.ENDED]

    def give_up(self, reason: str) -> str | None:
        """End the least promising of the trials that wait at a rung; returns which, or None where none waits."""
        key = self.engine.least_promising()
        if key is not None:
            self.engine.end(key, reason)
            if key in self.away:
                self.away.remove(key)
                self._end(key)
        return key

    def end_rest(self) -> None:
        """The search is over: trials that wait at a rung, and that Ray never saw, end.

        Those whose failure ended it are no longer marked as failed: a resumed search tries them again.
        """
        for key in [*self.waiting, *sorted(self.away)]:
            self._end(key)
        if self.stopped_by:
            for key, _ in self.failed:
                (self.folders[key] / FAILURE).unlink(missing_ok=True)

    def _end(self, key: str) -> None:
        trial = self.engine.trials[key]
        self.engine.end(key, self.engine.closed or SEARCH_OVER)
        complete = trial.steps >= self.plan.length
        self.study.end(key, OptunaState.COMPLETE if complete else OptunaState.PRUNED, trial.curve.get(trial.steps))

    def _take_up(self, past: Sequence[PastTrial]) -> None:
        """Put the trials of an interrupted search back, in the order in which it learned what is known of them."""
        trials = {trial.key: trial for trial in past}
        curves = {key: trial.curve for key, trial in trials.items()}
        order = self.log.keep(curves)
        for key in [key for key in trials if (key, 0) not in order]:
            order[key, 0] = 1 + max(order.values(), default=-1)  # the line of its start was lost
            self.log.add(Decision("start", key, 0, "known from its folder", self.engine.rungs[0]))
        for key, step in known_in_order(curves, order):
            if step:
                record = trials[key].records[step]
                diverged = bool(record.get(metrics.DIVERGED))
                self._note_probe(key, record)
                self.engine.relearn(key, step, curves[key][step], metrics.epoch_seconds(record), diverged)
            else:
                self.engine.take_up(key, trials[key].own_values(self.plan))
        for key, trial in trials.items():
            status = self.engine.settle(key, None if trial.diverged or trial.failed else trial.saved)
            self.waiting += [key] if status is Status.RUNNING else []
            self.away |= {key} if status is Status.PAUSED else set()
            ended = status is Status.ENDED
            state = trial.state_in_study(self.plan.length) if ended else OptunaState.RUNNING
            self.study.put_back(key, self.engine.trials[key].config, curves[key], state)


def known_in_order(
    curves: Mapping[str, Mapping[float, float]], order: Mapping[tuple[str, float], int]
) -> list[tuple[str, float]]:
    """Each trial's start (as step 0) and its steps, as the search learned them.

    Args:
        curves: Score of each trial after each step.
        order: Place among the decisions of (trial, steps done) at which one was made.
    """
    places: dict[tuple[str, float], tuple[int, float]] = {}
    last = 1 + max(order.values(), default=-1)
    for key, curve in curves.items():
        place = last
        for step in sorted(curve, reverse=True):  # a step that decided nothing is placed before the next that did
            place = order.get((key, step), place)
            places[key, step] = place, step
        places[key, 0] = min(order[key, 0], place), 0
    return sorted(places, key=lambda each: places[each])
