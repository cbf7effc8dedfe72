"""How many requests a client may send, by the library `limits`: a sliding window, a few numbers for each client.

Behind a reverse proxy on this machine the client is who the proxy names in `X-Forwarded-For`.
"""

import ipaddress
import math
import time

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from trainable.errors import UsageError

IPV6_NETWORK = 64
"""A client of IPv6 usually has a network of so many bits to choose its address from; it counts as one client."""


class Rate:
    """Counts the requests of each client in one process."""

    def __init__(self, rate: str) -> None:
        self.rate = rate
        self.item = parse_rate(rate)
        self.limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def wait_s(self, address: str) -> int | None:
        """Count a request from this IP address; None where it may go on, else in how many seconds to come again."""
        key = client_key(address)
        if self.limiter.hit(self.item, key):
            return None
        reset = self.limiter.get_window_stats(self.item, key).reset_time
        return max(1, math.ceil(reset - time.time()))


def parse_rate(rate: str) -> RateLimitItem:
    """The rate that a text like `600/minute` names; UsageError where it names none."""
    try:
        item = parse(rate)
    except ValueError:
        item = None
    if item is None or item.amount < 1:
        raise UsageError(f"--rate {rate}: no rate; give a number per time, such as 600/minute or 5/second, or none")
    return item


def client_key(address: str) -> str:
    """What stands for a client: its address, or the network of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:  # no address at all: a socket file
        return address
    network = IPV6_NETWORK if parsed.version == 6 else parsed.max_prefixlen
    return str(ipaddress.ip_network((parsed, network), strict=False).network_address)
