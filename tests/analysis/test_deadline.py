"""When an export has to end, and what it says of its time."""

import math
import time

import pytest

from analysis.deadline import CAUTION, Deadline


def begun(ago: float, seconds: float) -> Deadline:
    return Deadline(seconds, started=time.monotonic() - ago)


def test_what_fits_is_what_is_left_with_some_caution() -> None:
    deadline = begun(ago=40, seconds=140)
    assert deadline.left() == pytest.approx(100, abs=1)
    assert deadline.spent() == pytest.approx(40, abs=1)
    assert deadline.fits(95 / CAUTION)
    assert not deadline.fits(105 / CAUTION)
    assert not begun(ago=2, seconds=1).fits(0)


def test_without_a_limit_everything_fits() -> None:
    deadline = Deadline()
    assert deadline.fits(math.inf)
    assert not deadline.is_limited
    assert begun(ago=0, seconds=1).is_limited


def test_parts_of_the_same_name_are_added_up_and_one_that_fails_counts() -> None:
    deadline = Deadline()
    for _ in range(2):
        with deadline.part("views"):
            time.sleep(0.02)
    with pytest.raises(ValueError, match="broken"), deadline.part("holdout"):
        raise ValueError("broken")
    assert list(deadline.parts) == ["views", "holdout"]
    assert deadline.parts["views"] >= 0.04
    assert deadline.parts["holdout"] >= 0


def test_each_deadline_has_parts_of_its_own() -> None:
    with Deadline().part("views"):
        pass
    assert Deadline().parts == {}


def test_the_summary_names_each_part_and_the_rest() -> None:
    deadline = Deadline(90, time.monotonic() - 12.3, {"votes": 3.1, "holdout": 4.2})
    assert deadline.summary() == "12.3 s of 90 s: votes 3.1, holdout 4.2, rest 5.0"
    assert Deadline(started=time.monotonic() - 2, parts={"votes": 2.5}).summary() == "2.0 s: votes 2.5, rest 0.0"
