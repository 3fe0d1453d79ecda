"""What goes into the gossip router and what comes out of it, as values."""

from dataclasses import dataclass
from enum import Enum, StrEnum
from hashlib import sha256
from typing import Final

from p2p.gossip_wire import Rpc
from p2p.peer_id import PeerId

MESSAGE_ID_BYTES: Final = 20


class GossipVersion(Enum):
    """Protocol ids of the streams, the preferred one first."""

    V1_2 = "/meshsub/1.2.0"
    V1_1 = "/meshsub/1.1.0"


class Verdict(Enum):
    ACCEPT = "accept"
    """It goes on to others."""
    IGNORE = "ignore"
    """It goes nowhere, and nobody is to blame."""
    REJECT = "reject"
    """It goes nowhere, and whoever sent it should have known."""


class GossipOffence(StrEnum):
    INVALID_MESSAGE = "sent a message that was rejected"
    AUTHORED_MESSAGE = "sent a message with an author or a signature"
    OVERSIZED_MESSAGE = "sent an oversized message"
    UNWANTED_TOPIC = "sent a message of a topic that was not subscribed"
    """Also happens to the innocent, just after a topic was left."""
    BROKEN_PROMISE = "did not send a message that it said it has"
    GRAFT_IN_BACKOFF = "grafted before its backoff was over"
    IHAVE_FLOOD = "sent too many IHAVE"
    IWANT_FLOOD = "asked for the same message too often"
    TOPIC_FLOOD = "subscribed to too many topics"
    MESSAGE_FLOOD = "sent more than a peer may, for long"
    NOT_READING = "did not read what it was sent"


@dataclass(frozen=True, slots=True)
class Send:
    peer: PeerId
    rpc: Rpc


@dataclass(frozen=True, slots=True)
class Deliver:
    """For the application, which owes `verdict` for it."""

    peer: PeerId
    """The first that sent it."""
    topic: str
    data: bytes
    message_id: bytes


@dataclass(frozen=True, slots=True)
class Penalise:
    peer: PeerId
    offence: GossipOffence


Output = Send | Deliver | Penalise


def message_id_of(topic: str, data: bytes) -> bytes:
    return sha256(topic.encode() + data).digest()[:MESSAGE_ID_BYTES]
