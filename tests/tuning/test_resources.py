"""How trials share cores and GPUs; nvidia-smi is played by a script, since there is no GPU here."""

import os

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trainable.errors import UsageError
from tuning.resources import (
    Node,
    Rule,
    SlotKind,
    Slots,
    cores_for_at_most,
    find_gpus,
    find_hardware,
    gpu_fraction,
    parse_gpus_per_trial,
    places_on,
    plan_slots,
    share_nodes,
    slots_now,
)

A100 = Node("10.0.0.2", cpus=8, gpus=2, gpu_type="A100", memory_bytes=64 * 2**30)
T4 = Node("10.0.0.3", cpus=4, gpus=1, gpu_type="T4")
NO_GPU = Node("10.0.0.4", cpus=6)
MEASURED = {A100.pin: 0.25, T4.pin: 1.0}

nodes = st.lists(
    st.builds(
        Node,
        address=st.integers(1, 99).map("10.0.0.{}".format),
        cpus=st.integers(0, 64),
        gpus=st.integers(0, 8),
        gpu_type=st.sampled_from(["A100", "T4", None]),
        memory_bytes=st.just(0.0),
        id=st.just(""),
    ).map(lambda node: node if node.gpus else node._replace(gpu_type=None)),
    min_size=1,
    max_size=6,
    unique_by=lambda node: node.address,
)
shares = st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 1.0])
rules = st.builds(
    Rule,
    gpus_per_trial=st.one_of(st.none(), st.just(0.0), shares, st.just(2.0)),
    cpus_per_trial=st.one_of(st.none(), st.sampled_from([0.5, 1, 2, 4])),
    concurrent=st.none(),
    most=st.one_of(st.none(), st.integers(1, 40)),
    cpu_trials=st.booleans(),
    alike=st.booleans(),
    measured=st.dictionaries(st.sampled_from([A100.pin, T4.pin]), shares),
)


def test_on_cpus_each_core_is_a_slot():
    slots = plan_slots(cpus=2, gpus=0, cpus_per_trial=None, gpus_per_trial=0, concurrent=None)
    assert (slots.concurrent, slots.cpus_per_trial) == (2, 1)


def test_gpus_set_the_slots_and_cores_are_divided_among_them():
    slots = plan_slots(cpus=16, gpus=2, cpus_per_trial=None, gpus_per_trial=0.25, concurrent=None)
    assert (slots.concurrent, slots.cpus_per_trial) == (8, 2)
    assert "GPUs" in slots.reason


def test_few_cores_limit_the_slots_of_a_gpu():
    slots = plan_slots(cpus=4, gpus=1, cpus_per_trial=2, gpus_per_trial=0.1, concurrent=None)
    assert slots.concurrent == 2
    assert "cores" in slots.reason


@given(
    cpus=st.integers(1, 128),
    gpus=st.integers(0, 8),
    share=st.sampled_from([0, 0.1, 0.2, 0.25, 1 / 3, 0.5, 1, 2]),
    cpus_per_trial=st.one_of(st.none(), st.sampled_from([0.5, 1, 2, 4])),
)
def test_slots_never_take_more_than_there_is(cpus, gpus, share, cpus_per_trial):
    assume(share <= gpus)
    assume(cpus_per_trial is None or cpus_per_trial <= cpus)
    slots = plan_slots(cpus, gpus, cpus_per_trial, share, concurrent=None)
    assert slots.concurrent >= 1
    assert slots.concurrent * slots.cpus_per_trial <= cpus + 1e-9
    assert slots.concurrent * slots.gpus_per_trial <= gpus + 1e-9


@given(peak=st.integers(1, 2**40), total=st.integers(2**30, 2**38))
def test_a_fraction_is_one_nth_and_holds_the_peak_with_a_margin(peak, total):
    fraction = gpu_fraction(peak, total)
    assert 1 / fraction == pytest.approx(round(1 / fraction))
    assert fraction == 1 or fraction * total >= 1.15 * peak * (1 - 1e-9)


