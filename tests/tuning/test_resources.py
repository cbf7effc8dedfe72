"""How trials share cores and GPUs; nvidia-smi is played by a script, since there is no GPU here."""

import os

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trainable.errors import UsageError
from tuning.resources import find_gpus, find_hardware, gpu_fraction, parse_gpus_per_trial, plan_slots


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
