from pathlib import Path

import pytest

from search_spaces import get_space
from tuning.overview import pace_line
from tuning.plan import SearchPlan
from tuning.resources import Slots


@pytest.mark.parametrize(
    ("scheduler", "slots", "told"), [("freeze-thaw", 400, True), ("freeze-thaw", 99, False), ("asha", 400, False)]
)
def test_freeze_thaw_says_how_long_epochs_should_be_for_many_slots(scheduler, slots, told) -> None:
    trial = {"data": "x"}
    plan = SearchPlan(
        space=get_space("swin"), trial=trial, trials=9, epochs=9, scheduler=scheduler, name="a", output=Path("runs")
    )
    line = pace_line(plan, Slots(slots, 1, 0, "as asked"))
    assert (line is not None) == told
    if line:
        assert "keeps 400 slots busy where epochs last 80 s or more" in line
