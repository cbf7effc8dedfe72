"""The plan: rungs, limits, durations, names, and what largest configurations are."""

from datetime import datetime

import pytest
from pydantic import ValidationError

from search_spaces import get_space, narrow
from trainable.errors import UsageError
from trainable.sizes import parse_size, size_text
from tuning.first import published_configurations
from tuning.plan import (
    Precautions,
    SearchPlan,
    architectures_of,
    check_name,
    clock,
    default_name,
    largest_configurations,
    usual_first_rung,
)


def test_rungs_grow_by_the_reduction_factor_up_to_the_full_length(make_plan):
    assert make_plan(epochs=30).rungs == [1, 2, 4, 8, 16, 30]
    assert make_plan(epochs=27, reduction_factor=3, first_rung=3).rungs == [3, 9, 27]
    assert make_plan(epochs=1).rungs == [1]


def test_the_first_rung_of_a_long_training_is_its_second_epoch():
    assert [usual_first_rung(epochs) for epochs in (1, 4, 9, 10, 300)] == [1, 1, 1, 2, 2]


def test_freeze_thaw_gets_the_epochs_that_halving_would_spend_on_its_trials(make_plan):
    assert make_plan().step_limit == 8 * 1 + 4 * 1 + 2 * 2
    assert make_plan(epoch_budget=30).step_limit == 30
    assert make_plan(trials=None, time_budget_s=60).step_limit is None
    assert make_plan(scheduler="asha").step_limit is None


def test_only_successive_halving_and_freeze_thaw_have_rungs(make_plan):
    assert make_plan(scheduler="asha").rungs == make_plan(scheduler="asha-stop").rungs == make_plan().rungs
    assert make_plan(scheduler="none").rungs == []
    assert make_plan(scheduler="median").rungs == []


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("500MB", 500e6), ("2GB", 2e9), ("2 GiB", 2e9), ("1.5tb", 1.5e12), ("10k", 10_000), ("7", 7), ("7B", 7)],
)
def test_sizes_are_read(text, size):
    assert parse_size(text, "--max-size") == size


@pytest.mark.parametrize("text", ["", "much", "-1GB", "2PB", "GB"])
def test_sizes_that_cannot_be_meant_are_refused(text):
    with pytest.raises(UsageError, match=r"--min-free .*: give a size such as 500MB"):
        parse_size(text, "--min-free")


def test_sizes_are_written_in_the_largest_unit_of_which_there_is_one():
    assert [size_text(size) for size in (0, 999, 1000, 2.5e9, 3e12)] == [
        "0 bytes",
        "999 bytes",
        "1 kB",
        "2.5 GB",
        "3 TB",
    ]


def test_a_search_that_may_take_any_size_has_no_limit():
    assert Precautions(most_bytes=0).limits(10).most_bytes > 10**18
    assert Precautions(free_bytes=5, most_bytes=7).limits(10) == (10, 7, 5)


@pytest.mark.parametrize("name", ["../up", "a b", "", ".hidden", "x" * 101, "a/b"])
def test_names_that_are_no_plain_folder_names_are_refused(name):
    with pytest.raises(UsageError, match="--name"):
        check_name(name)


def test_the_default_name_says_space_and_time_and_is_not_taken(tmp_path):
    now = datetime(2026, 11, 24, 18, 30)
    assert check_name(default_name("swin", now, tmp_path)) == "swin-20261124-183000"
    (tmp_path / "swin-20261124-183000").mkdir()
    assert default_name("swin", now, tmp_path) == "swin-20261124-183000-2"


def test_a_plan_survives_its_own_json(make_plan):
    space = narrow(get_space("all"), ["lr=1e-4:1e-3"])
    plan = make_plan(space=space, first=published_configurations(space))
    assert SearchPlan.model_validate_json(plan.model_dump_json()) == plan


@pytest.mark.parametrize(
    "wrong", [{"trials": 0}, {"epochs": 0}, {"epoch_budget": 0}, {"time_budget_s": 0}, {"reduction_factor": 1}]
)
def test_a_plan_that_cannot_run_is_refused(make_plan, wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        make_plan(**wrong)


def test_memory_is_measured_at_the_largest_batch_of_each_architecture(make_plan):
    plan = make_plan(space=get_space("vit"))
    assert [(c["arch"], c["batch_size"]) for c in largest_configurations(plan)] == [
        ("vit_small", 256),
        ("deit_small", 256),
    ]


def test_a_fixed_architecture_is_the_only_one():
    assert architectures_of(narrow(get_space("all"), ["arch=resnet18"])) == ["resnet18"]


def test_clock():
    assert [clock(seconds) for seconds in (0, 61, 3723)] == ["00:00", "01:01", "1:02:03"]
