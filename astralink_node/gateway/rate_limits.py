"""How many requests a second one connection, and one client's address, may make: token buckets.

Pure but for the clock that is passed in. A bucket holds :data:`BURST_S` seconds' worth, so that a page that loads may
ask for much at once. A batch counts its calls; one that is larger than the bucket passes when the bucket is full, and
is paid off before the next. What is refused costs nothing, so that a client that waits as it was told gets in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from astralink_node.errors import AstraLinkError
from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.connections import client_key

BURST_S = 2
MAX_CLIENTS = 16_384
"""Addresses remembered; beyond it whoever connected longest ago is forgotten, and finds a full bucket again."""

Now = Callable[[], float]
"""Seconds of a clock that never goes back."""


class TokenBucket:
    """Filled with so many a second; full at first."""

    __slots__ = ("_at", "_full", "_per_second", "_tokens")

    def __init__(self, per_second: int, now: float) -> None:
        self._per_second = per_second
        self._full = float(max(1, per_second * BURST_S))
        self._tokens = self._full
        self._at = now

    def wait_s(self, count: int, now: float) -> float:
        """Until so many may be taken; 0: now."""
        self._tokens = min(self._full, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        return max(0.0, (min(float(count), self._full) - self._tokens) / self._per_second)

    def take(self, count: int) -> None:
        """After :meth:`wait_s` said 0."""
        self._tokens -= count


class TooManyRequests(AstraLinkError):
    """Beyond the rate; nothing was taken."""

    def __init__(self, per_second: int, whose: str, retry_after_ms: int) -> None:
        super().__init__(f"{per_second} requests a second of one {whose}")
        self.per_second = per_second
        self.whose = whose
        self.retry_after_ms = retry_after_ms


class Allowance:
    """One connection's: its own bucket, and that of its client's address."""

    def __init__(self, limits: GatewayLimits, client: TokenBucket | None, now: Now) -> None:
        self._now = now
        self._buckets: list[tuple[TokenBucket, int, str]] = []
        if limits.requests_per_second:
            own = TokenBucket(limits.requests_per_second, now())
            self._buckets.append((own, limits.requests_per_second, "connection"))
        if client is not None:
            self._buckets.append((client, limits.client_requests_per_second, "address"))

    def take(self, count: int) -> None:
        """Raises TooManyRequests, of the limit that lasts longest."""
        if not self._buckets:
            return
        now = self._now()
        wait_s, per_second, whose = max(
            (bucket.wait_s(count, now), per_second, whose) for bucket, per_second, whose in self._buckets
        )
        if wait_s > 0:
            raise TooManyRequests(per_second, whose, int(1000 * wait_s) + 1)
        for bucket, _, _ in self._buckets:
            bucket.take(count)


class RateLimits:
    """All allowances of one server. A client is what gateway.connections takes for one."""

    def __init__(self, limits: GatewayLimits, now: Now) -> None:
        self._limits = limits
        self._now = now
        self._clients: OrderedDict[str, TokenBucket] = OrderedDict()
        """By client, the one that connected last at the end. Reconnecting does not fill a bucket."""

    def connection_from(self, address: str) -> Allowance:
        return Allowance(self._limits, self._client(address), self._now)

    def _client(self, address: str) -> TokenBucket | None:
        if not self._limits.client_requests_per_second:
            return None
        key = client_key(address)
        bucket = self._clients.get(key)
        if bucket is None:
            bucket = self._clients[key] = TokenBucket(self._limits.client_requests_per_second, self._now())
        self._clients.move_to_end(key)
        if len(self._clients) > MAX_CLIENTS:
            self._clients.popitem(last=False)
        return bucket
