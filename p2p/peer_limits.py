"""What a peer may cost: named bounds, and buckets of tokens for what has a rate. Pure: time is an argument, in seconds.

Each bound says what happens when it is reached. None of them is part of a protocol: other nodes may choose others.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

CONNECT_TIMEOUT_S: Final = 3.0
"""From a dial to the other side's word that it accepts. TCP asks again after one second, and then only after two, four
and so on: a dial that went on would find out seconds later than a new one that a cut network is whole again."""
HANDSHAKE_TIMEOUT_S: Final = 8.0
"""From a connection's first byte to a multiplexer; beyond, the connection is closed."""
WRITE_TIMEOUT_S: Final = 8.0
"""How long one piece of at most 64 KB may wait for a peer that does not read; then its socket is closed."""
STALL_TIMEOUT_S: Final = 8.0
"""How long a stream may wait for its peer to read; then the stream is reset."""
NEGOTIATE_TIMEOUT_S: Final = 8.0
"""How long two sides may take to agree on a new stream's protocol; then the stream is reset."""
PING_INTERVAL_S: Final = 3.0
"""A connection is probed this often."""
MAX_MISSED_PINGS: Final = 2
"""Probes in sequence without an answer, or anything else, after which the connection is closed."""

HANDSHAKE_BURST: Final = 100.0
"""Handshakes of one IP address that may come at once: of all nodes of a development network, after a restart."""
MAX_NEGOTIATION_BYTES: Final = 1024
"""One message of the protocol negotiation; a longer one ends the connection or stream. Names here are below 100."""
MAX_STREAM_WINDOW: Final = 1 << 20
"""Bytes that a peer may send on one stream before we read; it begins at 256 KiB, as yamux says, and grows to this."""
MAX_UNREAD_BYTES: Final = 16 << 20
"""Of all streams of a connection together; beyond, the connection is closed."""
MAX_OUTGOING_BYTES: Final = 64 << 10
"""That wait for the socket; further writers wait. Small, since a vote waits behind them."""
MAX_OUTBOUND_STREAMS: Final = 128
"""On one connection; opening another fails at once."""


@dataclass(frozen=True, slots=True)
class HostLimits:
    """The bounds that an operator may set. Whoever comes when one is reached is closed without a word."""

    inbound: int = 96
    """Connections that others dialled; a needed peer takes the place of one that is not."""
    outbound: int = 96
    """Connections that this node dialled; further dials fail."""
    inbound_each_ip: int = 32
    """A development network runs dozens of nodes on one machine. An IPv6 /64 network counts as one address."""
    handshakes: int = 64
    """Inbound connections that are not authenticated yet; a new one closes the oldest, which has had its time."""
    handshakes_each_ip: int = 32
    """Likewise, of one IP address."""
    handshakes_a_second_each_ip: float = 20.0
    """Each costs milliseconds of cryptography. Beyond, after a hundred at once, they wait for their turn."""
    streams_each_peer: int = 32
    """Streams that a peer may hold open to us; a further one is reset."""


@dataclass(slots=True)
class TokenBucket:
    """At most `burst` tokens at once and `rate` a second in the long run."""

    rate: float
    burst: float
    tokens: float = field(init=False)
    updated: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.tokens = self.burst

    def take(self, count: float, now: float) -> bool:
        """Take the tokens if they are there."""
        self._refill(now)
        if self.tokens < count:
            return False
        self.tokens -= count
        return True

    def borrow(self, count: float, now: float) -> float:
        """Take them in any case; the seconds until the bucket is out of debt."""
        self._refill(now)
        self.tokens -= count
        return max(0.0, -self.tokens / self.rate)

    def _refill(self, now: float) -> None:
        if now > self.updated:
            self.tokens = min(self.burst, self.tokens + (now - self.updated) * self.rate)
            self.updated = now


Key = TypeVar("Key", bound=Hashable)


class PeerBuckets(Generic[Key]):
    """A bucket for each peer (or peer and purpose) that asked lately.

    Reconnecting does not fill it. Where more than MAX_BUCKETS are remembered, the one unused longest is forgotten: it
    is the fullest, unless thousands of peers ask at once.
    """

    MAX_BUCKETS: Final = 4096

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: dict[Key, TokenBucket] = {}

    def take(self, key: Key, count: float, now: float) -> bool:
        return self._bucket(key, now).take(count, now)

    def borrow(self, key: Key, count: float, now: float) -> float:
        return self._bucket(key, now).borrow(count, now)

    def __len__(self) -> int:
        return len(self._buckets)

    def _bucket(self, key: Key, now: float) -> TokenBucket:
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            bucket = TokenBucket(self._rate, self._burst)
            bucket.updated = now
            if len(self._buckets) >= self.MAX_BUCKETS:
                del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = bucket
        return bucket
