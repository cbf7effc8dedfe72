"""Freeze-thaw search without Ray: real model, real engine, made-up scores."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import Choice, Float, Space, contains, for_pretrained, get_space, is_probe, narrow
from tuning.engine import Engine, Status, rung_levels
from tuning.first import fine_tuning_starts, probes
from tuning.freeze_thaw import ENOUGH, Candidate, FreezeThaw
from tuning.step_cost import StepCost, Work
from tuning.warm_start import Earlier

SPACE = Space(name="one", dimensions=(Float(name="lr", low=1e-5, high=1e-1, log=True, start=1e-5),))


def score(config, epoch):
    """Best at lr = 1e-3, from the second epoch on; the first says nothing."""
    if epoch == 1:
        return random.Random(config["lr"]).random()
    return math.exp(-abs(math.log10(config["lr"]) + 3)) * (1 - 0.5**epoch)


def search(space=SPACE, rungs=(2, 4, 8), seed=0, **limits) -> Engine:
    return Engine(FreezeThaw(space, rungs, seed), rungs, **limits)


def test_it_spends_its_epochs_where_scores_are_high(simulate):
    engine = search(steps=150)
    simulate(engine, 4, score)
    full = [trial for trial in engine.trials.values() if trial.steps == 8]
    assert full
    assert max(trial.curve[8] for trial in full) > 0.95
    distances = {
        reached: [abs(math.log10(t.config["lr"]) + 3) for t in engine.trials.values() if (t.steps == 8) == reached]
        for reached in (True, False)
    }
    assert sum(distances[True]) / len(full) < sum(distances[False]) / len(distances[False]) / 2


@pytest.mark.parametrize("name", ["all", "swin"])
def test_it_proposes_inside_the_space_and_nothing_twice(simulate, name):
    space = get_space(name)
    engine = search(space, trials=30, steps=90)
    simulate(engine, 3, lambda config, epoch: (1 - config["drop_path_rate"]) * (1 - 0.5**epoch))
    configs = [trial.config for trial in engine.trials.values()]
    for config in configs:
        contains(space, config)
    assert all(config not in configs[:index] for index, config in enumerate(configs))


def test_a_space_with_probes_is_searched_like_any_other_and_probes_are_not_proposed_twice(simulate):
    space = for_pretrained(get_space("all"))
    engine = search(space, trials=40, steps=80, first=probes(space)[:3], starts=fine_tuning_starts(space))
    simulate(engine, 3, lambda config, epoch: 0.5 if is_probe(config) else 1 - 0.5**epoch)
    configs = [trial.config for trial in engine.trials.values()]
    for config in configs:
        contains(space, config)
    assert [is_probe(config) for config in configs[:4]] == [True, True, True, False]
    assert all(config not in configs[:index] for index, config in enumerate(configs))


def test_a_fine_tuning_without_a_probe_costs_the_probe_too():
    space = for_pretrained(narrow(get_space("all"), ["arch=resnet18,resnet34"]))
    policy = FreezeThaw(space, [1, 2], 0, cost=StepCost(Work(224, 1.0), 2, measured=True))
    fresh = [Candidate(config, []) for config in fine_tuning_starts(space)]
    before = policy._costs(fresh)
    policy.learn("a", {"arch": "resnet18", "freeze": "all"})
    after = policy._costs(fresh)
    assert after[0] == before[0]
    assert after[1] == pytest.approx(before[1] * (1 + 2 / 3))  # two forward passes beside three


@given(trials=st.integers(1, 14), slots=st.integers(1, 4), longest=st.integers(1, 9), budget=st.integers(2, 60))
@settings(max_examples=15, deadline=None)
def test_a_search_ends_within_its_budget_with_unbroken_epochs(simulate, trials, slots, longest, budget):
    rungs = rung_levels(min(2, longest), 2, longest)
    engine = search(rungs=rungs, trials=trials, steps=budget)
    done = simulate(engine, slots, score)
    assert len(done) <= budget
    assert engine.finished
    for key, trial in engine.trials.items():
        epochs = [epoch for name, epoch in done if name == key]
        assert epochs == list(range(1, trial.steps + 1))
        assert trial.status is (Status.ENDED if trial.steps == longest else Status.PAUSED)


@pytest.mark.parametrize("worthless", [0.0, 0.1])
def test_scores_that_are_all_the_same_do_not_end_the_search(simulate, worthless):
    engine = search(steps=60)
    assert len(simulate(engine, 3, lambda config, epoch: worthless)) > 55


def test_one_seed_gives_one_search(simulate):
    runs = []
    for seed in (0, 0, 1):
        engine = search(seed=seed, steps=60)
        simulate(engine, 3, score)
        runs.append([trial.config for trial in engine.trials.values()])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_how_often_it_is_asked_changes_nothing(simulate):
    once, often = search(steps=60), search(steps=60)
    choose = often.policy.choose

    def asked_twice(trials, budget):
        choose(trials, budget)
        return choose(trials, budget)

    often.policy.choose = asked_twice
    assert simulate(once, 3, score) == simulate(often, 3, score)


def test_every_configuration_of_a_small_space_is_tried_once_and_the_search_ends(simulate):
    space = Space(name="few", dimensions=(Choice(name="arch", values=("a", "b", "c", "d", "e")),))
    engine = search(space, rungs=(1, 2))
    simulate(engine, 2, lambda config, epoch: 0.1 * "abcde".index(config["arch"]))
    assert sorted(trial.config["arch"] for trial in engine.trials.values()) == list("abcde")
    assert engine.finished


def test_trials_that_run_count_as_if_they_had_come_out_as_predicted(simulate):
    engine = search(steps=40)
    simulate(engine, 1, score)
    engine.most_steps, engine.is_chosen = math.inf, False
    for key in map(str, range(1000, 1016)):
        if engine.next_move().key is None:
            engine.start(key)
        else:
            engine.promote()
    assert engine.next_move() is not None
    policy = engine.policy
    running = [trial for trial in engine.trials.values() if trial.status is Status.RUNNING]
    assert len(running) == 16
    horizon = math.log(min(8, 2 * max(result.rung for result in policy.results))) / math.log(8)
    imagined, _, _ = policy.model.imagined
    expected = [[*policy.points[trial.key], max(horizon, math.log(trial.target) / math.log(8))] for trial in running]
    assert imagined == pytest.approx(np.array(expected))
    assert len(policy.model.points) == len(policy.results)


def test_a_decision_has_its_expected_improvement(simulate):
    notes = []
    engine = search(steps=60, note=notes.append)
    simulate(engine, 2, score)
    moves = [note for note in notes if note.kind in ("start", "promote")]
    assert all(note.expected_improvement is None for note in moves[:ENOUGH])
    assert sum(note.expected_improvement is not None for note in moves) > len(moves) / 2
    assert all(note.rank >= 1 for note in moves if note.kind == "promote")


def test_an_engine_put_back_together_knows_what_the_first_knew(simulate, put_back):
    first, again = search(steps=70), search(steps=70)
    simulate(first, 2, score)
    for key, trial in first.trials.items():
        assert put_back(again, key, trial.config, trial.curve) is trial.status
    assert sorted(again.policy.results) == sorted(first.policy.results)
    assert again.policy.points == first.policy.points
    assert again.next_move() is None
    again.most_steps = 200
    again.is_chosen = False
    assert again.next_move().expected_improvement > 0


def watch(engine: Engine) -> list[tuple]:
    """What the engine decides from now on, each with the kernel's parameters, if there are any by then."""
    noted: list[tuple] = []

    def note(decision) -> None:
        kernel = engine.policy.model.kernel
        noted.append((decision, None if kernel is None else kernel.theta.tolist()))

    engine.note = note
    return noted


