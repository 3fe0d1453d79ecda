"""What carries bytes between nodes: the protocol that the node's services rely on, whatever is under it.

Delivery is best effort, as on any network: messages may be lost, doubled and reordered, and nobody waits for a slow
peer. Whoever needs more repeats itself. What the bytes mean is no business of this package.
"""

from dataclasses import dataclass
from typing import NewType, Protocol

PeerId = NewType("PeerId", bytes)


@dataclass(frozen=True, slots=True)
class Received:
    peer: PeerId
    """Who sent it, authenticated by the transport."""
    data: bytes


class Transport(Protocol):
    def broadcast(self, data: bytes) -> None:
        """To every peer. Returns at once; what a peer's full queue cannot take is lost."""

    def send(self, peer: PeerId, data: bytes) -> None:
        """To one peer, likewise; nothing happens where there is no such peer (any more)."""

    async def receive(self) -> Received:
        """The next message."""

    def receive_waiting(self, limit: int) -> list[Received]:
        """What has arrived already, at most `limit` messages, without waiting."""
