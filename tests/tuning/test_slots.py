"""Which slot a trial gets, and what becomes of those whose node left; the same on real nodes is in test_cluster."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.experiment import Trial

from tuning.resources import Node, Rule, SlotKind, slot_kinds
from tuning.slots import Places, count_text, request, take_back

LARGE = SlotKind(2, 0.25, "accelerator_type:A100", 4)
SMALL = SlotKind(4, 1, "accelerator_type:T4", 1)
ANY = SlotKind(1, 0, None, 2)

kinds = st.lists(
    st.builds(SlotKind, cpus=st.just(1), gpus=st.just(0.5), pin=st.sampled_from("abcd"), places=st.integers(0, 4)),
    min_size=1,
    max_size=4,
    unique_by=lambda kind: kind.pin,
)


@pytest.fixture
def running() -> set[str]:
    """The trials that run."""
    return set()


@pytest.fixture
def places(running) -> Places:
    return Places([LARGE, SMALL], running.__contains__)


@given(kinds=kinds, moves=st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=60))
def test_no_kind_has_more_trials_than_places_while_nodes_stay(kinds, moves):
    running: set[str] = set()
    places = Places(kinds, running.__contains__)
    most = sum(kind.places for kind in kinds)
    for starts, number in moves:
        if starts and len(running) < most and str(number) not in running:
            places.take(str(number))
            running.add(str(number))
        elif not starts:
            running.discard(str(number))
        assert min(places.free().values()) >= 0
        assert sum(places.free().values()) == most - len(running)
        assert not any(places.is_lost(key) for key in running)


def test_a_trial_that_pauses_leaves_its_place_to_the_next(places, running):
    for key in "abcde":
        running.add(key)
        places.take(key)
    assert [places.held[key] for key in "abcde"] == [LARGE] * 4 + [SMALL]
    running.remove("c")
    running.add("f")
    assert places.take("f") == LARGE


def test_a_trial_that_waits_for_a_node_that_left_is_lost(places, running):
    running.update("abcde")
    for key in "abcde":
        places.take(key)
    places.kinds = [LARGE]
    assert [places.is_lost(key) for key in "abcde"] == [False] * 4 + [True]
    assert not places.is_lost("z"), "it has no place at all"


def test_trials_of_the_only_type_of_gpu_are_counted_there_when_another_joins(running):
    a100, t4 = Node("10.0.0.2", 8, 2, "A100"), Node("10.0.0.3", 4, 1, "T4")
    places = Places(slot_kinds([a100], Rule(0.5)), running.__contains__)
    running.update("abcd")
    for key in "abcd":
        places.take(key)
    places.kinds = slot_kinds([a100, t4], Rule(0.5))
    assert places.free() == {a100.pin: 0, t4.pin: 2}
    assert not any(places.is_lost(key) for key in "abcd")


def test_a_trial_that_began_when_no_node_had_a_pin_is_counted_where_it_runs(running):
    places = Places([ANY._replace(places=0)], running.__contains__)
    running.add("a")
    places.take("a")
    places.kinds = [LARGE, SMALL]
    assert places.is_lost("a"), "if it still waits"
    places.runs_on("a", SMALL.pin)
    places.runs_on("a", LARGE.pin)
    places.runs_on("z", SMALL.pin)
    assert places.free() == {LARGE.pin: 4, SMALL.pin: 0}
    running.add("b")
    places.take("b")
    places.runs_on("b", SMALL.pin)
    assert places.held["b"] == LARGE, "it asked for its place by its pin"


def test_no_trial_is_put_on_a_node_that_is_unfit(places, running):
    places.unfit = frozenset({"2", "1"})
    running.add("a")
    assert places.request("a") == request(LARGE, {"1", "2"})
    assert places.request("a") != request(LARGE)


def test_a_trial_waits_where_no_kind_has_a_place_and_goes_elsewhere_when_one_has(places, running):
    running.update("abcd")
    for key in "abcd":
        places.take(key)
    places.kinds = [LARGE._replace(places=2), SMALL._replace(places=0)]
    assert not any(places.is_lost(key) for key in "abcd")
    places.kinds = [LARGE._replace(places=2), SMALL]
    assert all(places.is_lost(key) for key in "abcd")


def test_trials_of_one_kind_can_use_each_other_s_processes():
    assert request(LARGE) == request(LARGE._replace(places=9))
    assert request(LARGE) != request(SMALL)
    assert request(ANY).required_resources == {"CPU": 1}


@pytest.mark.parametrize("is_starting", [False, True])
def test_only_a_trial_whose_process_does_not_start_yet_is_taken_back(is_starting):
    trial, failed = Trial("stub", stub=True), []
    controller = SimpleNamespace(
        _trial_to_actor={},
        _staged_trials=[trial],
        _actor_manager=SimpleNamespace(pending_actors=[] if is_starting else [None]),
        _unstage_trial_with_resources=lambda trial: None,
        _process_trial_failure=lambda trial, exception: failed.append(str(exception)),
    )
    take_back(controller, trial)
    assert failed == ([] if is_starting else ["its node has died, or is full, before it began there"])


def test_nodes_are_counted_in_words():
    assert [count_text(set(ids)) for ids in ("a", "ab")] == ["a node", "2 nodes"]
