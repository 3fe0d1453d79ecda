"""Who was turned away lately and why, for operators who ask why a peer is missing."""

from collections.abc import Callable
from typing import Final

from astralink_node.clock import NowMs
from astralink_node.gateway.link_messages import RefusedPeer
from p2p.addresses import peer_id_text
from p2p.peer_id import PeerId

MAX_REFUSED: Final = 16
"""Remembered; the stranger longest ago makes room, and only then one that was sought."""
REFUSED_FOR_MS: Final = 600_000
"""How long a refusal is worth showing: bootnodes are dialled, and refused again, all the while."""


class RefusedPeers:
    """Who was turned away lately, each with the newest reason. `was_sought`: whether this node wanted to connect."""

    def __init__(self, now_ms: NowMs, was_sought: Callable[[PeerId], bool]) -> None:
        self._now_ms = now_ms
        self._was_sought = was_sought
        self._peers: dict[PeerId, RefusedPeer] = {}

    def note(self, peer: PeerId, reason: str) -> None:
        self._peers.pop(peer, None)
        if len(self._peers) >= MAX_REFUSED:
            strangers = (known for known, refused in self._peers.items() if not refused.was_sought)
            del self._peers[next(strangers, next(iter(self._peers)))]
        self._peers[peer] = RefusedPeer(peer_id_text(peer), reason, self._now_ms(), self._was_sought(peer))

    def newest(self) -> tuple[RefusedPeer, ...]:
        """The oldest first."""
        since_ms = self._now_ms() - REFUSED_FOR_MS
        return tuple(refused for refused in self._peers.values() if refused.at_ms >= since_ms)
