"""Time to equal accuracy, from made-up curves."""

import pytest

from benchmarks.accuracy_kept import Curve, mean_curve, row, standard_error, time_ratio, time_to


def test_an_accuracy_is_reached_on_the_line_between_two_epochs() -> None:
    curve = Curve([10.0, 20.0, 30.0], [0.2, 0.4, 0.3])
    assert time_to(0.1, curve) == pytest.approx(5.0)
    assert time_to(0.4, curve) == pytest.approx(20.0)
    assert time_to(0.3, curve) == pytest.approx(15.0)
    assert time_to(0.41, curve) is None
    assert time_to(0.0, Curve([10.0], [0.0])) == 10.0


def test_curves_are_compared_by_their_means() -> None:
    plain = [Curve([10.0, 20.0], [0.2, 0.4]), Curve([20.0, 40.0], [0.4, 0.6])]
    assert mean_curve(plain) == Curve([15.0, 30.0], [pytest.approx(0.3), 0.5])
    assert time_ratio(plain, plain) == 1
    assert time_ratio([Curve([6.0, 12.0], [0.4, 0.6])], plain) == pytest.approx(9 / 30)
    assert time_ratio([Curve([6.0, 12.0], [0.4, 0.49])], plain) is None


def test_a_line_of_the_table_has_the_standard_error_over_the_seeds() -> None:
    plain = [Curve([10.0], [0.4]), Curve([10.0], [0.5]), Curve([10.0], [0.6])]
    assert standard_error([0.4, 0.5, 0.6]) == pytest.approx(0.1 / 3**0.5)
    assert row("plain", plain, plain)["top-1 on holdout"] == "50.00% ± 5.77%"
    assert row("other", [Curve([1.0], [0.1])] * 2, plain)["time to plain's accuracy ÷ plain's"] == "not reached"