def put_together(again: Engine, first: Engine, done: list[tuple[str, int]]) -> None:
    """Tell `again` of the epochs `done` in `first`, in the order in which they were learned."""
    for key, epoch in done:
        if key not in again.trials:
            again.take_up(key, first.trials[key].config)
        again.relearn(key, epoch, first.trials[key].curve[epoch])
    for key, trial in again.trials.items():
        again.settle(key, saved=trial.steps)


@pytest.mark.parametrize("rungs", [(1, 2, 4, 8), (2, 4, 8)])
@given(interrupted_at=st.integers(1, 60), seed=st.integers(0, 3))
@settings(max_examples=5, deadline=None)
def test_an_engine_put_together_at_any_point_goes_on_as_one_that_was_never_interrupted(
    simulate, rungs, interrupted_at, seed
):
    first, again = (search(rungs=rungs, seed=seed, steps=64) for _ in range(2))
    undisturbed = watch(first)
    done = simulate(first, 1, score)
    put_together(again, first, done[:interrupted_at])
    resumed = watch(again)
    for key, epoch in done[interrupted_at:]:
        if not again.running and again.next_move().key is None:
            assert again.start(key) is not None
        elif not again.running:
            again.promote()
        again.report(key, epoch, score(again.trials[key].config, epoch))
    assert again.next_move() == first.next_move()
    expected = undisturbed[len(undisturbed) - len(resumed) :]
    assert [decision for decision, _ in resumed] == [decision for decision, _ in expected]
    assert all(theirs in (None, ours) for (_, theirs), (_, ours) in zip(resumed, expected, strict=True))
    # It is fitted once the model is asked, which one move in ten does not.
    assert sum(theta is not None for _, theta in resumed) >= sum(theta is not None for _, theta in expected) - 3