def test_a_gpu_that_is_not_there_is_an_error():
    with pytest.raises(UsageError, match=r"--gpus-per-trial 1: there is no GPU here"):
        plan_slots(2, 0, None, 1, None)


@pytest.mark.parametrize("cores", [0, -1, 3])
def test_cores_that_are_not_there_are_an_error(cores):
    with pytest.raises(UsageError, match=r"--cpus-per-trial .* at most the 2"):
        plan_slots(2, 0, cores, 0, None)


def test_more_trials_at_once_than_fit_are_an_error():
    with pytest.raises(UsageError, match="only 2 trials fit at once"):
        plan_slots(2, 0, None, 0, 3)


@pytest.mark.parametrize(("text", "gpus"), [("auto", None), ("0", 0), ("0.25", 0.25), ("2", 2)])
def test_shares_of_gpus_are_read(text, gpus):
    assert parse_gpus_per_trial(text) == gpus


@pytest.mark.parametrize("text", ["half", "-1", "nan", "inf", "1.5"])
def test_shares_that_ray_cannot_give_are_refused(text):
    with pytest.raises(UsageError, match="--gpus-per-trial"):
        parse_gpus_per_trial(text)


def has_room(node: Node, kind: SlotKind) -> bool:
    return kind.pin in (None, node.pin) and (node.gpus >= 1 or not kind.gpus)


@given(nodes=nodes, rule=rules)
def test_no_node_is_asked_for_more_than_it_has(nodes, rule):
    slots = slots_now(nodes, rule)
    assert 1 <= slots.concurrent <= max(1, sum(kind.places for kind in slots.kinds))
    assert rule.most is None or slots.concurrent <= rule.most
    for kind in slots.kinds:
        places = [places_on(node, kind.cpus, kind.gpus) for node in nodes if has_room(node, kind)]
        assert kind.places <= sum(places)
        for node, count in zip((node for node in nodes if has_room(node, kind)), places, strict=True):
            assert count * kind.cpus <= node.cpus + 1e-9
            assert count * kind.gpus <= node.gpus + 1e-9


@given(nodes=nodes, rule=rules)
def test_a_node_has_one_kind_of_slot(nodes, rule):
    kinds = slots_now(nodes, rule).kinds
    assert len({kind.pin for kind in kinds}) == len(kinds)
    assert len(kinds) == 1 or None not in {kind.pin for kind in kinds}


@given(node=nodes.map(lambda nodes: nodes[0]), count=st.integers(1, 5), rule=rules)
def test_nodes_that_are_alike_have_one_kind_of_slot(node, count, rule):
    assume(node.gpu_type or not node.gpus)
    copies = [node._replace(address=f"10.0.0.{number}") for number in range(count)]
    (kind,) = slots_now(copies, rule).kinds
    assert kind.pin in (None, node.pin)
    assert kind.places == count * places_on(node, kind.cpus, kind.gpus) or not kind.places


@given(gpus=st.sampled_from([None, 0.25, 1.0]), share=shares)
def test_slots_of_a_gpu_keep_their_pin_when_another_type_joins(gpus, share):
    rule = Rule(gpus, measured={A100.pin: share, T4.pin: share})
    alone, both = (slots_now(nodes, rule).kinds for nodes in ([A100], [A100, T4]))
    assert alone == both[:1]
    assert [kind.pin for kind in both] == [A100.pin, T4.pin]


def test_slots_of_one_size_are_told_together_whatever_their_gpus():
    assert share_nodes([A100, T4._replace(cpus=8, gpus=2)], Rule(0.5)).reason == "4 GPUs / 0.5 a trial"


@given(nodes=nodes, rule=rules)
def test_ray_s_own_schedulers_get_one_share_that_each_gpu_can_give(nodes, rule):
    (kind,) = slots_now(nodes, rule._replace(alike=True)).kinds
    assert kind.pin is None
    if rule.gpus_per_trial is None and kind.places and kind.gpus:
        assert kind.gpus == max(rule.measured.get(node.pin, 0) for node in nodes if node.gpus)


