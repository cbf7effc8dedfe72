"""Proposals from the scores at one rung, with real Optuna samplers."""

import random
import subprocess
import sys
from typing import get_args

import pytest

from search_spaces import Choice, Float, Int, Space, contains, get_space, narrow, sample, start_point
from tuning.plan import Sampler
from tuning.sampler import ENOUGH, TRIES, RungSampler, make_sampler

ALL = get_space("all")
SAMPLERS = get_args(Sampler)


def proposals(name: str, space: Space, seed: int, count: int) -> list[dict]:
    """What the sampler proposes where every trial reaches rung 1 and every other one rung 2; two run at a time."""
    sampler = RungSampler(space, name, seed)
    found: list[dict] = []
    for number in range(count):
        found.append(sampler.propose(str(number)))
        if number:
            score = found[number - 1]["lr"]
            sampler.observe(str(number - 1), 1, score)
            if number % 2:
                sampler.observe(str(number - 1), 2, score)
    return found


@pytest.mark.parametrize("name", SAMPLERS)
def test_proposals_lie_in_the_space_differ_start_at_its_start_and_follow_the_seed(name):
    count = 12 if name == "gp" else 30  # a proposal of the Gaussian process takes a second
    found = proposals(name, ALL, 1, count)
    for proposal in found:
        contains(ALL, proposal)
        assert found.count(proposal) == 1
    assert found[0] == {**ALL.fixed, **start_point(ALL)}
    assert len({proposal["arch"] for proposal in found}) > 4
    assert proposals(name, ALL, 1, count) == found
    assert proposals(name, ALL, 2, 5)[1:] != found[1:5]


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_small_finite_space_is_proposed_to_its_last_configuration(name):
    dimensions = (
        Choice(name="arch", values=("resnet18", "swin_tiny")),
        Int(name="patch_size", low=1, high=4),
        Choice(name="batch_size", values=(32, 64), when={"arch": ("swin_tiny",)}),
    )
    space = Space(name="small", dimensions=dimensions, fixed={"lr": 0.1})
    assert len({str(proposal) for proposal in proposals(name, space, 0, 12)}) == 12


