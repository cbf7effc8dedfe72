"""The rate of requests of one client."""

import pytest

from analysis.serving.limits import Rate, client_key, parse_rate
from trainable.errors import UsageError


def test_each_client_has_its_own_count() -> None:
    rate = Rate("2/hour")
    assert [rate.wait_s("10.0.0.1") for _ in range(2)] == [None, None]
    wait = rate.wait_s("10.0.0.1")
    assert wait is not None
    assert 1 <= wait <= 3600
    assert rate.wait_s("10.0.0.2") is None


def test_addresses_of_one_ipv6_network_are_one_client() -> None:
    assert client_key("2001:db8::1") == client_key("2001:db8::ffff:2") == "2001:db8::"
    assert client_key("2001:db8:0:1::1") != client_key("2001:db8::1")
    assert client_key("10.0.0.1") != client_key("10.0.0.2")
    assert client_key("") == ""


@pytest.mark.parametrize("rate", ["", "fast", "0/minute", "-1/minute", "5/fortnight", "1.5/second", "10"])
def test_what_is_no_rate_is_refused(rate: str) -> None:
    with pytest.raises(UsageError, match=r"--rate .*: no rate; give a number per time"):
        parse_rate(rate)
