"""The command: what it shows, and what it refuses."""

from pathlib import Path

import pytest

from analysis.select import main, make_wanted
from trainable.errors import UsageError, UserError


def test_it_shows_the_front_and_what_was_tried_and_exports_nothing(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(experiment.rglob("*"))
    main(experiment, members=3, pick="best", device="cpu")
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[0].split()) == "select top-1 log loss out of bag parameters ms an image members"
    chosen = [line for line in lines if line.startswith("->")]
    assert len(chosen) == 1
    assert "000" in chosen[0]
    assert [line.split(maxsplit=1)[0] for line in lines[-3:]] == ["tried", "tried", "export"]
    assert lines[-1] == f"export   python -m analysis.export {experiment}"
    assert sorted(experiment.rglob("*")) == before


def test_a_limit_is_kept_and_one_below_all_trials_names_the_smallest(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(experiment, max_params=400_000, extras=False, device="cpu")
    table = [line for line in capsys.readouterr().out.splitlines() if "%" in line]
    assert all(int(next(word for word in line.split() if "," in word).replace(",", "")) <= 400_000 for line in table)
    with pytest.raises(UserError, match=r"no trial is within .* the smallest, 000\d-test_\w+, has [\d,]+ parameters"):
        main(experiment, max_params=10, extras=False, device="cpu")


@pytest.mark.parametrize(
    ("limits", "message"),
    [((0.0, None), "--max-params 0: must be above 0"), ((None, -1.0), "--max-latency-ms -1: must be above 0")],
)
def test_a_limit_that_nothing_can_keep_is_a_usage_error(limits: tuple, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_wanted(5, "log-loss", "knee", *limits, extras=True)