@pytest.mark.parametrize("name", ["tpe", "gp", "cmaes"])
def test_a_sampler_that_learns_comes_closer_to_the_best_values_than_chance(name):
    space = Space(
        name="plane",
        dimensions=(Float(name="lr", low=0.0, high=1.0), Float(name="drop_rate", low=0.0, high=1.0)),
    )

    def distance(config: dict) -> float:
        return abs(config["lr"] - 0.2) + abs(config["drop_rate"] - 0.7)

    sampler = RungSampler(space, name, seed=0)
    distances = []
    for number in range(24 if name == "gp" else 60):
        distances.append(distance(sampler.propose(str(number))))
        sampler.observe(str(number), 1, 1 - distances[-1])
    rng = random.Random(0)
    by_chance = [distance(sample(space, rng)) for _ in range(1000)]
    late = distances[len(distances) // 2 :]
    assert sum(late) / len(late) < 0.7 * sum(by_chance) / 1000


def test_qmc_fills_the_space_more_evenly_than_chance():
    rates = [proposal["label_smoothing"] for proposal in proposals("qmc", ALL, 0, 33)][1:]
    quarters = [int(4 * rate / 0.2) for rate in rates]
    assert [quarters.count(quarter) for quarter in range(4)] == [8, 8, 8, 8]


@pytest.mark.parametrize("name", ["tpe", "random", "cmaes", "qmc"])
def test_only_the_gaussian_process_imports_torch(name):
    code = (
        "import sys\nfrom search_spaces import get_space\nfrom tuning.sampler import RungSampler\n"
        f"sampler = RungSampler(get_space('swin'), {name!r}, 0)\n"
        "for key in range(12):\n    sampler.propose(key)\n    sampler.observe(key, 1, key / 12)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_configuration_is_proposed_twice_and_a_finite_space_ends():
    space = Space(name="few", dimensions=(Choice(name="arch", values=("resnet18", "swin_tiny")),), fixed={"lr": 0.1})
    sampler = RungSampler(space, "tpe", seed=0)
    proposals = [sampler.propose(str(number)) for number in range(3)]
    assert [each and each["arch"] for each in proposals] == ["resnet18", "swin_tiny", None]


def test_proposals_come_from_the_highest_rung_with_enough_scores():
    sampler = RungSampler(narrow(ALL, ["arch=swin_tiny"]), "tpe", seed=0)
    for number in range(ENOUGH):
        sampler.propose(str(number))
        sampler.observe(str(number), 1, 0.5)
    assert sampler._rung() == 1
    for number in range(ENOUGH):
        sampler.observe(str(number), 4, 0.6)
    assert sampler._rung() == 4


def test_one_proposal_in_ten_is_random():
    sampler = RungSampler(ALL, "tpe", seed=0)
    rungs = []
    for number in range(40):
        rungs.append(sampler._rung())
        sampler.propose(str(number))
        sampler.observe(str(number), 1, 0.5)
    assert [number for number in range(ENOUGH, 40) if rungs[number] is None] == [9, 19, 29, 39]


def test_the_model_learns_from_one_rung_where_the_good_values_are():
    space = Space(name="line", dimensions=(Float(name="lr", low=0.0, high=1.0),))
    sampler = RungSampler(space, "tpe", seed=1)
    late = []
    for number in range(60):
        value = sampler.propose(str(number))["lr"]
        sampler.observe(str(number), 1, 1 - abs(value - 0.2))
        late += [value] if number >= 30 else []
    assert sum(abs(value - 0.2) < 0.1 for value in late) > len(late) / 2


def test_a_trial_counts_as_running_at_the_rung_that_it_was_proposed_from_until_it_is_there():
    sampler = RungSampler(ALL, "tpe", seed=0)
    for number in range(ENOUGH):
        sampler.propose(str(number))
        sampler.observe(str(number), 2, 0.5)
    sampler.propose("new")
    assert sampler.open["new"][0] == 2
    sampler.observe("new", 1, 0.4)
    assert "new" in sampler.open
    sampler.forget("new")
    assert [trial.state.name for trial in sampler.rungs[2].trials].count("COMPLETE") == ENOUGH
    assert sampler.rungs[2].trials[-1].state.name == "FAIL"


def test_what_an_earlier_search_found_is_learned(tmp_path):
    sampler = RungSampler(ALL, "tpe", seed=0)
    config = {"arch": "resnet18", "lr": 1e-3, "weight_decay": 0.05, "drop_rate": 0.1, "drop_path_rate": 0.1}
    config |= {"label_smoothing": 0.1, "mix_prob": 0.5, "batch_size": 64, "epochs": 4}
    sampler.learn("old", config)
    sampler.observe("old", 1, 0.7)
    assert sampler.rungs[1].best_params["lr"] == 1e-3
    assert "attn_drop_rate" not in sampler.rungs[1].best_params


def test_samplers_are_optunas():
    kinds = {name: type(make_sampler(name, 0)).__name__ for name in SAMPLERS}
    assert kinds == {
        "tpe": "TPESampler",
        "random": "RandomSampler",
        "gp": "GPSampler",
        "cmaes": "CmaEsSampler",
        "qmc": "QMCSampler",
    }


@pytest.mark.parametrize("name", ["random", "qmc"])
def test_a_sampler_that_took_up_many_trials_still_proposes(name):
    """Its draws are the first of a sequence again, all of which may have been tried."""
    undisturbed = RungSampler(ALL, name, seed=0)
    resumed = RungSampler(ALL, name, seed=0)
    for number in range(2 * TRIES):
        resumed.take_up(str(number), undisturbed.propose(str(number)))
    tried = [trial.params for trial in resumed.known.values()]
    for number in range(2 * TRIES, 2 * TRIES + 5):
        resumed.propose(str(number))
        assert resumed.known[str(number)].params not in tried


@pytest.mark.parametrize("name", ["tpe", "random"])
@pytest.mark.parametrize("interrupted", [1, 9, 17, 30])
def test_proposals_after_an_interruption_are_those_of_an_undisturbed_sampler(name, interrupted):
    """Where every trial but the last has reached rung 1 at each proposal, and every other one rung 2."""
    undisturbed, resumed = RungSampler(ALL, name, seed=4), RungSampler(ALL, name, seed=4)
    for number in range(interrupted + 12):
        config = undisturbed.propose(str(number))
        if number < interrupted:
            resumed.take_up(str(number), config)
        else:
            assert resumed.propose(str(number)) == config
        for sampler in (undisturbed, resumed):
            if number:
                sampler.observe(str(number - 1), 1, config["lr"] * number % 1)
                if number % 2:
                    sampler.observe(str(number - 1), 2, config["lr"])


def test_a_trial_that_is_taken_up_counts_as_running_where_it_was_proposed_from():
    sampler = RungSampler(ALL, "tpe", seed=0)
    for number in range(ENOUGH):
        sampler.take_up(str(number), {**start_point(ALL), "lr": 1e-4 * (1 + number)})
        sampler.observe(str(number), 1, 0.5)
    sampler.take_up("new", start_point(ALL))
    assert sampler.open["new"][0] == 1
    assert sampler.rungs[1].trials[-1].state.name == "RUNNING"
    sampler.observe("new", 1, 0.9)
    assert sampler.open == {}
    assert sampler.rungs[1].best_value == 0.9
    assert len(sampler.rungs[1].trials) == ENOUGH + 1
