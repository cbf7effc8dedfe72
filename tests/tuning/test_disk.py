"""What a search says of the disk before it starts."""

from pathlib import Path

import pytest

from search_spaces import get_space
from trainable.errors import UserError
from tuning.disk import check_disk, expected_need
from tuning.plan import Precautions

ANY = Precautions(free_bytes=0)


def test_a_search_that_does_not_fit_the_disk_is_refused_before_it_starts(make_plan, tmp_path):
    plan = make_plan(output=tmp_path / "runs")
    with pytest.raises(UserError, match=r"--output .*runs: .* are free, but the checkpoints of 2 running trials"):
        check_disk(plan, 2, Precautions(free_bytes=10**18))
    assert "that are free" in check_disk(plan, 1, ANY)
    assert not plan.output.exists()


def test_a_place_that_is_no_disk_is_left_to_whoever_writes_there(make_plan):
    assert check_disk(make_plan(output=Path("/proc/none")), 1, ANY)


def test_checkpoints_that_go_elsewhere_need_no_room_here(make_plan, tmp_path):
    plan = make_plan(output=tmp_path / "runs", storage="s3://bucket/runs", trials=3)
    said = check_disk(plan, 10**9, ANY)
    assert said.startswith("checkpoints go to s3://bucket/runs; the weights of the 3 best, about ")
    assert "come here at the end" in said
    with pytest.raises(UserError, match=r"--output .*runs: .* are free, less than --min-free"):
        check_disk(plan, 1, Precautions(free_bytes=10**18))


def test_on_a_shared_folder_the_room_is_that_folders(make_plan, tmp_path):
    plan = make_plan(output=Path("/proc/none"), storage=str(tmp_path / "shared"))
    with pytest.raises(UserError, match=r"--storage .*shared: .* are free, but the checkpoints of 2 running trials"):
        check_disk(plan, 2, Precautions(free_bytes=10**18))


def test_the_need_follows_the_largest_architecture_the_slots_and_the_limit(make_plan):
    small, large = (make_plan(space=get_space(name), trials=2) for name in ("swin", "all"))
    assert expected_need(small, 1, ANY).running < expected_need(large, 1, ANY).running
    assert expected_need(small, 3, ANY).running == 3 * expected_need(small, 1, ANY).running
    assert expected_need(small, 1, ANY).others == expected_need(small, 1, ANY).running
    endless = make_plan(trials=None, time_budget_s=60)
    assert expected_need(endless, 1, Precautions(most_bytes=7)).others == 7
