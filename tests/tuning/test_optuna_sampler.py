"""Freeze-thaw's proposals in a study of Optuna's own."""

import math

import optuna
import pytest

from search_spaces import Choice, Float, Space, contains, suggest
from tuning.optuna_sampler import FreezeThawSampler

RUNGS = [1, 2, 4]
SPACE = Space(
    name="two",
    dimensions=(
        Choice(name="arch", values=("good", "bad")),
        Float(name="lr", low=1e-5, high=1e-1, log=True, start=1e-5),
        Float(name="drop", low=0.0, high=0.5, when={"arch": ("good",)}),
    ),
)


def score(config, epoch):
    return (math.exp(-abs(math.log10(config["lr"]) + 3)) + (config["arch"] == "good")) * (1 - 0.5**epoch) / 2


def run(seed: int, trials: int = 24) -> list[dict]:
    """Trials one after the other, each four epochs."""
    sampler = FreezeThawSampler(SPACE, RUNGS, seed)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    configs = []
    for _ in range(trials):
        trial = study.ask()
        config = suggest(SPACE, trial)
        for epoch in range(1, 5):
            trial.report(score(config, epoch), epoch)
        study.tell(trial, score(config, 4))
        configs.append(config)
    return configs


@pytest.fixture(scope="module")
def configs() -> list[dict]:
    return run(seed=0)


def test_the_first_is_the_start_and_all_lie_in_the_space(configs):
    assert configs[0] == {"arch": "good", "lr": 1e-5, "drop": 0.25}
    for config in configs:
        contains(SPACE, config)


def test_it_learns_what_scores_high(configs):
    late = configs[12:]
    assert sum(config["arch"] == "good" for config in late) >= 9
    assert sum(abs(math.log10(config["lr"]) + 3) < 0.7 for config in late) >= 6


def test_one_seed_gives_one_search(configs):
    assert run(seed=0) == configs
    assert run(seed=1, trials=3)[1:] != configs[1:3]


def test_trials_that_run_are_known_and_nothing_is_proposed_twice():
    study = optuna.create_study(sampler=FreezeThawSampler(SPACE, RUNGS, 0), direction="maximize")
    proposed = [suggest(SPACE, study.ask()) for _ in range(6)]
    assert all(config not in proposed[:index] for index, config in enumerate(proposed))