WARM = [
    Earlier(f"old/{number}", {"lr": lr}, {epoch: score({"lr": lr}, epoch) for epoch in (1, 2, 4, 8)}, compares=True)
    for number, lr in enumerate([1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1])
]


def starts_near(policy: FreezeThaw) -> float:
    """Mean distance of the first four proposals from the best learning rate, in decades."""
    engine = Engine(policy, (2, 4, 8))
    distances = [abs(math.log10(engine.start(str(number))["lr"]) + 3) for number in range(4)]
    return sum(distances) / len(distances)


@pytest.mark.parametrize("compares", [True, False])
def test_a_warm_start_proposes_where_earlier_searches_found_the_best(compares):
    earlier = [trial._replace(compares=compares) for trial in WARM]
    cold = FreezeThaw(SPACE, (2, 4, 8), seed=3)
    warm = FreezeThaw(SPACE, (2, 4, 8), seed=3, earlier=earlier)
    assert starts_near(warm) < 0.6 < starts_near(cold)


def test_other_images_are_told_apart_and_forgotten_when_they_mislead(simulate):
    def upside_down(config, epoch):
        return 1 - score(config, max(2, epoch))

    earlier = [
        trial._replace(compares=False, curve={epoch: upside_down(trial.config, epoch) for epoch in trial.curve})
        for trial in WARM
    ]
    engine = Engine(FreezeThaw(SPACE, (2, 4, 8), seed=0, earlier=earlier), (2, 4, 8), steps=150)
    simulate(engine, 2, score)
    assert max(trial.curve.get(8, 0) for trial in engine.trials.values()) > 0.9


TWO = Space(
    name="two",
    dimensions=(
        Choice(name="arch", values=("cheap", "dear")),
        Float(name="lr", low=1e-5, high=1e-1, log=True, start=1e-5),
    ),
)


def epochs_of_the_dear_one(simulate, seed: int, by_time: bool) -> int:
    """Of 60, if an epoch of one architecture takes twenty times as long and scores as high."""
    engine = Engine(FreezeThaw(TWO, (2, 4, 8), seed, cost=StepCost(None, 8, measured=by_time)), (2, 4, 8), steps=60)
    report = engine.report

    def report_with_seconds(key, epoch, value):
        return report(key, epoch, value, {"cheap": 1.0, "dear": 20.0}[engine.trials[key].config["arch"]])

    engine.report = report_with_seconds
    simulate(engine, 1, score)
    return sum(trial.steps for trial in engine.trials.values() if trial.config["arch"] == "dear")


def test_with_a_time_budget_the_cheaper_of_two_equals_is_taken(simulate):
    by_gain, by_time = (
        sum(epochs_of_the_dear_one(simulate, seed, by_time) for seed in range(3)) for by_time in (False, True)
    )
    assert by_time < by_gain / 2