def test_each_type_of_gpu_has_its_own_share():
    slots = share_nodes([A100, T4, NO_GPU], Rule(measured=MEASURED))
    assert slots.kinds == (SlotKind(1, 0.25, A100.pin, 8), SlotKind(4, 1, T4.pin, 1))
    assert (slots.concurrent, slots.reason) == (9, "A100: 8 of 0.25 GPU and 1 cores; T4: 1 of 1 GPU and 4 cores")
    assert slots.kinds[0].resources == {"CPU": 1, "GPU": 0.25, "accelerator_type:A100": 0.001}


def test_nodes_without_a_gpu_take_trials_where_that_is_asked_for():
    kinds = share_nodes([A100, NO_GPU], Rule(measured=MEASURED, cpu_trials=True)).kinds
    assert kinds[1] == SlotKind(1, 0, "node:10.0.0.4", 6)
    assert share_nodes([NO_GPU], Rule()).kinds == (SlotKind(1, 0, None, 6),)


def test_a_gpu_that_was_not_measured_yet_waits():
    assert share_nodes([A100, T4], Rule(measured={A100.pin: 0.5})).concurrent == 4


def test_the_cores_of_several_nodes_do_not_add_up_to_one_trial_s():
    few = [NO_GPU._replace(cpus=2), NO_GPU._replace(cpus=2, address="10.0.0.5")]
    with pytest.raises(
        UsageError, match=r"--cpus-per-trial 4: .* at most the 2 of one node; .* 10\.0\.0\.4: no GPU, 2 cores"
    ):
        share_nodes(few, Rule(cpus_per_trial=4))
    assert share_nodes(few, Rule(cpus_per_trial=2)).concurrent == 2


def test_a_share_that_no_node_can_give_names_what_each_offers():
    with pytest.raises(
        UsageError, match=r"--gpus-per-trial 4: nodes offer: 10\.0\.0\.2: 2 GPUs \(A100\), 8 cores, 64 GiB; .*T4"
    ):
        share_nodes([A100, T4], Rule(gpus_per_trial=4))
    with pytest.raises(UsageError, match=r"no node has 0.5 GPU and 6 cores for a trial; nodes offer: .*10\.0\.0\.4"):
        share_nodes([T4, NO_GPU], Rule(gpus_per_trial=0.5, cpus_per_trial=6))


def test_at_most_so_many_trials_may_be_more_than_fit_now():
    slots = share_nodes([T4, NO_GPU], Rule(gpus_per_trial=0.5, most=6))
    assert (slots.concurrent, slots.reason) == (2, "1 GPUs / 0.5 a trial; up to 6 as nodes join")
    slots = share_nodes([A100, T4], Rule(gpus_per_trial=0.5, most=3))
    assert (slots.concurrent, slots.reason) == (3, "as asked")
    waits = share_nodes([NO_GPU], Rule(gpus_per_trial=0.5, most=6))
    assert (waits.concurrent, waits.kinds[0].places) == (1, 0)


@given(cores=st.lists(st.integers(1, 32), min_size=1, max_size=5), concurrent=st.integers(1, 40))
def test_where_ray_s_scheduler_takes_all_that_fits_no_more_fit_than_may_run(cores, concurrent):
    nodes = [Node(f"10.0.0.{number}", cpus) for number, cpus in enumerate(cores)]
    concurrent = min(concurrent, sum(cores))
    cpus = cores_for_at_most(nodes, Slots(concurrent, 1, 0, "as asked"))
    fits = sum(places_on(node, cpus, 0) for node in nodes)
    assert 1 <= fits <= max(concurrent, cores.count(max(cores)))
    assert len(nodes) > 1 or fits == concurrent


def test_the_machine_is_described():
    hardware = find_hardware()
    assert 1 <= hardware.cpus <= (os.cpu_count() or 1)


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\necho 24576\necho 49152\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("two_gpus")
def test_gpus_are_read_from_nvidia_smi():
    assert find_gpus() == (24576 * 2**20, 49152 * 2**20)


@pytest.mark.usefixtures("two_gpus")
def test_hidden_gpus_do_not_count(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert find_gpus() == (24576 * 2**20,)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert find_gpus() == ()
