"""Who was turned away lately and why, for operators who ask why a peer is missing."""

from typing import Final

from astralink_node.clock import NowMs
from astralink_node.gateway.link_messages import RefusedPeer
from p2p.addresses import peer_id_text
from p2p.peer_id import PeerId

MAX_REFUSED: Final = 16
"""Remembered; the one longest ago makes room."""
REFUSED_FOR_MS: Final = 3_600_000
"""How long a refusal is worth showing."""


class RefusedPeers:
    """Who was turned away lately, each with the newest reason."""

    def __init__(self, now_ms: NowMs) -> None:
        self._now_ms = now_ms
        self._peers: dict[PeerId, RefusedPeer] = {}

    def note(self, peer: PeerId, reason: str) -> None:
        self._peers.pop(peer, None)
        if len(self._peers) >= MAX_REFUSED:
            del self._peers[next(iter(self._peers))]
        self._peers[peer] = RefusedPeer(peer_id_text(peer), reason, self._now_ms())

    def newest(self) -> tuple[RefusedPeer, ...]:
        """The oldest first."""
        since_ms = self._now_ms() - REFUSED_FOR_MS
        return tuple(refused for refused in self._peers.values() if refused.at_ms >= since_ms)
