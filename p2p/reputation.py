"""How peers behave: offences become points, points fade with time, and too many are a ban. Pure: time is an argument.

The points say how sure one can be of bad will: what an honest peer never does costs most, what a slow network also
does costs little. Whoever holds connections carries the ban out; p2p.peer_book remembers it.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from p2p.gossip_events import GossipOffence
from p2p.peer_id import PeerId

BAN_POINTS: Final = 100.0
FADING_A_SECOND: Final = 0.1
"""Points that are forgiven each second: six a minute."""
FIRST_BAN_S: Final = 600.0
MAX_BAN_S: Final = 86_400.0
"""Each further ban of a peer is twice as long, up to this."""
NEEDED_BAN_S: Final = 30.0
"""Of a validator: without it blocks may stop, and what it does wrong there is proven and slashed elsewhere."""
MAX_REMEMBERED: Final = 4096
"""Peers with points or bans; beyond, the one that behaved longest is forgotten."""


class Offence(StrEnum):
    PROTOCOL_VIOLATION = "broke a protocol or ignored a bound"
    LIED = "sent what it could know to be false"
    BAD_ANSWER = "answered with something else than was asked for"
    ANSWER_TOO_LONG = "answered with more than the protocol allows"
    MALFORMED_REQUEST = "asked with bytes that mean nothing"
    REQUEST_FLOOD = "asked more often than a peer may"
    WRONG_CHAIN = "is on another chain"
    HANDLER_FAILED = "sent something that a handler failed at"
    UNRELIABLE = "did not answer in time"


POINTS: Final[dict[Offence | GossipOffence, float]] = {
    Offence.PROTOCOL_VIOLATION: 50,
    Offence.LIED: 100,
    Offence.BAD_ANSWER: 50,
    Offence.ANSWER_TOO_LONG: 50,
    Offence.MALFORMED_REQUEST: 25,
    Offence.REQUEST_FLOOD: 10,
    Offence.WRONG_CHAIN: 100,
    Offence.HANDLER_FAILED: 10,
    Offence.UNRELIABLE: 2,
    GossipOffence.INVALID_MESSAGE: 20,
    GossipOffence.AUTHORED_MESSAGE: 10,
    GossipOffence.OVERSIZED_MESSAGE: 50,
    GossipOffence.UNWANTED_TOPIC: 1,
    GossipOffence.BROKEN_PROMISE: 5,
    GossipOffence.GRAFT_IN_BACKOFF: 5,
    GossipOffence.IHAVE_FLOOD: 10,
    GossipOffence.IWANT_FLOOD: 10,
    GossipOffence.TOPIC_FLOOD: 50,
    GossipOffence.MESSAGE_FLOOD: 25,
    GossipOffence.NOT_READING: 10,
}


@dataclass(frozen=True, slots=True)
class Ban:
    peer: PeerId
    until: float
    reason: str


@dataclass(slots=True)
class _Record:
    points: float = 0.0
    updated: float = 0.0
    bans: int = 0

    def points_at(self, now: float) -> float:
        return max(0.0, self.points - max(0.0, now - self.updated) * FADING_A_SECOND)


@dataclass(slots=True)
class Reputation:
    """Of all peers. Times are seconds of any one clock that only goes forward."""

    _records: dict[PeerId, _Record] = field(default_factory=dict)

    def charge(
        self, peer: PeerId, offence: Offence | GossipOffence, now: float, *, is_needed: bool = False
    ) -> Ban | None:
        """Note an offence; the ban that it leads to, if it does. A validator `is_needed`: its bans are short."""
        record = self._records.pop(peer, None)
        if record is None:
            record = _Record()
            if len(self._records) >= MAX_REMEMBERED:
                del self._records[next(iter(self._records))]
        self._records[peer] = record
        record.points = record.points_at(now) + POINTS[offence]
        record.updated = now
        if record.points < BAN_POINTS:
            return None
        record.points = 0.0
        length_s = NEEDED_BAN_S if is_needed else min(MAX_BAN_S, FIRST_BAN_S * 2.0 ** min(record.bans, 20))
        record.bans += 1
        return Ban(peer, now + length_s, str(offence))

    def points(self, peer: PeerId, now: float) -> float:
        """0 for a peer that has done nothing wrong lately."""
        record = self._records.get(peer)
        return 0.0 if record is None else record.points_at(now)
