"""A small plan, and searches without Ray."""

import heapq
import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray.tune import Trainable
from ray.tune.experiment import Experiment

from search_spaces import get_space
from trainable import metrics
from trainable.files import CHECKSUMS, MODEL, RECORD, STATE, checksum
from tuning.engine import Action, Engine, Status
from tuning.plan import SearchPlan


@pytest.fixture(scope="session")
def make_plan() -> Callable[..., SearchPlan]:
    """`make_plan(trials=3)` is a valid plan with that change."""

    def make(**changes) -> SearchPlan:
        values = {
            "space": get_space("swin"),
            "trial": {"data": "images"},
            "trials": 8,
            "epochs": 4,
            "name": "test",
            "output": Path("runs"),
        }
        return SearchPlan(**values | changes)

    return make


class Numbered:
    """Proposes 0, 1, 2, ... and remembers what it was told; at most `size` of them."""

    def __init__(self, size: int = 10**6) -> None:
        self.numbers = iter(range(size))
        self.observed: list[tuple[str, int, float]] = []
        self.forgotten: list[str] = []

    def propose(self, key):
        number = next(self.numbers, None)
        return None if number is None else {"number": number}

    def learn(self, key, values):
        return dict(values)

    take_up = learn

    def observe(self, key, rung, score):
        self.observed.append((key, rung, score))

    def forget(self, key):
        self.forgotten.append(key)


@pytest.fixture(scope="session")
def numbered() -> type[Numbered]:
    """A sampler whose configurations are numbers."""
    return Numbered


@pytest.fixture(scope="session")
def quality() -> Callable[[int, int], float]:
    """`quality(number, epoch)`: what such a configuration scores; rises with the epoch."""
    return lambda number, epoch: ((number * 7919) % 101) / 101 * (1 - 0.5**epoch)


@pytest.fixture(scope="session")
def simulate() -> Callable[..., list[tuple[str, int]]]:
    """`simulate(engine, slots, score, seed)` runs an engine on a virtual clock, where epochs take one to two units.

    `score(number, epoch)` is asked with what `Numbered` proposed. Returns (trial, epoch) as they finish.
    """

    def run(engine: Engine, slots: int, score, seed: int = 0) -> list[tuple[str, int]]:
        rng = random.Random(seed)
        names, clock, order = map(str, itertools.count()), [], itertools.count()
        done: list[tuple[str, int]] = []

        def fill(now: float) -> None:
            while len(clock) < slots:
                move = engine.next_move()
                if move is None:
                    return
                key = move.key or next(names)
                if move.key is not None:
                    engine.promote()
                elif engine.start(key) is None:
                    continue
                heapq.heappush(clock, (now + rng.uniform(1, 2), next(order), key))

        fill(0)
        while clock:
            now, _, key = heapq.heappop(clock)
            trial = engine.trials[key]
            epoch = int(trial.steps) + 1
            done.append((key, epoch))
            value = score(trial.config.get("number", trial.config), epoch)
            if engine.report(key, epoch, value) is Action.CONTINUE:
                heapq.heappush(clock, (now + rng.uniform(1, 2), next(order), key))
            fill(now)
        return done

    return run


@pytest.fixture(scope="session")
def put_back() -> Callable[..., Status]:
    """`put_back(engine, key, config, curve)`: a trial of an interrupted search; returns its status."""

    def take_up(engine: Engine, key: str, config: dict, curve: dict[int, float], may_go_on: bool = True) -> Status:
        engine.take_up(key, config)
        for epoch, score in sorted(curve.items()):
            engine.relearn(key, epoch, score)
        return engine.settle(key, max(curve, default=0) if may_go_on else None)

    return take_up


@pytest.fixture(scope="session")
def leave_checkpoint() -> Callable[..., Path]:
    """`leave_checkpoint(trial_folder, number, epoch)`: a checkpoint in its files' layout; returns its folder."""

    def leave(trial: Path, number: int, epoch: int) -> Path:
        folder = trial / f"checkpoint_{number:06}"
        folder.mkdir(parents=True)
        for name in (MODEL, STATE):
            (folder / name).write_text(f"{name} after epoch {epoch}")
        epochs = [{metrics.EPOCH: each} for each in range(1, epoch + 1)]
        sums = {name: checksum(folder / name) for name in (MODEL, STATE)}
        (folder / RECORD).write_text(json.dumps({"epochs": epochs, CHECKSUMS: sums}))
        return folder

    return leave


@pytest.fixture(scope="session")
def leave_trial(leave_checkpoint) -> Callable[..., Path]:
    """`leave_trial(experiment_folder, 3, config, [0.1, 0.2])`: what a trial left that scored so after its epochs.

    Its checkpoint is of its last epoch, or of `saved`; `last` goes into its last record, as `done=True`.
    """

    def leave(
        experiment: Path, number: int, config: dict[str, Any], scores: list[float], saved: int | None = None, **last
    ) -> Path:
        folder = experiment / f"{number:04}-{config.get('arch', 'vit')}"
        folder.mkdir()
        (folder / "params.json").write_text(json.dumps(config))
        key = f"{json.loads((experiment / 'experiment.json').read_text())['id']}-{number:04}"
        common = {"trial_id": key, "timestamp": number, "config": config}
        records = [
            {metrics.EPOCH: epoch, metrics.SCORE: score, "done": False} | common
            for epoch, score in enumerate(scores, 1)
        ]
        if records:
            records[-1] |= last
        (folder / "result.json").write_text("".join(json.dumps(record) + "\n" for record in records))
        epoch = len(scores) if saved is None else saved
        if epoch:
            leave_checkpoint(folder, epoch - 1, epoch)
        return folder

    return leave


class Nothing(Trainable):
    """A trainable that is never run."""


@pytest.fixture
def ray_spec(tmp_path, monkeypatch) -> Callable[[SearchPlan], dict[str, Any]]:
    """`ray_spec(plan)`: what Ray hands to a search algorithm to make trials of, without a running Ray."""
    from tuning.search import trial_name

    session = str(tmp_path / "session")
    monkeypatch.setattr("ray.train._internal.storage._get_ray_train_session_dir", lambda: session)

    def make(plan: SearchPlan) -> dict[str, Any]:
        names = {"trial_name_creator": trial_name, "trial_dirname_creator": trial_name}
        config = plan.trial | {"epochs": plan.epochs}
        return Experiment(plan.name, Nothing, storage_path=str(plan.output), config=config, **names).spec

    return make
