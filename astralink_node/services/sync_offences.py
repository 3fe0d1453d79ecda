"""What a peer can do wrong while it helps others to catch up, and what that says of it."""

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from p2p.peer_id import PeerId
from p2p.reputation import Offence


class SyncOffence(StrEnum):
    MALFORMED = "an answer that does not decode"
    OTHER_HEIGHTS = "blocks of other heights than were asked for"
    WRONG_BLOCK = "a block that does not follow from the one before, or whose header is of another body"
    WRONG_CERTIFICATE = "a certificate that does not make its block final"
    WRONG_CHUNK = "a chunk that the state root does not commit to"
    WRONG_MANIFEST = "a manifest whose block does not commit to it, or that nobody should believe"
    WRONG_LIGHT_BLOCK = "a light block that does not hold"
    NOT_THERE = "it said to have what it did not give"
    TOO_SLOW = "no answer in time"


SAYS: Final[dict[SyncOffence, Offence]] = {
    SyncOffence.MALFORMED: Offence.BAD_ANSWER,
    SyncOffence.OTHER_HEIGHTS: Offence.BAD_ANSWER,
    SyncOffence.WRONG_BLOCK: Offence.LIED,
    SyncOffence.WRONG_CERTIFICATE: Offence.LIED,
    SyncOffence.WRONG_CHUNK: Offence.LIED,
    SyncOffence.WRONG_MANIFEST: Offence.LIED,
    SyncOffence.WRONG_LIGHT_BLOCK: Offence.LIED,
    SyncOffence.NOT_THERE: Offence.UNRELIABLE,
    SyncOffence.TOO_SLOW: Offence.UNRELIABLE,
}
"""For p2p.reputation. What verifies nowhere is a lie; what may be lost or late on any network costs little."""

Report = Callable[[PeerId, SyncOffence, str], None]
"""(who, what, facts)."""
