"""Proposals from the scores at one rung, with real Optuna samplers."""

import pytest

from search_spaces import Choice, Float, Space, contains, get_space, narrow, start_point
from tuning.sampler import ENOUGH, RungSampler, make_sampler

ALL = get_space("all")


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_proposals_lie_in_the_space_and_the_first_is_its_starting_point(name):
    sampler = RungSampler(ALL, name, seed=0)
    for number in range(30):
        proposal = sampler.propose(str(number))
        contains(ALL, proposal)
        assert number or {**ALL.fixed, **start_point(ALL)} == proposal
        sampler.observe(str(number), 1, number / 30)
        if number % 2:
            sampler.observe(str(number), 2, number / 30)


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


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_one_seed_gives_one_sequence_of_proposals(name):
    def proposals(seed: int) -> list[dict]:
        sampler = RungSampler(ALL, name, seed)
        found = []
        for number in range(20):
            found.append(sampler.propose(str(number)))
            sampler.observe(str(number), 1, found[-1]["lr"])
        return found

    assert proposals(1) == proposals(1)
    assert proposals(1)[1:] != proposals(2)[1:]


def test_what_an_earlier_search_found_is_learned(tmp_path):
    sampler = RungSampler(ALL, "tpe", seed=0)
    config = {"arch": "resnet18", "lr": 1e-3, "weight_decay": 0.05, "drop_rate": 0.1, "drop_path_rate": 0.1}
    config |= {"label_smoothing": 0.1, "mix_prob": 0.5, "batch_size": 64, "epochs": 4}
    sampler.learn("old", config)
    sampler.observe("old", 1, 0.7)
    assert sampler.rungs[1].best_params["lr"] == 1e-3
    assert "attn_drop_rate" not in sampler.rungs[1].best_params


def test_samplers_are_optunas():
    assert type(make_sampler("tpe", 0)).__name__ == "TPESampler"
    assert type(make_sampler("random", 0)).__name__ == "RandomSampler"
